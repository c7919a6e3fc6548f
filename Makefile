# Two commands do all the set-up: `make demo` and `make test`. Both make .venv from the lock first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Processes that share the tests, file by file; each takes up to 2 GiB.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile
INSTALLED := $(VENV)/.installed

.PHONY: demo test check matrix lock clean

demo: $(INSTALLED)
	$(BIN)/gossamer demo --out demo

test: $(INSTALLED)
	$(PYTEST) -m "not slow and not network and not matrix"

# The checks that continuous integration adds: the slow tests, style, types, directions of imports.
check: $(INSTALLED)
	$(PYTEST) -m "slow or network"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

# Export of every network with every mechanism, of which the tests above do each mechanism once.
matrix: $(INSTALLED)
	$(PYTEST) -m matrix

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@echo "installing the packages of requirements.lock into $(VENV), about a minute"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $(INSTALLED)

# Write a new lock from what the metadata allow today. torch is pinned by hand, since its builds differ in size.
lock:
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 --editable ".[train,dev]"
	( echo "# Written by make lock; see CONTRIBUTING.md."; \
	  $(VENV)-lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' ) > requirements.lock
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
