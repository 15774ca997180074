# `make run` and `make test` set up all they need on a machine that has Python (3.11 or newer) and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= auto

# Without bytecode every start of Portway, of which the tests make hundreds, would compile its source again: 1 s. Pods of
# the miniature cluster run as somebody who may not write it here.
unexport PYTHONDONTWRITEBYTECODE

CHANNEL ?= standard
CHANNELS ?= standard experimental

.PHONY: help run cluster check test bench bench-cluster conformance docs manifests lint typings lock clean

help:
	@echo "make run     start Portway and Envoy on examples/quickstart, with demo backends"
	@echo "make cluster start a Kubernetes cluster to play with, without containers (docs/miniature-cluster.md); needs root"
	@echo "make check   format, lint, types, import contract, unit tests: quick enough to run all day"
	@echo "make test    everything that tests, with a real Envoy"
	@echo "make bench   the figures of docs/benchmarks.md"
	@echo "make bench-cluster   the same in a Kubernetes cluster; needs root"
	@echo "make conformance   the Gateway API's conformance suite, on both channels (docs/conformance.md); needs root"

$(VENV)/installed: requirements-dev.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q src
	touch $@

typings: $(VENV)/installed
	@$(BIN)/python tools/make_typings.py

lint: $(VENV)/installed typings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint
	$(BIN)/pytest -n $(WORKERS) -m "not e2e and not slow and not cluster"

run: $(VENV)/installed
	@$(BIN)/python examples/run_quickstart.py

cluster: $(VENV)/installed
	@$(BIN)/python -m tests.cluster --channel $(CHANNEL)

test: lint
	$(BIN)/pytest -n $(WORKERS)

# One after the other, on a machine that does nothing else: an hour or two, most of it zero loss.
bench: $(VENV)/installed
	PYTHON=$(abspath $(BIN)/python) bench/setup.sh
	$(BIN)/python -m bench.change --large
	$(BIN)/python -m bench.cold_start
	$(BIN)/python -m bench.memory --large
	$(BIN)/python -m bench.data_path
	$(BIN)/python -m bench.zero_loss

# As `bench`: an hour and a half.
bench-cluster: $(VENV)/installed
	PYTHON=$(abspath $(BIN)/python) bench/setup.sh
	$(BIN)/python -m bench.cluster.routes --beside
	$(BIN)/python -m bench.cluster.churn --beside
	$(BIN)/python -m bench.cluster.changes --beside
	$(BIN)/python -m bench.cluster.bulk --beside
	$(BIN)/python -m bench.cluster.bulk --routes 5000 20000 --endpoints 4
	$(BIN)/python -m bench.cluster.attached --beside
	$(BIN)/python -m bench.cluster.throughput --beside
	$(BIN)/python -m bench.cluster.faults

# The second channel runs also when the first one failed.
conformance: $(VENV)/installed
	failed=0; for channel in $(CHANNELS); do \
	  $(BIN)/python -m tests.cluster.conformance --channel $$channel || failed=1; done; exit $$failed

docs: $(VENV)/installed
	for page in settings defaults annotation rbac; do PYTHONPATH=. $(BIN)/python tools/make_$${page}_docs.py; done

# What of deploy/ follows from code.
manifests: $(VENV)/installed
	PYTHONPATH=. $(BIN)/python tools/make_manifests.py

lock:
	tools/lock.sh

clean:
	rm -rf $(VENV) typings dist .portway
