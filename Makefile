# Everything from nothing but Python 3.10 or newer:
#   make demo    install into .venv, then label a synthetic scan from three slices (writes demo-output/)
#   make test    install the Qt libraries where allowed, then style, types, import contracts and tests
#   make lint    style, types and import contracts only
#   make clean   remove what these made

PYTHON ?= $(shell sh scripts/find_python.sh)
DEMO_OUT ?= demo-output
VENV := .venv
TOX := .venv-tox

.PHONY: demo test lint clean python

demo: $(VENV)/installed
	$(VENV)/bin/napari-rada demo --out $(DEMO_OUT)

test: $(TOX)/installed
	sh scripts/install_qt_libs.sh
	$(TOX)/bin/tox run -e check $(if $(ARGS),-- $(ARGS))

lint: $(TOX)/installed
	$(TOX)/bin/tox run -e lint,imports,types

clean:
	rm -rf $(VENV) $(TOX) .tox $(DEMO_OUT) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/installed: pyproject.toml | python
	sh scripts/make_venv.sh $(PYTHON) $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable .
	touch $@

$(TOX)/installed: scripts/make_venv.sh | python
	sh scripts/make_venv.sh $(PYTHON) $(TOX)
	$(TOX)/bin/python -m pip install --quiet "tox>=4.22"
	touch $@

python:
	@test -n "$(PYTHON)" || { echo "Python 3.10 or newer is needed and none was found; name one with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed; $(PYTHON) is older. Name another with: make PYTHON=/path/to/python3" >&2; exit 1; }
