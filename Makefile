# Olive Press. `make repro` runs the pipeline, `make test` the tests; both set up .venv first.
# Targets that show in `make help` have a ## comment.

PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export HF_HUB_DISABLE_TELEMETRY := 1
PROFILE ?=
TARGET ?= cpu-int4
ADAPTER ?=
DATA ?= data/travel.jsonl

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

# ---- set-up ---------------------------------------------------------------------------------------------

.PHONY: setup
setup: .venv/.ready ## build .venv from requirements.txt, if it is missing or older than the lock

.venv/.ready: requirements.txt
	@command -v git >/dev/null || { echo "git is missing: install the package git (apt-get install git)"; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install the package python3 (apt-get install python3)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: install a newer one and run make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python cannot make virtual environments: install the package python3-venv (apt-get install python3-venv)"; exit 1; }
	@[ ! -L .venv ] || { echo ".venv is a link to an environment that lacks what requirements.txt has now: remove the link or update that one"; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --disable-pip-version-check --progress-bar off -q -r requirements.txt
	@touch $@

.PHONY: lock
lock: setup ## compile requirements.in into requirements.txt (CPU: without the CUDA wheels that torch asks for)
	$(BIN)/pip install --disable-pip-version-check -q uv
	$(BIN)/uv pip compile requirements.in --python-version 3.11 --no-annotate --no-header --upgrade -q \
	  $(addprefix --find-links ,$(PIP_FIND_LINKS)) -o requirements.new
	@{ echo "# Compiled from requirements.in by 'make lock'; do not edit."; \
	  sed -E 's/\+cpu$$//; /^(nvidia|cuda)-/d' requirements.new; } > requirements.txt
	@rm requirements.new

# ---- the pipeline ---------------------------------------------------------------------------------------

.PHONY: repro
repro: setup ## run the pipeline: what changed, and nothing else (PROFILE=phi-3.5-mini for another profile)
	$(if $(PROFILE),python -m olivepress.profile profile=$(PROFILE))
	dvc repro

.PHONY: params
params: setup ## compose conf/ into params.yaml (PROFILE=…)
	python -m olivepress.profile $(addprefix profile=,$(PROFILE))

.PHONY: chat
chat: setup ## talk to the exported model (ADAPTER=travel, TARGET=cpu-int4)
	@python -m olivepress.chat --target $(TARGET) $(addprefix --adapter ,$(ADAPTER))

.PHONY: data-head
data-head: setup ## show the first rows of a data set (DATA=data/travel.jsonl)
	@python -m olivepress.show_data $(DATA)

.PHONY: metrics
metrics: setup ## quality and cost of the last run
	@dvc metrics show

.PHONY: plots
plots: setup ## the loss curves as a page, dvc_plots/index.html
	@dvc plots show

.PHONY: verify
verify: setup ## rerun everything in a temporary clone and compare every output with dvc.lock
	@python -m olivepress.verify

.PHONY: tiny-phi3
tiny-phi3: setup ## train the embedded base again (minutes on a GPU, hours on a CPU)
	python data/make_tiny_phi3.py

.PHONY: bench-pipeline
bench-pipeline: setup ## time the pipeline from an empty cache, unchanged and after new data
	python -m benchmarks.pipeline

# ---- development ----------------------------------------------------------------------------------------

.PHONY: lint
lint: setup ## ruff: lint and format
	ruff check .
	ruff format --check .

.PHONY: format
format: setup ## let ruff mend what it can
	ruff check --fix .
	ruff format .

.PHONY: test
test: setup ## all tests, the real pipeline in a temporary clone included
	pytest tests

.PHONY: test-unit
test-unit: setup ## the quick tests alone
	pytest tests --ignore tests/pipeline

.PHONY: test-gpu
test-gpu: setup ## what needs a CUDA GPU: CUDA graphs with adapters
	pytest tests/gpu -m gpu
