# make lab    JupyterLab on the tour            make dft      go on with the DFT campaign (installs GPAW when missing)
# make app    the explorer as a page of its own (voila)
# make test   everything that CI checks         make collect  gates: campaign -> embedded set
# make screenshot  pictures of README, glossary           make results  what each model finds, hulls, voltages
# make models train (RUNS='*' all seeds), predict  make lock     pin the newest versions that pyproject.toml allows
# make folds  every ordering held out once (FOLDS='arrangement*')
# make transfer models of NaxFePO4 on LixFePO4 (SHARES='cpainn_*')
# make active which frames three architectures would ask DFT for, and whether chance does as well
# make workshop exercises into the notebooks, solutions; FRESH=06 writes a student's copy of one as new
# make book   the notebooks and their outputs as a site (site/html; needs npm)
# make phases expansions and phase diagrams (PHASES='cpainn_*'); make sample first relaxes what they are fitted to
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
CORES ?= 1
PORT ?= 8888
RUNS ?= *_seed0
PHASES ?= *
FOLDS ?= *
SHARES ?= *
SITE ?= site
HOSTILE := tests/test_hostile_files.py
# seconds until an idle kernel of `make lab` ends: a day, for a model trained overnight may be waiting
IDLE ?= 86400
export OMP_WAIT_POLICY := passive
BIN := .venv/bin

.PHONY: lab app workshop book test screenshot lock collect models folds transfer active results phases sample dft dft-list lint clean
.DEFAULT_GOAL := lab

.venv/ready: requirements.lock pyproject.toml .ci/make-venv
	@bash .ci/make-venv "$(PYTHON)"

# settings are taken from there, nothing is written into the home folder
lab app: export JUPYTER_CONFIG_PATH := $(CURDIR)/binder/jupyter
# how many may look at once
app: export VISITORS ?= 8

lab: .venv/ready
	@$(BIN)/jupyter lab --port=$(PORT) --MappingKernelManager.cull_idle_timeout=$(IDLE) $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_ARGS)

app: .venv/ready
	@$(BIN)/voila --port=$(PORT) $(APP_ARGS) notebooks/app/explorer.ipynb

workshop: .venv/ready
	@PYTHONPATH=. $(BIN)/python workshop/make.py $(if $(FRESH),fresh $(FRESH) notebooks/$(FRESH)_fresh.ipynb)

book: .venv/ready
	@OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -q -W --keep-going -c docs/book -d $(SITE)/doctrees . $(SITE)/html
	echo "mlipkit: the book is in $(SITE)/html ($$(du -sm $(SITE)/html | cut -f1) MB): open $(SITE)/html/index.html"

test: .venv/ready
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	if [ -n "$(TESTS)" ]; then exec $(BIN)/python -m pytest $(TESTS); fi
	both="-n 2 --durations=10"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $$both --dist loadfile --ignore=tests/browser -m "not alone"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $$both --dist worksteal tests/browser -m "not alone"
	# what measures its own memory has a process without the tests before; hostile files take both cores
	alone="$$(grep -rl "mark.alone" tests --include=test_*.py)"
	NOTEBOOKS_IN=browser $(BIN)/python -m pytest $$alone -m alone $$both --dist loadfile --deselect $(HOSTILE)
	$(BIN)/python -m pytest $(HOSTILE) -m alone

collect: .venv/ready
	@$(BIN)/python data/dft/collect.py

models: .venv/ready
	@set -f
	nice -n 19 $(BIN)/python data/make_models.py train $(RUNS)
	$(BIN)/python data/make_models.py predict

folds: .venv/ready
	@set -f
	nice -n 19 $(BIN)/python data/make_folds.py run $(FOLDS)
	$(BIN)/python data/make_folds.py table

transfer: .venv/ready
	@set -f
	nice -n 19 $(BIN)/python data/make_transfer.py run $(SHARES)
	$(BIN)/python data/make_transfer.py table

active: .venv/ready
	@nice -n 19 $(BIN)/python data/make_active.py run
	$(BIN)/python data/make_active.py table

phases: .venv/ready
	@set -f
	$(BIN)/python data/make_phases.py phases $(PHASES)
	$(BIN)/python data/make_phases.py sizes

sample: .venv/ready
	@set -f
	CORES=$(CORES) nice -n 19 $(BIN)/python data/make_phases.py sample $(PHASES)

results: .venv/ready
	@$(BIN)/python data/make_results.py
	$(BIN)/python data/make_folds.py table
	$(BIN)/python data/make_believed.py

screenshot:
	@$(MAKE) test TESTS="tests/browser -k 'the_papers_result or kept_as_a_picture' -s"
	cp screenshots/explorer_blind.png screenshots/explorer_aware.png docs
	PYTHONPATH=. $(BIN)/python workshop/pictures.py

lock:
	@rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install -q torch==2.13.0 && .venv-lock/bin/pip install -q .[test,book]
	{ echo "# made by 'make lock'; pip install -r requirements.lock"; .venv-lock/bin/pip freeze --all --exclude mlipkit --exclude pip \
	  | sed 's/+cpu$$//'; } > requirements.lock
	rm -rf .venv-lock

.venv-gpaw/ready: data/dft/install-gpaw.sh
	@bash data/dft/install-gpaw.sh .venv-gpaw

dft: .venv-gpaw/ready
	@cd data/dft && OMP_NUM_THREADS=1 nice -n 19 bash run.sh ../../.venv-gpaw $(CORES) $(JOBS)

dft-list: .venv-gpaw/ready
	@.venv-gpaw/bin/python data/dft/campaign.py list

clean:
	@rm -rf .venv .venv-gpaw dist screenshots site
