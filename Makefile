PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ARGS ?=

.PHONY: demo test docs clean
# on a Jetson, `make VENV_FLAGS=--system-site-packages CONSTRAINTS= demo` keeps JetPack's packages
VENV_FLAGS ?=
CONSTRAINTS ?= -c constraints.txt

demo: $(VENV)/demo.stamp
	$(BIN)/plr-edge demo $(ARGS)

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest -n logical --maxprocesses 4 $(ARGS)

docs: $(VENV)/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --site-dir build/site

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV_FLAGS) $(VENV)

$(VENV)/demo.stamp: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) $(CONSTRAINTS) -e '.[export,report]'
	touch $@

$(VENV)/test.stamp: $(VENV)/demo.stamp
	$(PIP) $(CONSTRAINTS) -e '.[test]'
	touch $@

$(VENV)/docs.stamp: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) $(CONSTRAINTS) -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build demo
