# `make demo` and `make test` set everything up by themselves, in $(VENV), with plain pip.
PYTHON  ?= python3
VENV    ?= .venv
WORKERS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# pip reads these two: they pin what is installed, and what builds it, to the versions we tested.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast lint lock
.DELETE_ON_ERROR:

help:
	@echo "make demo       train SegTAD on real sensor recordings and detect in a raw one; results in runs/watch"
	@echo "make test       lint, types and every test"
	@echo "make test-fast  lint, types and the tests that are not marked slow"
	@echo "make lint       ruff, ruff format and mypy"
	@echo "make lock       write constraints.txt anew (PYTHONS='python3.11 python3.12 ...')"
	@echo "Settings: PYTHON=$(PYTHON) VENV=$(VENV) WORKERS=$(WORKERS)"

demo: $(VENV)/.demo
	$(BIN)/python -m segtad_jax.main --config configs/watch.py --workdir runs/watch
	$(BIN)/python -m segtad_jax.predict --checkpoint=runs/watch --features=data/watch/1.0.0/s08_0_0.csv \
	  --output=runs/watch/s08_0_0.json --report=runs/watch/s08_0_0.html

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-fast: lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# One file for every Python: installs the newest versions on each and merges what pip chose.
PYTHONS ?= python3.11 python3.12 python3.13
lock:
	$(PYTHON) .ci/lock.py $(PYTHONS)

# A stamp stands for a finished installation, so that a second call needs neither time nor network.
$(VENV)/.demo: EXTRAS = demo
$(VENV)/.test: EXTRAS = demo,video,test,dev
$(VENV)/.demo $(VENV)/.test: pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "There is no '$(PYTHON)' here. Name a Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "segtad_jax needs Python 3.11 or newer, but '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1)." \
	       "Name a newer one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments. On Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing into $(VENV): 2.7 GB, once; minutes on a slow line."
	"$(PYTHON)" -m venv "$(VENV)"
	$(PIP) install --quiet --editable '.[$(EXTRAS)]'
	@touch "$@"
