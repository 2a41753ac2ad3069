# Two commands: `make simulate` runs the main job from a fresh clone, `make test` passes everything.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OVERRIDES ?=

.PHONY: help setup simulate test test-faults test-cluster lint format clean

help:
	@echo "make setup      install everything into $(VENV)"
	@echo "make simulate   run the main job; OVERRIDES='generator=sglora' changes it"
	@echo "make test       lint, types and all tests"
	@echo "make test-faults  kill, cut and fill up a server and its nodes; takes some minutes"
	@echo "make test-cluster  a small simulation on two Ray nodes of this machine"
	@echo "make format     rewrite the code in the project's style"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "installing into $(VENV): a minute or two, and no word until it is done"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed \
		-c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[offline,hub,dev]'
	@touch $(STAMP)

simulate: setup
	$(BIN)/sglora-fed simulate $(OVERRIDES)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-faults: setup
	$(BIN)/python benchmarks/faults.py

test-cluster: setup
	$(BIN)/python benchmarks/cluster.py

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=10

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
