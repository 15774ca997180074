# One image for both roles, `portway run` and `portway proxy`, for amd64 and arm64:
#   docker buildx build --platform linux/amd64,linux/arm64 --tag REGISTRY/portway:0.1.0 --push .
# Every package is a wheel whose hash is in a lock file; nothing is compiled, so building needs no compiler.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /build
COPY requirements-build.lock requirements.lock ./
RUN pip install --no-cache-dir --only-binary=:all: --require-hashes -r requirements-build.lock
# An environment of its own, without pip. Bytecode is written now: the file system of a pod is read-only, and a start
# that compiles everything takes a second more.
RUN python -m venv --without-pip /opt/portway
RUN pip --python /opt/portway/bin/python install --no-cache-dir --compile --only-binary=:all: --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-cache-dir --no-deps --no-index --no-build-isolation --wheel-dir dist .
RUN pip --python /opt/portway/bin/python install --no-cache-dir --compile --no-deps --no-index dist/*.whl

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="portway" \
      org.opencontainers.image.description="Kubernetes ingress controller, Gateway API implementation and API gateway" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/portway /opt/portway
ENV PATH=/opt/portway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Nobody's, as in distroless images. All that is written goes to PORTWAY_STATE_DIR.
USER 65532:65532
ENTRYPOINT ["portway"]
