# Every target does the set-up that it needs, once. `make help` lists them.

VENV := .venv

# Debian keeps nft, ip and dnsmasq out of an ordinary user's PATH.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

# Set in many containers: then each worker of each run compiles all test modules, and each process what has changed.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test quick mutants e2e churn specs lint bench lock clean run-env dev-env

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' Makefile

demo: run-env ## see sticky connections between two clusters on this machine; KEEP=1 leaves them up
	@$(VENV)/bin/moorage demo $(if $(filter-out 0,$(KEEP)),--keep)

# One worker for each core, and some more for tests that wait (tests/conftest.py). Each takes its share in the order of
# the modules, so that fixtures of a module are made once, and who is done early takes over from the others: a few tests
# take seconds, thousands take none.
PARALLEL := --numprocesses auto --dist worksteal
test: lint ## check the code and run all tests
	$(VENV)/bin/pytest $(PARALLEL)

quick: dev-env ## run the tests of what does no I/O, in half a minute
	$(VENV)/bin/pytest --pure $(PARALLEL)

mutants: dev-env ## change the code a little, and count which changes tests notice; hours; PACKAGES="core node" SAMPLE=30
	@$(VENV)/bin/python -m mutation $(PACKAGES) $(if $(SAMPLE),--sample $(SAMPLE))

# With targets of their own: one takes minutes more, the other asks for a machine of its own.
APART := churn upstream_specs
# In two processes: those that need whole clusters, and all others. Most of both is waiting for Kubernetes.
e2e: dev-env ## run the end-to-end tests on two real clusters; needs root, once a while to build them (e2e/README.md)
	@scripts/packages e2e
	@$(VENV)/bin/python -m e2e.harness prepare
	$(VENV)/bin/pytest e2e $(APART:%=--ignore e2e/test_%.py) --numprocesses 2 --dist loadgroup

# Beside another process on two cores, agents may be later than the checker of histories allows.
churn: dev-env ## let everything fail on such clusters for 75 seconds, and judge what clients met; needs root
	@scripts/packages e2e
	$(VENV)/bin/pytest e2e/test_churn.py

specs: dev-env ## run Kubernetes' own specs of session affinity on such clusters; needs root, 8 minutes and more to build
	@scripts/packages e2e
	$(VENV)/bin/pytest e2e/test_upstream_specs.py

lint: dev-env ## check format, style, types and which package imports which
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

BENCH := client server peak
build/bench/%: bench/%.c bench/address.h
	@mkdir -p $(@D)
	$(CC) -O2 -Wall -Wextra -o $@ $<

bench: dev-env ## measure speed and size; installs gcc and haproxy; QUICK=1 is short, MARKDOWN=1 for a README
	@scripts/packages bench
	@$(MAKE) --no-print-directory --silent $(BENCH:%=build/bench/%)
	@$(VENV)/bin/python -m bench $(if $(filter-out 0,$(QUICK)),--quick) $(if $(filter-out 0,$(MARKDOWN)),--markdown)

COMPILE := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header
lock: dev-env ## write the locks anew from both pyproject.toml; UPGRADE=1 takes the newest versions
	$(COMPILE) $(if $(filter-out 0,$(UPGRADE)),--upgrade) --extra dev --no-emit-package moorage \
		--output-file requirements.lock pyproject.toml lab/pyproject.toml
	echo hatchling | $(COMPILE) --constraint requirements.lock --no-emit-package moorage \
		--output-file lab/run.lock pyproject.toml lab/pyproject.toml -
	$(COMPILE) --constraint requirements.lock --output-file deploy/image/run.lock pyproject.toml
	echo hatchling | $(COMPILE) --constraint requirements.lock --output-file deploy/image/build.lock -

clean: ## remove what make made
	rm -rf $(VENV) build dist lab/dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src lab tests testing mutation bench e2e -name __pycache__ -type d -prune -exec rm -rf {} +

# scripts/setup finds by itself that there is nothing to do.
run-env:
	@scripts/setup

dev-env:
	@scripts/setup dev
