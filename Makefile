# `make setup` makes .venv from the project's files; everything else runs in it.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
ARGS ?=
RUNS ?= checkpoints/runs/glue

.PHONY: help setup test test-full test-hf test-lowest package lint chaos bench gpu-check pretrain glue glue-submission results tensorboard

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(VENV)/.installed ## make .venv and install depthlab with all it needs

$(VENV)/.installed: pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "$$(grep '^torch==' .ci/constraints.txt)" $(TORCH_INDEX)
	$(BIN)/pip install --quiet --constraint .ci/constraints.txt --editable '.[all,dev]'
	touch $@

test: setup ## the default tests, a few minutes
	$(BIN)/pytest $(ARGS)

test-full: setup ## all tests: end-to-end runs, those that need ../shared/data, and test-hf
	$(BIN)/pytest -m "" $(ARGS)
	$(BIN)/python -m tests.hugging_face

test-hf: setup ## transformers' own common tests on our classes (ARGS="-k TestUntied"; BIN=.venv-lowest/bin after test-lowest)
	$(BIN)/python -m tests.hugging_face $(ARGS)

test-lowest: setup ## the default tests with the lowest versions that pyproject.toml allows, in .venv-lowest
	$(BIN)/uv venv --quiet --clear --seed --python $(BIN)/python .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python "$$(grep -oE 'torch>=[0-9.]+' pyproject.toml | sort -V | tail -1 | sed 's/>=/==/')" $(TORCH_INDEX)
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --editable '.[all,dev]'
	.venv-lowest/bin/pytest -o filterwarnings=default $(ARGS)

package: setup ## build what pip installs, and run README's first steps from it in fresh environments
	$(BIN)/python -m tests.package $(TORCH_INDEX)

lint: setup ## ruff: lint and format; codespell
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell

chaos: setup ## kill small runs, fill their disk, flip their bits, and see what goes on (20 minutes; ARGS="--seed 1 --share 0.5")
	$(BIN)/python -W ignore -m tests.chaos $(ARGS)

bench: setup ## how fast the compact execution is
	$(BIN)/python -m tests.benchmarks.compact $(ARGS)

gpu-check: ## is it right and fast on this GPU? 8 minutes; installs nothing (PYTHON=python3 ARGS="--minutes 3 --glue GLUE")
	@$(PYTHON) -c 'import lightning, torch, transformers' 2>/dev/null || { echo "$(PYTHON) lacks lightning, torch or transformers: after make setup, make gpu-check PYTHON=$(BIN)/python"; exit 2; }
	$(PYTHON) -m tests.benchmarks.gpu_check $(ARGS)

pretrain: setup ## pre-train the small CPU experiment on the sample corpus (go on after an interrupt: ARGS="--ckpt_path last")
	$(BIN)/depthlab fit --config experiments/pretrain.yaml --beside '[checkpoints/minilm-adaptive-mlm]' $(ARGS)

glue: setup ## the paper's grid over all of GLUE, then its table (ARGS="--data.root GLUE --model.checkpoint my-model")
	$(BIN)/depthlab sweep --config experiments/glue.yaml --run_dir $(RUNS) $(ARGS)
	$(BIN)/depthlab report glue $(RUNS)

glue-submission: setup ## predict GLUE's test sets by the best runs in RUNS="DIR ...", check, and zip (ARGS="--model NAME")
	$(BIN)/depthlab submission $(RUNS) $(ARGS)

results: setup ## list the tables of README.md and experiments/RESULTS.md, and make the quick ones again (one: TABLE=heldout)
	$(BIN)/python -m tests.benchmarks.results $(TABLE) $(ARGS)

tensorboard: setup ## look at all runs
	$(BIN)/tensorboard --logdir checkpoints/runs $(ARGS)
