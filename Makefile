# `make` alone tells what there is. Loops and logic are in scripts/.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test beside unit lint sanity molecule vm integration bench release deps clean run-venv pytest-venv test-venv

# Every target works in the virtual environment that it first makes, if it is not there.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONDONTWRITEBYTECODE := 1
# Plain lines also where there is no terminal.
export MOLECULE_COMMAND_BORDERS := false
export MOLECULE_EPHEMERAL_DIRECTORY := $(CURDIR)/.build/molecule

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: run-venv ## Capture a container's traffic on this machine, and show the file
	scripts/demo

# The emulated machine is slow: it runs beside all that is not timed.
test: unit lint ## All tests, the cheap ones first
	$(MAKE) --no-print-directory --jobs=2 --output-sync=line beside vm
	$(MAKE) --no-print-directory molecule
	.venv/bin/pytest tests/integration -m alone

beside: sanity
	.venv/bin/pytest tests/integration -m 'not alone'

unit: pytest-venv deps ## Pure logic, on the newest and the oldest Python
	.venv/bin/pytest tests/unit
	[ ! -d .venv-oldest ] || .venv-oldest/bin/pytest tests/unit

lint: test-venv ## Style, documentation, types, changelog, Galaxy's importer
	scripts/lint.sh $(ONLY)

sanity: test-venv ## ansible-test sanity, all tests, on the newest and the oldest Python
	python scripts/sanity.py

molecule: test-venv deps ## The roles on a real Docker engine
	python tests/engine.py run molecule test --scenario-name docker

vm: test-venv deps ## The roles in a virtual machine, over real ssh
	molecule test --scenario-name vm

integration: pytest-venv deps ## The real kernel, a real Docker engine, real ssh
	.venv/bin/pytest tests/integration

bench: run-venv deps ## The ratios of bench/README.md, both sides in one run
	bench/run

release: test-venv ## Publish the version of the tag TAG to Galaxy
	python scripts/release.py $(TAG)

deps: ## Install the system's packages that the tests need
	scripts/deps.sh

clean: ## Remove what the targets made here
	rm -rf .ansible .build .mypy_cache .pytest_cache .venv .venv-oldest collections/ansible_collections tests/output

run-venv:
	@scripts/venv.sh newest run
pytest-venv:
	@scripts/venv.sh newest pytest
	@scripts/venv.sh oldest pytest
test-venv: pytest-venv
	@scripts/venv.sh newest test
