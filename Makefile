# Two commands do all the set-up: `make demo` and `make test`. Both create .venv from the lock files first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Number of processes that share the tests, file by file; each takes up to 2 GiB.
WORKERS ?= 2
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile
INSTALLED := $(VENV)/.installed
DEV_INSTALLED := $(VENV)/.installed-dev

.PHONY: demo test check docs matrix lock clean

demo: $(INSTALLED)
	$(BIN)/gossamer demo --out demo

test: $(DEV_INSTALLED)
	$(PYTEST) -m "not slow and not network and not matrix"

# The checks that continuous integration adds: slow tests, style, types, import directions, the documentation.
check: $(DEV_INSTALLED) docs
	$(PYTEST) -m "slow or network"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

# The documentation site, in site/. A dead link or a missing object is an error.
docs: $(DEV_INSTALLED)
	$(BIN)/python scripts/write_cli_reference.py docs/reference/cli.md
	NO_COLOR=1 $(BIN)/zensical build --clean --strict

# Export of every network with every mechanism; the tests above cover each mechanism once.
matrix: $(DEV_INSTALLED)
	$(PYTEST) -m matrix

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@echo "installing the packages of requirements.lock into $(VENV), about a minute"
	$(PIP) -r requirements.lock
	$(PIP) --no-deps --editable .
	@touch $(INSTALLED)

$(DEV_INSTALLED): $(INSTALLED) requirements-dev.lock
	$(PIP) -r requirements-dev.lock
	@touch $(DEV_INSTALLED)

# Write new lock files from what the metadata allow today. torch is pinned by hand, since its builds differ in size.
lock:
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 --editable ".[train]"
	( echo "# Packages to run Gossamer, with PyTorch. Written by make lock; see CONTRIBUTING.md."; \
	  $(VENV)-lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' ) > requirements.lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check -c requirements.lock --editable ".[train,dev]"
	( echo "# Further packages to test Gossamer and to build its documentation. Written by make lock."; \
	  $(VENV)-lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' \
	  | grep -vxFf requirements.lock ) > requirements-dev.lock
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) demo site build dist .cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
