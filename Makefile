# Every target makes and uses .venv by itself: Python 3.11 or newer and make are enough.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=

# A pinned pyright need not announce newer ones.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

# Bytecode is kept: the tests start hundreds of programs, and each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check fmt docs screenshots bench compat clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed  ## replay recorded sessions: no key, no network
	$(BIN)/llmbridge demo $(ARGS)

# In as many processes as there are cores; tests that share a costly server are one `xdist_group`.
test: $(VENV)/.installed-dev  ## run the tests; ARGS="-k sse" narrows them, ARGS=-n0 stays in one process
	$(BIN)/pytest -q -n auto --dist loadgroup $(ARGS)

check: $(VENV)/.installed-dev  ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

fmt: $(VENV)/.installed-dev  ## format and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs  ## build docs/ into site/; a broken link fails
	rm -rf site
	$(BIN)/zensical build --clean --strict

screenshots: $(VENV)/.installed-dev  ## take the pictures of the docs anew, in the system's Chromium
	$(BIN)/python -m tests.browser.screenshots

bench: $(VENV)/.installed-dev  ## measure import time, relay and codecs
	$(BIN)/python -m tests.bench $(ARGS)

# The oldest vcrpy that replays our files, and the newest; pytest-recording with each.
COMPAT := .cache/compat
compat: $(VENV)/.installed-dev $(COMPAT)-old/.installed $(COMPAT)-new/.installed  ## hold our files to vcrpy 6 and the newest, and to pytest-recording
	$(BIN)/python -m tests.compat $(COMPAT)-old/bin/python $(COMPAT)-new/bin/python

$(COMPAT)-old/.installed: VCRPY := vcrpy==6.0.2
$(COMPAT)-new/.installed: VCRPY := vcrpy
$(COMPAT)-%/.installed: Makefile | $(BIN)/python
	@echo "Installing $(VCRPY) into $(@D) ..."
	@$(BIN)/python -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check "$(VCRPY)" pytest-recording==0.14.1 httpx
	@touch $@

clean:  ## remove .venv and everything built
	rm -rf $(VENV) .cache .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "Installing llmbridge into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	@echo "Installing llmbridge[$*] into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	@touch $@ $(VENV)/.installed

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "llmbridge needs Python 3.11 or newer, and '$(PYTHON)' was not found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "llmbridge needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1); name another: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
