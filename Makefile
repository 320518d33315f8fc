# make demo | make test | make test-slurm: each sets up what it needs first. PYTHON=python3.12 chooses another Python.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup demo setup-web demo-web stop-web test-web test-clients test test-slow test-slurm install-slurm lint bench test-pythons clean

setup:
	@$(PYTHON) envs/bootstrap.py --venv $(VENV)

demo: setup
	@$(BIN)/openhcs-omero demo

# OMERO.web beside an embedded server on the demo's data, in an environment of its own; it is left running
setup-web: setup
	@$(PYTHON) envs/bootstrap.py --venv .venv-web --requirements envs/web.txt

demo-web: setup-web
	@test -e .demo/plate.json || $(BIN)/openhcs-omero demo
	@.venv-web/bin/python envs/web.py start

stop-web:
	@.venv-web/bin/python envs/web.py stop

# OMERO.web in Debian's chromium
test-web: setup-web
	@test -e .demo/plate.json || $(BIN)/openhcs-omero demo
	.venv-web/bin/pytest -m web tests/web

# Unmodified clients of OMERO against the embedded server, in an environment of their own
test-clients:
	@$(PYTHON) envs/bootstrap.py --venv .venv-clients --requirements packages/omero-embedded/tests/clients/requirements.txt
	.venv-clients/bin/python -m pytest -m clients tests/clients packages/omero-embedded/tests/clients

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

# What is quick, then a real Slurm; where that can't be installed, its tests are skipped and say so
test: lint install-slurm
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not slurm and not web and not clients"
	$(BIN)/pytest -m "slurm and not slow" tests/slurm

test-slow: setup
	$(BIN)/pytest -m "slow and not slurm"

# Slurm's daemons, which nothing but its tests needs: Debian's packages, as root
install-slurm:
	@if ! { command -v slurmctld && command -v munged; } >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "[setup] installing slurm-wlm and munge for the tests on Slurm"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge; \
	  } >/dev/null || echo "[setup] they could not be installed: these tests are skipped"; fi

test-slurm: setup install-slurm
	$(BIN)/pytest -m slurm tests/slurm

# How fast it is beside its peers, in an environment with them; NAMES="reading writing" chooses
bench:
	@$(PYTHON) envs/bootstrap.py --venv .venv-bench --requirements benchmarks/requirements.txt
	.venv-bench/bin/python -W ignore -m benchmarks $(NAMES)

# The set-up and the quick tests on every supported Python that is installed
test-pythons:
	@for v in 3.11 3.12 3.13; do \
	  if python$$v -c '' 2>/dev/null; then \
	    $(MAKE) --no-print-directory setup PYTHON=python$$v VENV=.venv-$$v && \
	    .venv-$$v/bin/pytest -q tests/unit || exit 1; \
	  else echo "python$$v is not installed: skipped"; fi; \
	done

clean:
	rm -rf .venv .venv-* .demo .snakemake results
