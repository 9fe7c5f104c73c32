# Every target makes its own environment: .venv is built when absent and brought up to date when pyproject.toml changes.
#   make demo      fit real trials, print the table, write pictures and an HTML report
#   make test      the quick tests
#   make test-all  the slow ones as well
#   make bench     side-by-side timings
#   make notebooks run every notebook in its fast mode
#   make gallery   the systems of models/science, as one page
#   make docs      the site, into build/site
#   make clean     remove what the other targets made

# The first Python of 3.11 or later; `make PYTHON=/path/to/python demo` chooses another.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
JOBS ?= 2
OUT ?= demo-out

BIN := .venv/bin
READY := .venv/.installed
TESTABLE := .venv/.installed-test
READABLE := .venv/.installed-docs

.PHONY: demo test test-all bench notebooks gallery docs clean

demo: $(READY)
	@$(BIN)/nlme demo --out $(OUT)

test: $(TESTABLE)
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile

test-all: $(TESTABLE)
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile -m "slow or not slow"

bench: $(TESTABLE)
	@$(BIN)/python tests/benchmarks

notebooks: $(TESTABLE)
	@$(BIN)/python -m pytest -q -n $(JOBS) tests/notebooks -m "slow or not slow"

gallery: $(READY)
	@$(BIN)/python -m nlme.models.science --jobs $(JOBS) --out build/gallery

docs: $(READABLE)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet -f docs/site/mkdocs.yml
	@echo "build/site/index.html"

clean:
	@rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache $(OUT)
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip is always run as `python -m pip` (no long shebang lines) and retried after an upgrade of itself, for the one case
# where a venv brings a pip that does not know editable installs from pyproject.toml.
# Bytecode is left to be made when first imported: of the files that are used only, which halves the time of an installation.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
unexport PYTHONDONTWRITEBYTECODE
$(READY): pyproject.toml
	@if [ -z "$(PYTHON)" ] && [ ! -x $(BIN)/python ]; then \
		echo "nlme needs Python 3.11 or later with venv (on Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; fi
	@[ -x $(BIN)/python ] || { echo "Making .venv ..."; $(PYTHON) -m venv .venv; }
	@echo "Installing nlme into .venv ..."
	@$(PIP) -e . || { $(PIP) --upgrade pip && $(PIP) -e .; }
	@touch $@

$(TESTABLE): $(READY)
	@echo "Installing what the tests need ..."
	@$(PIP) -e '.[test]'
	@touch $@

$(READABLE): $(READY)
	@echo "Installing what the site needs ..."
	@$(PIP) -e '.[docs]'
	@touch $@
