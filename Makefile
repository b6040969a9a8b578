# Everything lives in .venv; PYTHON chooses the interpreter that makes it: make setup PYTHON=python3.13
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

# Where the environment asks for no compiled modules, each process of the tests would compile squall, and pytest rewrite
# every test, anew, which takes seconds.
unexport PYTHONDONTWRITEBYTECODE

# Tests wait for servers, timers and disks half of the time: one process more than there are cores keeps them busy.
CORES = $$(nproc 2>/dev/null || echo 1)
WORKERS = $$(($(CORES) + 1))

.DEFAULT_GOAL := help
.PHONY: help setup services run dashboard test check lint bench hooks docs pictures protos lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv and install squall with all it needs, as locked

services: $(STAMP) ## install Redis, Neo4j and Toxiproxy, which tests run against, where no containers bring them
	@services/install .venv/services
	@$(BIN)/squall doctor redis neo4j toxiproxy

run: $(STAMP) ## run scenarios/first-storm.yaml: load, faults, a verdict and a report
	$(BIN)/squall run scenarios/first-storm.yaml

dashboard: $(STAMP) ## look at runs in a browser; RUNS=DIR if not runs/, PORT=8600 if 8501 is taken, SPANS=DIR of a service
	$(BIN)/squall dashboard $(if $(RUNS),--runs $(RUNS)) $(if $(PORT),--port $(PORT)) $(if $(SPANS),--spans $(SPANS))

test: lint ## everything: style, types, import directions, all tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations 15 -m "not alone and not own_core"
	$(BIN)/python -m pytest -n $(CORES) --dist worksteal --durations 15 -m own_core
	$(BIN)/python -m pytest --durations 15 -m alone

check: lint ## the fast loop: style, types, import directions, all tests but the slow ones
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "not slow"

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) ## measure squall against its limits and its peers (add WRITE=1 to put the table into the docs)
	$(BIN)/python -m tests.benchmarks $(if $(WRITE),--write)

hooks: $(STAMP) ## write docs/hooks.md anew from core/hookspecs.py
	PYTHONPATH=. $(BIN)/python tests/docs/hook_reference.py

docs: hooks ## write the generated tables of docs/ anew, the hooks too
	PYTHONPATH=. $(BIN)/python -m tests.docs.reference

pictures: $(STAMP) ## take the pictures of docs/pictures/ anew, of real runs in chromium; RATE=3000 on a slow machine
	PYTHONPATH=. RATE=$(RATE) $(BIN)/python -m tests.docs.pictures

protos: $(STAMP) ## write protos/*_pb2.py anew from protos/*.proto
	$(BIN)/python -m grpc_tools.protoc -I src --python_out=src --pyi_out=src src/squall/protos/*.proto

lock: $(STAMP) ## write requirements.lock anew from pyproject.toml (add UPGRADE=1 for the newest versions)
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --no-emit-index-url $(if $(UPGRADE),--upgrade) --quiet --output-file requirements.lock

clean: ## remove what the targets above made, .venv and the runs too
	rm -rf .venv build dist runs src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The lock has no host names: pip asks the index that it is configured for, and the hashes say what may come from it.
# Building squall itself needs nothing more (--no-build-isolation: setuptools is in the lock). Compiling on all cores
# afterwards is quicker than pip's own way.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "squall needs Python 3.11 or later, $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make setup PYTHON=python3.13"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make a virtual environment with pip in it. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Setting up .venv: once, for a minute or two."
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes --requirement requirements.lock
	$(BIN)/python -m compileall -q -j 0 .venv/lib
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@
