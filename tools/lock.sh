#!/bin/sh
# Writes the lock files: versions and hashes for every platform and Python that we support, without any registry's address.
set -eu
cd "$(dirname "$0")/.."
compile="${UV:-.venv/bin/uv} pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate"
$compile pyproject.toml -o requirements.lock
$compile pyproject.toml --group dev -o requirements-dev.lock
# What makes the wheel (pyproject.toml, [build-system]), for the image: the same versions as for developers.
echo "hatchling" | $compile --constraint requirements-dev.lock - -o requirements-build.lock
