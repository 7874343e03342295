# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt
# Three files at a time, each with servers of its own: much of what they do is waiting. In the order of tests/conftest.py,
# so that the long ones do not come last.
PYTEST := $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

# Every process of the tests would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test lint levels unit integration acceptance fault soak bench audit clean

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
	@echo "reading the types of the libraries and compiling the tests, once for all runs" >&2
	@$(BIN)/mypy >/dev/null || true
	@$(BIN)/pytest --collect-only -q >/dev/null || true
	@touch $@

demo: $(VENV)/demo-installed ## Install, then run the main job on embedded servers with clips made on the spot
	@$(BIN)/python -m demo

test: $(VENV)/test-installed ## Install, then run every check
	@$(MAKE) --no-print-directory -j2 lint levels

levels: $(VENV)/test-installed
	$(PYTEST) tests/acceptance tests/fault tests/integration tests/unit

lint: $(VENV)/test-installed ## Style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit integration acceptance fault: $(VENV)/test-installed
	$(PYTEST) tests/$@

# make soak SEED=7 MINUTES=30
SEED ?= 1
MINUTES ?= 5
soak: $(VENV)/test-installed ## Thousands of hostile videos, every strike, a fleet struck at random (SEED=1 MINUTES=5)
	$(BIN)/pytest tests/soak
	$(BIN)/python -m tests.soak.nemesis --seed $(SEED) --minutes $(MINUTES)

bench: $(VENV)/test-installed ## Measure; tables go to bench/RESULTS.md
	@for script in ledger sampling bytes isolation engine pipeline; do $(BIN)/python -m bench.$$script || exit 1; done

audit: ## Ask the advisory index about every pinned package
	@PYTHON=$(PYTHON) .ci/audit

clean: ## Remove the demonstration's data, and what was installed and cached
	@test ! -e $(VENV)/demo-installed || $(BIN)/python -m demo --remove
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
