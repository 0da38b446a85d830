# `make run` shows the recogniser at work, `make test` checks it; each sets up .venv by itself.

SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

# tcmalloc keeps freed memory, which is faster where fresh pages are slow; used if installed, never required.
TCMALLOC := $(firstword $(wildcard /usr/lib/*/libtcmalloc_minimal.so.4 /usr/lib*/libtcmalloc_minimal.so.4))
PRELOAD := $(addprefix LD_PRELOAD=,$(TCMALLOC))

# Two test processes with one thread each: on two cores faster than one process with two.
PYTEST := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(PRELOAD) $(BIN)/pytest -n 2 --dist worksteal

.PHONY: help run test test-all lint format docs setup clean

help:
	@echo "make run        transcribe the bundled recordings: plain, adapted, clean, noisy"
	@echo "make test       style, types and tests"
	@echo "make test-all   the same, the web page and the documentation in Chromium, data at scale, GPU kernels, a Ray cluster"
	@echo "make lint       style and types only"
	@echo "make format     rewrite the code in the project's style"
	@echo "make docs       the documentation as a site, in site/"
	@echo "make tables     measure what the documents say of the bundled model, and write it into them (hours)"
	@echo "make bench      the benchmarks of speed in short (3 minutes); docs/PERFORMANCE.md has their figures"
	@echo "make clean      remove .venv and caches"

run: $(INSTALLED)
	@$(PRELOAD) $(BIN)/lact-asr demo

test: lint
	$(PYTEST) -m "not ray"

test-all: lint
	@command -v chromium >/dev/null || { echo "error: chromium is not installed; run: apt install chromium" >&2; exit 2; }
	$(BIN)/python -m pip install -qq -c constraints.txt -e ".[web,docs,data,ray,tracking]" playwright triton
	$(PYTEST) -m "not ray"
	$(PYTEST) -n 0 -m ray

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(INSTALLED)
	$(BIN)/python -m pip install -qq -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: tables
tables: $(INSTALLED)
	@test -n "$(DATA_DIR)" || { echo "error: DATA_DIR is not given; recipes/small/README.md says what it holds" >&2; exit 2; }
	@$(PRELOAD) $(BIN)/python benchmarks/tables.py --data_dir "$(DATA_DIR)" \
		$(if $(TEST_CLEAN_DIR),--test_clean_dir "$(TEST_CLEAN_DIR)") $(if $(ONLY),--only "$(ONLY)")

.PHONY: bench
bench: $(INSTALLED)
	@for name in newton_schulz layer_speed model_speed adaptation_speed training_step long_audio start_up gpu_floors; do \
		printf '\n%s\n\n' $$name; $(PRELOAD) $(BIN)/python benchmarks/$$name.py --quick || exit; done

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null \
		|| { echo "error: $(PYTHON) is not installed; run: apt install python3 python3-venv" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than 3.11; run: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "error: this Python cannot make a virtual environment; run: apt install python3-venv" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the Python packages into .venv (once; takes about 2 minutes) ..."
	@SECONDS=0; $(BIN)/python -m pip install -qq -c constraints.txt -e ".[dev,augment,track,lm,normalize,serve,export]" \
		|| { echo "Beam search has no wheels for this machine; installing without it ..."; \
			$(BIN)/python -m pip install -qq -c constraints.txt -e ".[dev,augment,track,normalize,serve,export]"; } \
		&& echo "Installed in $$SECONDS seconds."
	@$(BIN)/python -m compileall -q lact_asr_model # where the environment forbids it, Python would compile at each start
	@touch $@

clean:
	rm -rf .venv site .mypy_cache .pytest_cache .ruff_cache .hypothesis
