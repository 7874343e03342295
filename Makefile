# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint unit integration acceptance fault soak bench audit clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20

$(VENV)/demo-installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "reelvec needs Python 3.11 or newer: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing reelvec into $(VENV) (torch is the large part)" >&2
	$(PIP) -e '.[all]'
	@touch $@

$(VENV)/test-installed: $(VENV)/demo-installed
	@echo "installing the test tools into $(VENV)" >&2
	$(PIP) -e '.[all,test]'
	@touch $@

demo: $(VENV)/demo-installed ## Install, then run the main job on embedded servers with clips made on the spot
	@$(BIN)/python -m demo

test: $(VENV)/test-installed ## Install, then run every check
	@$(MAKE) --no-print-directory lint unit integration acceptance fault

lint: $(VENV)/test-installed ## Style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fault: $(VENV)/test-installed
	$(BIN)/pytest tests/$@

# two at a time where tests do not depend on the machine being calm
unit integration acceptance: $(VENV)/test-installed
	$(BIN)/pytest -n 2 tests/$@

soak: $(VENV)/test-installed ## Put the sampler through thousands of damaged and hostile videos (minutes)
	$(BIN)/pytest tests/soak

bench: $(VENV)/test-installed ## Measure; tables go to bench/RESULTS.md
	@for script in ledger sampling bytes isolation engine pipeline; do $(BIN)/python -m bench.$$script || exit 1; done

audit: ## Ask the advisory index about every pinned package
	@PYTHON=$(PYTHON) .ci/audit

clean: ## Remove what was installed and cached
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
