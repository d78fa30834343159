# `make help` lists the targets. All of them set up what they need first.

SHELL := /bin/sh
.DEFAULT_GOAL := help

# Where the environment lies, which Python makes it (default: the first of PYTHONS that runs), and
# what pytest gets: `make setup PYTHON=python3.12`, `make test PYTEST_ARGS="tests/results/test_plan.py -x"`.
VENV ?= .venv
PYTHON ?=
DEPENDENCY_GROUPS ?= dev
PYTEST_ARGS ?= -n 2 --dist loadscope
UPSTREAM_ARGS ?=
# What `make test-lowest` runs: something of every dependency, and what compiles.
LOWEST_ARGS ?= -n 2 --dist loadfile tests/test_package.py tests/test_similarity.py tests/test_pruning.py \
	tests/cli tests/probing/test_ridge.py tests/report tests/results tests/selection
# Where the full study finds its data sets and its weights: studies/README.md lists them.
SOURCES ?= study/sources
WEIGHTS ?= study/weights

PYTHONS := python3.11 python3.12 python3.13 python3
TOOLS := .tools
BENCHMARK_VENV := .venv-benchmark
LOWEST_VENV := .venv-lowest
LOWEST_DAY := 2026-11-15
DOCS_VENV := .venv-docs
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete

# The stamp holds the PYTHON asked for, so that asking for another one sets up anew.
ifneq ($(PYTHON),)
ifneq ($(PYTHON),$(shell cat '$(STAMP)' 2>/dev/null))
.PHONY: $(STAMP)
endif
endif

.PHONY: help setup demo test test-most test-all test-upstream test-lowest lint docs tutorials benchmark \
	study study-full clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r target text; do printf '%-16s %s\n' "$$target" "$$text"; done

setup: $(STAMP) ## make the environment from uv.lock in .venv (PYTHON= and VENV= choose)
	@echo "$$($(BIN)/python --version) with all it needs in $(VENV)"

# What it takes is said before anything is fetched, so that the environment is made here.
demo: ## choose a depth for the embedded sample, prune and report, in demo/
	@echo 'The environment ($(VENV)) takes about 7 GB of disk, 5 of them torch with its CUDA libraries on' \
		'Linux; once it is there, the demo takes about four minutes on two CPU cores.'
	@$(MAKE) --no-print-directory setup
	$(BIN)/terratorch-simpler demo --output demo --overwrite

test: $(STAMP) ## run the quick tests, some minutes (PYTEST_ARGS= chooses)
	$(BIN)/python -m pytest -m 'not slow and not long' $(PYTEST_ARGS)

test-most: $(STAMP) ## run the slow tests as well, but for those that take long
	$(BIN)/python -m pytest -m 'not long' $(PYTEST_ARGS)

test-all: $(STAMP) ## run all tests, and TerraTorch's own with a third of the blocks
	$(BIN)/python -m pytest $(PYTEST_ARGS)
	$(BIN)/python -m tests.upstream.run --simpler third $(UPSTREAM_ARGS)

test-upstream: $(STAMP) ## run TerraTorch's own tests with pruned backbones (UPSTREAM_ARGS= chooses)
	$(BIN)/python -m tests.upstream.run $(UPSTREAM_ARGS)

test-lowest: $(LOWEST_VENV)/.complete ## run a part of the tests with the lowest versions allowed
	$(LOWEST_VENV)/bin/python -m pytest $(LOWEST_ARGS)

lint: $(STAMP) ## check style, types and the imports between rooms
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python scripts/count_rooms.py --check

docs: $(DOCS_VENV)/.complete ## build the documentation's site, in build/site
	$(DOCS_VENV)/bin/mkdocs build --strict --clean

tutorials: $(STAMP) ## run the notebooks of docs/tutorials, and keep what they show
	$(BIN)/python -m scripts.run_tutorials

# The other packages that are measured against go into an environment of their own.
benchmark: ## measure what selection costs and what pruning saves (SECTIONS= chooses)
	@$(MAKE) --no-print-directory setup VENV=$(BENCHMARK_VENV) DEPENDENCY_GROUPS='dev benchmark'
	$(BENCHMARK_VENV)/bin/python -m benchmarks $(SECTIONS)

study: $(STAMP) ## fine-tune a small slice of the study on the embedded sample, and compare
	$(BIN)/python -m studies.measure.run --study studies/slice.yaml --table study/slice.csv
	$(BIN)/python -m studies.show.compare study/slice.csv

study-full: $(STAMP) ## fine-tune all grids of the study, hours (SOURCES=, WEIGHTS=), into study/
	@if [ ! -f study/data/.complete ]; then \
		rm -rf study/data && $(BIN)/python -m studies.measure.data '$(SOURCES)' study/data && \
		touch study/data/.complete; \
	fi
	for study in rgb six methods; do \
		$(BIN)/python -m studies.measure.run --study studies/$$study.yaml --table study/$$study.csv \
			--sources '$(SOURCES)' --data study/data --weights '$(WEIGHTS)' || exit 1; \
	done

clean: ## remove the environment and everything else that is made here
	@for venv in '$(VENV)' $(BENCHMARK_VENV) $(LOWEST_VENV) $(DOCS_VENV); do \
		if [ -f "$$venv/pyvenv.cfg" ]; then rm -rf "$$venv"; fi; \
	done
	rm -rf $(TOOLS) .mypy_cache .pytest_cache .ruff_cache build demo dist lightning_logs
	find terratorch_simpler tests scripts benchmarks studies -name __pycache__ -prune -exec rm -rf {} + \
		2>/dev/null || true

# The other packages of this environment are those of one day, so that it stays the same.
$(LOWEST_VENV)/.complete: pyproject.toml terratorch_simpler/__init__.py
	@$(call find_tools,$(or $(PYTHON),$(firstword $(PYTHONS)))); \
	$$uv venv --clear --quiet --python "$$python" $(LOWEST_VENV); \
	export VIRTUAL_ENV=$(LOWEST_VENV); \
	$$uv pip compile --quiet --extra onnx --group lowest --resolution lowest-direct \
		--exclude-newer $(LOWEST_DAY) --python $(LOWEST_VENV)/bin/python \
		--output-file $(LOWEST_VENV)/requirements.txt pyproject.toml; \
	$$uv pip sync --compile-bytecode $(LOWEST_VENV)/requirements.txt; \
	$$uv pip install --no-deps --editable .; \
	touch $@

# What builds the site reads the package's text alone, so that it is not installed here.
$(DOCS_VENV)/.complete: pyproject.toml uv.lock
	@$(call find_tools,$(or $(PYTHON),$(PYTHONS))); \
	UV_PROJECT_ENVIRONMENT=$(DOCS_VENV) $$uv sync --frozen --python "$$python" --only-group docs; \
	touch $@

$(STAMP): pyproject.toml uv.lock terratorch_simpler/__init__.py
	@$(call find_tools,$(or $(PYTHON),$(PYTHONS))); \
	UV_PROJECT_ENVIRONMENT='$(VENV)' $$uv sync --frozen --compile-bytecode --python "$$python" \
		--extra onnx --no-default-groups $(addprefix --group ,$(DEPENDENCY_GROUPS)); \
	printf '%s\n' '$(PYTHON)' >'$(STAMP)'

# Sets $$python to the first of the given commands that works, and $$uv. A command can be on PATH and
# still not work (pyenv's shims), so each Python is tried. The same goes for uv: one that cannot
# read uv.lock is left alone for a private copy.
define find_tools
set -eu; \
	python=; \
	for candidate in $(1); do \
		python=$$("$$candidate" -c 'import sys; (3, 11) <= sys.version_info < (3, 14) and print(sys.executable)' \
			2>/dev/null) || python=; \
		if [ -n "$$python" ]; then break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo 'No working Python 3.11, 3.12 or 3.13 among: $(1).' >&2; \
		echo 'Name one: make setup PYTHON=/path/to/python' >&2; \
		exit 1; \
	fi; \
	uv=uv; \
	if ! uv export --frozen --quiet --python "$$python" >/dev/null 2>&1; then \
		uv=$(TOOLS)/bin/uv; \
		if ! $$uv --version >/dev/null 2>&1; then \
			echo "No usable uv on PATH: installing one in $(TOOLS)"; \
			"$$python" -m venv --clear $(TOOLS); \
			$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'; \
		fi; \
	fi
endef
