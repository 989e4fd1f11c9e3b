# Every target works on a fresh machine with python3 (3.10 to 3.13), python3-venv and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup demo test lint bench clean

setup: $(VENV)/.done

$(VENV)/.done: requirements.txt requirements-dev.txt constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found: install Python 3.10 to 3.13"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "error: expected Python 3.10 to 3.13, found $$($(PYTHON) -V): set PYTHON=python3.x"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "error: the venv module is missing: install python3-venv (Debian, Ubuntu)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --progress-bar off -r requirements-dev.txt -c constraints.txt
	touch $@

demo: setup
	$(BIN)/python -m tools.demo

test: setup
	$(BIN)/python -m pytest -n 2

# About half an hour on two cores; each appends a row to results/NAME.csv.
bench: setup
	for name in search_step data_path evaluation growth full_search; do \
		echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit $$?; done

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
