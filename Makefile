# Everything installs itself into .venv; only Python >= 3.11 and make are needed. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Tests mostly wait for other processes; so many of them run at a time.
JOBS ?= 4
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
# The one on PATH is a wrapper, and on root's PATH only.
RABBITMQ := /usr/lib/rabbitmq/bin/rabbitmq-server
# What a test may need from Debian, as command:package: the other Redis, in which every promise is tested too, a browser
# for the page, Node.js for the AI SDK's client, another broker.
DEBIAN := redis-server:redis-server chromium:chromium node:nodejs npm:npm $(RABBITMQ):rabbitmq-server
MISSING = $(foreach pair,$(DEBIAN),$(shell command -v $(firstword $(subst :, ,$(pair))) >/dev/null || echo $(lastword $(subst :, ,$(pair)))))

.PHONY: help demo test check wheel fix bench recovery chaos setup-system clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "chunkspool needs Python 3.11 or newer; say which: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "this Python cannot make a venv; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# xllamacpp (34 MB) and the model (93 MB, fetched by the demo itself) are the large ones: their progress is shown.
$(VENV)/ready-demo: $(VENV)/made pyproject.toml constraints.txt
	@echo "Installing the demo into $(VENV), once (about 100 MB)"
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/ready-test: $(VENV)/made pyproject.toml constraints.txt
	$(PIP) --quiet -e '.[test,dev]'
	@touch $@

demo: $(VENV)/ready-demo  ## the whole thing on this machine: Redis, a real model, a worker, Flower (ARGS=--once: the story, then exit)
	@$(BIN)/python -m demo $(ARGS)

test: $(VENV)/ready-test  ## all tests; those that need a Debian package say so where it is missing
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

check: $(VENV)/ready-test wheel  ## ruff, mypy, import-linter, the built wheel
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

wheel: $(VENV)/ready-test  ## build the wheel and try it in a venv of its own
	rm -rf dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .
	$(BIN)/python tests/wheel.py dist/*.whl

bench: $(VENV)/ready-test  ## the figures of docs/bench.md, measured here
	@code=0; for part in append fanout replay sse stops_in_workers; do $(BIN)/python -m bench.$$part $(ARGS) || code=1; done; exit $$code

recovery: $(VENV)/ready-test  ## how long readers wait after a kill -9 of what runs their answer
	$(BIN)/python -m bench.recovery $(ARGS)

chaos: $(VENV)/ready-test  ## break everything while people use it, then check every promise (ARGS="--seed N" repeats a run)
	PYTHONPATH=tests:. $(BIN)/python -m end_to_end.chaos $(ARGS)

fix: $(VENV)/ready-test  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup-system:  ## the Debian packages that tests can use (needs root or sudo)
	@if [ -z "$(strip $(MISSING))" ]; then echo "all of it is there"; \
	elif ! command -v apt-get >/dev/null; then echo "no apt-get here: install by hand: $(MISSING)"; exit 1; \
	else SUDO=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$SUDO apt-get update -q && $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $(MISSING); fi

clean:  ## remove everything that make made
	rm -rf $(VENV) .demo dist build
