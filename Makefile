# `make` alone tells what there is. Loops and logic are in scripts/.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test unit lint sanity molecule node distributions vm integration measured bench release deps clean ready run-venv pytest-venv test-venv

# Every target works in the virtual environment that it first makes, if it is not there.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONDONTWRITEBYTECODE := 1
# Plain lines also where there is no terminal.
export MOLECULE_COMMAND_BORDERS := false

# Each worker of pytest has a machine of its own: network, processes, users, state.
WORKER := popen//python=$(CURDIR)/.venv/bin/python $(CURDIR)/tests/support/own_machine.py
# A scenario has its files for itself: others run beside it.
molecule node distributions vm: export MOLECULE_EPHEMERAL_DIRECTORY = $(CURDIR)/.build/molecule-$@

help: ## Show this list; the times are those of two cores
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: run-venv ## Capture a container's traffic on this machine, and show the file (20 s)
	scripts/demo

test: ready ## All tests; what fails is told at the end (19 min, 25 the first time)
	python scripts/tiers.py

unit: pytest-venv deps ## Pure logic, on the newest and the oldest Python (1 min)
	$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target unit-newest unit-oldest

unit-newest:
	.venv/bin/pytest tests/unit
unit-oldest:
	[ ! -d .venv-oldest ] || .venv-oldest/bin/pytest tests/unit

lint: test-venv ## Style, documentation, types, changelog, Galaxy's importer (1 min)
	scripts/lint.sh $(ONLY)

sanity: test-venv ## ansible-test sanity, on the newest and the oldest Python (2 min)
	python scripts/sanity.py

molecule: test-venv deps ## The roles on a real Docker engine (1 min)
	python tests/support/own_machine.py tests/support/engine.py run molecule test --scenario-name docker

node: test-venv deps ## The roles on a Debian 12 with systemd, over real ssh (2 min)
	molecule test --scenario-name node

distributions: test-venv deps ## The modules on Debian 11 and 13, over real ssh (2 min)
	molecule test --scenario-name distributions

vm: test-venv deps ## Other kernels, in a virtual machine (5 min)
	molecule test --scenario-name vm

integration: pytest-venv deps ## The real kernel, a real Docker engine, real ssh, in two workers (16 min)
	.venv/bin/pytest tests/integration -m 'not alone' --dist worksteal --tx '2*$(WORKER)' --durations=20 --durations-min=10

measured: pytest-venv deps ## The tests that measure gaps and delays: nothing else may run beside them (3 min)
	.venv/bin/pytest tests/integration -m alone --dist worksteal --tx '$(WORKER)'

bench: run-venv deps ## The ratios of bench/README.md, both sides in one run
	bench/run

release: test-venv ## Publish the version of the tag TAG to Galaxy
	python scripts/release.py $(TAG)

deps: ## Install the system's packages that the tests need
	scripts/deps.sh

clean: ## Remove what the targets made here
	rm -rf .ansible .build .mypy_cache .pytest_cache .ruff_cache .venv .venv-oldest collections/ansible_collections tests/output

# What all tiers need, before they run side by side.
ready:
	@$(MAKE) --no-print-directory --jobs=3 deps newest-test oldest-pytest

run-venv: newest-run
pytest-venv: newest-pytest oldest-pytest
test-venv: newest-test oldest-pytest
newest-%: ; @scripts/venv.sh newest $*
oldest-%: ; @scripts/venv.sh oldest $*
