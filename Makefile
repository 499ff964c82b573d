# `make forecast` and `make test` are all a newcomer needs; `make help` lists the rest.
SHELL := /bin/sh
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
PYTHON ?= $(shell ./scripts/find-python)
BIN := $(VENV)/bin
# Asked of the environment itself once it exists, so that repeated calls stay quick.
MINOR = $(shell $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -c \
	'import sys; print("3%d" % sys.version_info[1])')
CONSTRAINTS = constraints/py$(MINOR).txt
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
# A path rather than an import hook: so Python started in the folder that holds a clone
# named weatherlib imports the package and not that folder.
EDITABLE = --config-settings editable_mode=compat --editable
WORKERS ?= 2
# A file stays with one worker, which makes what its tests share once.
SPREAD = -n $(WORKERS) --dist loadfile

.PHONY: help forecast test test-all test-fast test-matrix test-published lint types \
	layers docs bench format constraints clean

help: ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | \
		awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(BIN)/python:
	@test -n "$(PYTHON)" || exit 1
	@echo "Creating $(VENV) with $(PYTHON)"
	@"$(PYTHON)" -m venv $(VENV)

# One stamp per set of packages: nothing is installed again until a list changes.
$(VENV)/.installed-core: setup.py constraints/*.txt | $(BIN)/python
	@echo "Installing weatherlib (about 700 MB, a minute or two)"
	@$(PIP) --constraint $(CONSTRAINTS) $(EDITABLE) .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-core
	@echo "Installing the test tools"
	@$(PIP) --constraint $(CONSTRAINTS) $(EDITABLE) '.[dev,sim,grib,train,cluster,cloud]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed-dev
	@$(PIP) --constraint $(CONSTRAINTS) $(EDITABLE) '.[docs]'
	@touch $@

forecast: $(VENV)/.installed-core ## Make a ten-day forecast with the bundled model.
	@$(BIN)/python examples/inference.py $(ARGS)

test: $(VENV)/.installed-dev ## Run the tests (under 20 minutes on 2 cores).
	@$(BIN)/python -m pytest $(SPREAD) -m "not slow" $(ARGS)

test-fast: $(VENV)/.installed-dev ## Stop at the first failure, last failures first.
	@$(BIN)/python -m pytest $(SPREAD) -m "not slow" -x --ff $(ARGS)

test-all: $(VENV)/.installed-dev ## Run the slow tests too.
	@$(BIN)/python -m pytest $(SPREAD) $(ARGS)

test-matrix: ## Run the tests on every Python found, with old and new jax and xarray.
	@./scripts/test-matrix $(ARGS)

test-published: $(VENV)/.installed-dev ## Run the published package's tests: REF=DIR.
	@test -n "$(REF)" || { echo "usage: make test-published REF=DIR" >&2; exit 2; }
	@$(BIN)/python scripts/test_published.py "$(REF)"

lint: $(VENV)/.installed-dev ## Check format and style.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

format: $(VENV)/.installed-dev ## Format, and fix what can be fixed.
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(VENV)/.installed-dev ## Check types.
	@$(BIN)/pyright --pythonpath $(BIN)/python

layers: $(VENV)/.installed-dev ## Check that imports point inward only.
	@$(BIN)/lint-imports

docs: $(VENV)/.installed-docs ## Build the site into site/ and execute its notebooks.
	@$(BIN)/python -m mkdocs build --strict

bench: $(VENV)/.installed-dev ## Run the quick benchmarks.
	@$(BIN)/python -m benchmarks $(ARGS)

constraints: ## Resolve the newest packages anew for each Python found.
	@./scripts/freeze-constraints

clean: ## Remove what make has built.
	@rm -rf $(VENV) build site .pytest_cache .ruff_cache
