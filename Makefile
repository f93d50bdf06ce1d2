# Everything runs in .venv, which the first target to need it creates.
# Usage: make [demo|test|lint|test-jax|test-slow|fuzz|mutants|format|docs|clean]

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# PyTorch's CPU build is pinned: another version may bring gigabytes of CUDA libraries along.
TORCH ?= torch==2.13.0
# Two workers suit two cores; PYTEST_FLAGS= runs everything in one process.
PYTEST_FLAGS ?= -n 2 --dist worksteal
# What a commit does not wait for; `make test-slow` runs what this leaves out.
MARKERS ?= not slow and not gpu

BIN := .venv/bin
BACKENDS := tensorflow jax torch

export MPLBACKEND ?= Agg
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo test lint $(BACKENDS:%=test-%) test-slow fuzz mutants format docs clean

demo: .venv/demo.stamp
	$(BIN)/python recipes/demo.py

test: lint $(BACKENDS:%=test-%) docs

lint: .venv/all.stamp
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

$(BACKENDS:%=test-%): test-%: .venv/all.stamp
	KERAS_BACKEND=$* $(BIN)/python -m pytest $(PYTEST_FLAGS) -m "$(MARKERS)"

test-slow: .venv/all.stamp
	$(MAKE) $(BACKENDS:%=test-%) MARKERS="slow and not gpu"

fuzz: .venv/all.stamp
	KERAS_BACKEND=torch $(BIN)/python -m tests.fuzz --cases 20000

mutants: .venv/all.stamp
	KERAS_BACKEND=torch $(BIN)/python -m tests.mutants

format: .venv/all.stamp
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: .venv/all.stamp
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv site demo_output .import_linter_cache .jax_cache .mypy_cache .pytest_cache .ruff_cache

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("keras_mlff needs Python 3.11 or newer; name one with PYTHON=")'
	$(PYTHON) -m venv .venv

# The demo needs one framework only, so that it starts soon.
.venv/demo.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --editable ".[tensorflow,md,plots]"
	touch $@

.venv/all.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install "$(TORCH)" --editable ".[all,docs,test]"
	touch $@
