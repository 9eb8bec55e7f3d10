# Everything from a fresh clone: `make demo` runs the main job, `make test` proves it. Only Python, pip and make are needed.
# On Linux without a GPU, set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU wheels to be spared the CUDA packages.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test faults lint docs clean

demo: $(VENV)/installed
	$(VENV)/bin/vlmsift demo --out demo-run

test: lint docs
	$(RUN) -m pytest -n 2 --dist loadfile

faults: $(VENV)/installed-dev
	$(RUN) -m pytest tests/faults -m "faults or not faults"

lint: $(VENV)/installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# the documentation as a site, in build/site; a broken link, or a page that no menu names, is an error
docs: $(VENV)/installed-dev
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 10), "vlmsift needs Python 3.10 or newer: make PYTHON=python3.12 ..."'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable ".[train]"
	touch $@

# torchvision, which many processors need, has no CPU wheel: its CUDA build lies in a folder that only the tests look at
$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --editable '.[dev]'
	rm -rf .test-packages
	$(PIP) --no-deps --target .test-packages torchvision
	touch $@

clean:
	rm -rf $(VENV) .test-packages demo-run
