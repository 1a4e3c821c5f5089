# `make` lists the targets. `make demo` and `make test` do all their own set-up, once, in .venv.
.DEFAULT_GOAL := help
.PHONY: help demo test check clean

# The first Python that is new enough; another one: make PYTHON=/path/to/python demo
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,\
	$(shell $(p) -c 'import sys; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null)))
PIP := .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' Makefile

demo: .venv/ready ## train and compare small speech LLMs, with a report at the end; FULL=1 for the whole table
	egs/mini/demo.sh $(if $(FULL),--full true)

test: .venv/plugins ## everything that CI checks: lint, types, shell scripts, all tests
	tools/check.sh

check: .venv/ready ## the same without the tests
	tools/check.sh --no-tests

clean: ## remove .venv and caches; never data or experiments
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info plugins/*/*.egg-info
	find toolkit tests plugins tools egs -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11 or newer; name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "Setting up .venv with $(PYTHON), once. 1/2: torch (a minute for a CPU build, longer for a CUDA one)"
	@$(PYTHON) -m venv .venv
	@$(PIP) setuptools torch==2.13.0
	@echo "2/2: the toolkit and what it needs (one to three minutes)"
	@$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@

.venv/plugins: .venv/ready plugins/*/pyproject.toml
	@echo "Installing the example plugins (seconds)"
	@$(PIP) --no-deps --no-build-isolation $(patsubst %/pyproject.toml,--editable %,$(wildcard plugins/*/pyproject.toml))
	@touch $@
