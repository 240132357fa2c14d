# make demo        on a fresh machine: environment, spoken corpus, training, error rates, pictures
# make test        the whole of pytest, doctests included
# make lint        ruff and mypy
# make bench-cpu   speed, accuracy, memory and start-up next to PyTorch and optax; writes benchmarks/results and figures
# make clean       remove what the above made, but for results

PYTHON ?= python3
VENV ?= .venv
BIN := $(abspath $(VENV))/bin

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench-cpu clean

help:
	@sed -n 's/^# \(make\)/\1/p' Makefile

# Each stamp is an installation that is up to date with pyproject.toml: a second run installs nothing.
$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install -e '.[recipe]'
	touch $@

$(VENV)/.test: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install -e '.[test,recipe,bench]'
	touch $(VENV)/.demo $@

demo: $(VENV)/.demo
	PYTHON=$(BIN)/python recipes/librispeech/run.sh

test: $(VENV)/.test
	$(BIN)/python -m pytest $(PYTEST_ARGUMENTS)

# recipes and tests have a module of the same name here and there, so each folder is checked by itself
lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/mypy numbactc benchmarks
	$(BIN)/mypy tests/*.py
	$(BIN)/mypy tests/recipe/*.py recipes/librispeech/*.py

bench-cpu: $(VENV)/.test
	$(BIN)/python -m benchmarks.run

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .numba_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
