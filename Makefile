# `make demo` and `make test` set up what they need; nothing else has to be installed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp-installed

.PHONY: demo gpu-check kernels test test-all lint format bench setup clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "qdec needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/qdec demo

# Needs nvcc alone. The kernels lie in build/kernels then.
kernels:
	$(PYTHON) pipeline/qdec/cuda/compile.py build/kernels

# On a GPU machine. GPU_PYTHON is whatever has the packages: there, often the system's own python,
# or a venv made with --system-site-packages (docs/gpu.md, "Checking a GPU machine").
GPU_PYTHON ?= $(BIN)/python
GPU_ARGS ?=
gpu-check: export PYTHONPATH := $(CURDIR)/pipeline:$(CURDIR)/tools$(if $(PYTHONPATH),:$(PYTHONPATH))
gpu-check:
	$(MAKE) kernels
	$(GPU_PYTHON) perf/gpu.py --check
	$(GPU_PYTHON) -m pytest tests/gpu; tested=$$?; \
	$(GPU_PYTHON) perf/gpu.py --save $(GPU_ARGS) && exit $$tested

# Unit tests share the cores; services and faults have the machine to themselves.
test: $(STAMP)
	$(BIN)/pytest -m "not slow" -n auto --dist loadfile tests/unit
	$(BIN)/pytest -m "not slow" --ignore tests/unit

test-all: $(STAMP)
	$(BIN)/pytest -n auto --dist loadfile tests/unit
	$(BIN)/pytest --ignore tests/unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python perf/lane.py --short
	$(BIN)/python perf/latency.py --distances 5 --seconds 5
	$(BIN)/python perf/beside_cudaq.py --shots 1000 --repeats 5

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
