# `make demo`, `make test` and the other targets install what they need first. PYTHON=python3.12 selects a Python.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup demo setup-web demo-web stop-web test-web test-clients test-basic test test-slow test-slurm install-slurm lint docs bench \
  test-pythons lock clean

setup:
	@$(PYTHON) envs/bootstrap.py --venv $(VENV)

# After a change of a pin in envs/constraints.txt or envs/web.txt: add the hashes of its files
lock:
	@$(PYTHON) envs/lock.py

demo: setup
	@$(BIN)/openhcs-omero demo

# OMERO.web and an embedded server on the demo's data, in an environment of their own; they keep running
setup-web: setup
	@$(PYTHON) envs/bootstrap.py --venv .venv-web --requirements envs/web.txt

demo-web: setup-web
	@test -e .demo/plates.json || $(BIN)/openhcs-omero demo
	@.venv-web/bin/python envs/web.py start

stop-web:
	@.venv-web/bin/python envs/web.py stop

# OMERO.web in Debian's Chromium
test-web: setup-web
	@test -e .demo/plates.json || $(BIN)/openhcs-omero demo
	.venv-web/bin/pytest -m web tests/web

# Other OMERO clients, unmodified, against the embedded server, in an environment of their own
test-clients:
	@$(PYTHON) envs/bootstrap.py --venv .venv-clients --requirements packages/omero-embedded/tests/clients/requirements.txt
	.venv-clients/bin/python -m pytest -m clients tests/clients packages/omero-embedded/tests/clients

# BaSiC's illumination, in an environment of its own with Torch, which is 3 GB
test-basic:
	@$(PYTHON) envs/bootstrap.py --venv .venv-basic --requirements envs/basic.txt
	@.venv-basic/bin/python -m pip install --quiet --no-deps basicpy==2.0.0
	PYTHONPATH=. .venv-basic/bin/python -m pytest -c /dev/null --noconftest tests/unit/test_basic_illumination.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy

# The documentation as a site, in site/; warnings are errors
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir site
	@echo "[docs] site/index.html"

# All but the slow tests, then those on a real Slurm, which are skipped if it can't be installed. A crash of a test process
# ends the run, since the other process would wait for its tests for ever
test: setup
	@$(MAKE) --no-print-directory -j 2 -O lint docs install-slurm
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 \
	  -m "not slow and not slurm and not web and not clients"
	$(BIN)/pytest -m "slurm and not slow" tests/slurm

test-slow: setup
	$(BIN)/pytest -m "slow and not slurm"

# Slurm's daemons, as root, from Debian's packages; only the tests need them
install-slurm:
	@if ! { command -v slurmctld && command -v munged; } >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "[setup] installing slurm-wlm and munge for the tests on Slurm"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge; \
	  } >/dev/null || echo "[setup] Slurm could not be installed: its tests are skipped"; fi

test-slurm: setup install-slurm
	$(BIN)/pytest -m slurm tests/slurm

# Speed compared to other programs, in an environment with them; NAMES="reading writing" selects benchmarks
bench:
	@$(PYTHON) envs/bootstrap.py --venv .venv-bench --requirements benchmarks/requirements.txt
	.venv-bench/bin/python -W ignore -m benchmarks $(NAMES)

# Set-up and unit tests on every supported Python that is installed
test-pythons:
	@for v in 3.11 3.12 3.13; do \
	  if python$$v -c '' 2>/dev/null; then \
	    $(MAKE) --no-print-directory setup PYTHON=python$$v VENV=.venv-$$v && \
	    .venv-$$v/bin/pytest -q tests/unit || exit 1; \
	  else echo "python$$v is not installed: skipped"; fi; \
	done

clean:
	rm -rf .venv .venv-* .demo .snakemake results site
