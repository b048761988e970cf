# Nothing to set up: each target makes .venv and installs Étude into it when needed.

# The newest Python in range that runs and can make a virtual environment.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	>/dev/null 2>&1 && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: quickstart test slow lint clean print-python

quickstart: $(STAMP)
	$(BIN)/python -m etude fit --data=fashion_mnist --model=resnet9 --width=8 \
		--time_budget=75s --baseline

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m "not slow"

slow: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m slow

lint: $(STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy platform metalearners tests examples benchmarks tools

$(STAMP): setup.py pyproject.toml
	@test -n "$(PYTHON)" || { echo "Étude needs Python 3.11, 3.12 or 3.13 with venv and pip." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

# For .ci/run, so that the choice of a Python stands in one place.
print-python:
	@echo $(PYTHON)

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
