# Everything starts here, on a machine that has python3 (3.11+), make and a package index.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# stages call `python`; it must be this environment's
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := 1
# every stage is a process of its own: compiled imports save it seconds
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup repro test ui bench lint lock clean

help:  ## show these commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

setup: $(READY)  ## make .venv with the exact versions of requirements.lock

$(READY): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "affectloom needs Python 3.11 or newer; set PYTHON=/path/to/it")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install -q --disable-pip-version-check uv
	$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -e .
	@touch $(READY)

repro: $(READY)  ## run whatever is stale, from raw media to the leaderboard
	@$(BIN)/affectloom run

test: $(READY)  ## run the fast tests
	@$(BIN)/python -m pytest -n 2 --dist worksteal

ui: $(READY)  ## start the Prefect server and UI; runs show up there
	@$(BIN)/affectloom ui

BENCH ?= store encoders image_loader training labels media metrics_crosscheck report sample_signal
bench: $(READY)  ## run benchmarks that need nothing else (BENCH="store media"); each prints its figures
	@set -e; for name in $(BENCH); do echo "== $$name"; $(BIN)/python -m benchmarks.$$name; done

lint: $(READY)  ## formatting, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

lock:  ## resolve the locks anew for every platform, with hashes and no index address
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --generate-hashes --no-annotate --no-header --upgrade -q -o requirements.lock
	printf 'distributed>=2026.1\nray>=2.50\n' | $(BIN)/uv pip compile - --python-version 3.11 --constraint requirements.lock --universal --generate-hashes --no-annotate --no-header --upgrade -q -o requirements-cluster.lock
	printf 'onnxruntime>=1.24\nonnxscript>=0.6\nonnx-ir>=0.1.12\n' | $(BIN)/uv pip compile - --python-version 3.11 --constraint requirements.lock --universal --generate-hashes --no-annotate --no-header --upgrade -q -o requirements-onnx.lock

clean:  ## remove the environment, caches and everything the pipeline made; corpora in data/raw stay
	rm -rf .venv .cache .prefect .pytest_cache .ruff_cache .hypothesis .dvc/cache .dvc/tmp
	find data -mindepth 1 -maxdepth 1 ! -name raw ! -name README.md -exec rm -rf {} +
	rm -rf data/raw/sample
