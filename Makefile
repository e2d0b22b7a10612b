# make demo   the tool in its own .venv, an environment, the demo model, a video from a real photo, the timing report
# make test   everything that is checked: style, types, tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PHOTO := examples/temple.jpg
TOOL_FILES := pyproject.toml runtime/__init__.py
TEST_LOCK := runtime/locks/cpu.txt
TORCH_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: demo installed test check soak lock clean help

help:
	@sed -n 's/^# //p' Makefile

demo: demo.mp4
	$(BIN)/i2v-setup report
	@echo "The video: $(CURDIR)/demo.mp4 (the demo model has random weights: it shows the path, not the quality)"

demo.mp4: $(PHOTO) $(wildcard runtime/*.py) | installed
	$(BIN)/i2v-setup generate $(PHOTO) -o $@

installed: $(VENV)/.tool
	$(BIN)/i2v-setup install --model demo --mirror auto --yes

test: check
	$(BIN)/python -m pytest

check: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# What takes longer than `make test` may: kill loops and loads at full length.
soak: $(VENV)/.test
	$(BIN)/python -m pytest -m soak --timeout 7200

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=/path/to/python3")'
	$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.tool: $(TOOL_FILES) | $(BIN)/python
	$(PIP) install --quiet --editable .
	@touch $@

# The tests run the runtime too, from its lock, which pins torch to the CPU build. The PyTorch index is asked only if the
# indexes and directories in pip's own settings do not have that wheel. diffusers needs Python 3.11: on 3.10 the tool's own
# tests run, and the end-to-end tests in an environment of a newer Python.
$(VENV)/.test: $(TEST_LOCK) $(VENV)/.tool
	if $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	  $(PIP) install --quiet --no-compile -r $(TEST_LOCK) \
	  || $(PIP) install --quiet --no-compile --extra-index-url $(TORCH_INDEX) -r $(TEST_LOCK); fi
	$(PIP) install --quiet --no-compile --editable '.[dev]'
	@touch $@

# Newest versions within runtime/requirements.in; says which hashes it could not refresh.
lock: $(VENV)/.tool
	$(BIN)/python -m bootstrap.locking

clean:
	rm -rf $(VENV) demo.mp4 build dist *.egg-info
