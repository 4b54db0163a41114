# Two commands do everything on a fresh machine: `make demo` and `make test`.
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-quick test test-fast lint format bench clean
BIN := .venv/bin

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.venv/.ready: pyproject.toml uv.lock $(wildcard src/*/setup.py) $(wildcard src/*/package.xml) scripts/setup.sh
	@bash scripts/setup.sh
	@touch $@

setup: .venv/.ready ## create .venv with everything, from the lock (and say which apt packages are missing)

demo: setup ## teach, steer and deploy a simulated Franka arm through real ROS 2 topics (about 10 minutes)
	@$(BIN)/robosteer demo

demo-quick: setup ## the same loop, shortened (under 3 minutes)
	@$(BIN)/robosteer demo --quick

test: setup ## every test
	@$(BIN)/python -m pytest -q

test-fast: setup ## the tests that need no simulator, no ROS graph and no long computation
	@$(BIN)/python -m pytest -q -m "not slow"

lint: setup ## ruff (rules and format) and the type checker
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/basedpyright --level error

format: setup ## let ruff mend what it can
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: setup ## run the benchmarks and write benchmarks/results/*.json
	@for b in benchmarks/bench_*.py; do $(BIN)/python $$b || exit 1; done

clean: ## remove the environment and everything generated
	rm -rf .venv build install log runs demos .pytest_cache .ruff_cache
