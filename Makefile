# diffmatch-bench: `make help` lists what there is.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DATASET ?= acdc
METHOD ?= diffmatch
SEED ?= 0
PRESET ?= quick
OUT ?= runs
SEEDS ?= 1
RUNS ?= $(call quoted,$(OUT))
# A value as one word of the shell, whatever is in it. RUNS and ARGS hold several words and are taken as they are.
quoted = '$(subst ','\'',$(1))'
PLUGINS := $(wildcard datasets/*/pyproject.toml)

# Where it is set, as in many containers, every command would compile torch's sources anew; what .venv compiled stays in .venv.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup bench table figure report test faults lint clean

help:  ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: $(READY)  ## one virtual environment with everything, pinned (.venv)

$(READY): pyproject.toml constraints.txt $(PLUGINS)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@PATH="$(CURDIR)/$(BIN):$$PATH" uv pip install --quiet --python $(BIN)/python --constraint constraints.txt \
		--editable '.[dev,tensorboard]' $(foreach p,$(PLUGINS),--editable $(dir $(p)))
	@touch $@

bench: $(READY)  ## train, score and report one run: DATASET=acdc LABELS=3 [METHOD=] [SEED=] [PRESET=quick|standard|paper] [DATA=dir] [OUT=runs] [ARGS=]
	@$(BIN)/diffmatch bench $(DATASET) $(if $(LABELS),--labels $(call quoted,$(LABELS))) --method $(METHOD) --seed $(SEED) \
		--preset $(PRESET) $(if $(DATA),--data $(call quoted,$(DATA))) --out $(call quoted,$(OUT)) $(ARGS)

table: $(READY)  ## one of the paper's tables, what is missing run first: N=15 [SEEDS=1] [PRESET=] [DATA=dir] [DRY=1] [ARGS=]
	@$(BIN)/diffmatch table $(call quoted,$(N)) --seeds $(SEEDS) --preset $(PRESET) $(if $(DATA),--data $(call quoted,$(DATA))) \
		$(if $(DRY),--dry) --out $(call quoted,$(OUT)) $(ARGS)

figure: $(READY)  ## one of the paper's figures as PDF, SVG and PNG: N=4 RUNS="runs/acdc/diffmatch runs/acdc/unimatch" [ARGS="--out figures"]
	@$(BIN)/diffmatch figure $(N) $(RUNS) $(ARGS)

report: $(READY)  ## offline pages of all runs under OUT
	@$(BIN)/diffmatch report $(call quoted,$(OUT)) --out report

test: $(READY)  ## the test suite, a process a core
	@$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

faults: $(READY)  ## the long programme: 2,000 broken files read, 200 commands killed
	@$(BIN)/python tests/faults/fuzz.py --examples 2000
	@$(BIN)/python tests/faults/kills.py --kills 200

lint: $(READY)  ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

clean:  ## remove the virtual environment and build leftovers (runs stay)
	rm -rf .venv build *.egg-info datasets/*/*.egg-info
