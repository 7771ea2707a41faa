# Everything runs from .venv, which `make setup` makes from requirements.lock. `make` alone lists the targets.
VENV ?= .venv
BIN := $(VENV)/bin
NODES ?= 6
SECONDS ?= 60
export VENV
# uv trusts what the system trusts, as pip does.
export UV_SYSTEM_CERTS ?= 1

# Both spell the same set of packages: the workspace's own and what set-up needs.
LOCK_INPUTS := pyproject.toml tools/lock.in

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-obfs4 check format bench bench-tor bench-mixing bench-profiles bench-anonymity bench-attacks bench-chaos bench-work bench-startup bench-directory bench-transports fuzz sim testnet-up testnet-down testnet-status protos lock wheels images compose-up compose-down compose-test clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv (instant when nothing changed)
	@tools/setup.sh

demo: setup ## a whole network, a page and 64 MB through three hops; ONCE=1 stops after the fetch
	@$(BIN)/phantomband demo $(if $(ONCE),--once) $(ARGS)

test: setup ## the tests, without the slow ones
	@$(BIN)/python -m pytest -m "not slow" tests $(ARGS)

test-slow: setup ## the slow tests
	@$(BIN)/python -m pytest -m slow tests $(ARGS)

test-obfs4: setup ## 64 MB each way against each real obfs4 program, in all IAT modes: over an hour
	@OBFS4_MEGABYTES=64 $(BIN)/python -m pytest -v -m slow tests/transports/test_obfs4_interop.py -k many_megabytes $(ARGS)

fuzz: setup ## every fuzz target under atheris, SECONDS=60 each; TARGETS="relay link" for some, KEEP=1 adds to the corpus
	@test build/fuzz/stamp -nt tests/fuzz/requirements.txt || { rm -rf build/fuzz/packages && $(BIN)/python -m pip install -q --disable-pip-version-check \
		--no-deps --require-hashes --target build/fuzz/packages -r tests/fuzz/requirements.txt && touch build/fuzz/stamp; }
	@PYTHONPATH=build/fuzz/packages $(BIN)/python tests/fuzz/run.py --seconds $(SECONDS) $(if $(KEEP),--keep) $(TARGETS)

check: setup ## format, lint, types, walls, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m "not slow" tests $(ARGS)

format: setup ## format and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## speed of the parts and of the whole
	@for f in bench/micro_*.py; do echo "== $$f"; $(BIN)/python $$f || exit 1; done

bench-tor: setup ## beside a local Tor network; QUICK=1 ends in about a minute
	@$(BIN)/python bench/tor.py $(if $(QUICK),--quick) $(ARGS)

bench-mixing: setup ## the mixer: cells a second, delay of its own, overload; QUICK=1 ends in about a minute
	@$(BIN)/python bench/mixing.py $(if $(QUICK),--quick) $(ARGS)

bench-profiles: setup ## profiles on a real network: speed, first bytes, own delay; QUICK=1 ends in about a minute
	@$(BIN)/python bench/profiles.py $(if $(QUICK),--quick) $(ARGS)

bench-directory: setup ## the directories' table: churn, liars, Sybils, each defence off in turn; QUICK=1 ends in about a minute
	@$(BIN)/python bench/directory.py $(if $(QUICK),--quick) $(ARGS)

bench-startup: setup ## from nothing to one certified view on every node; QUICK=1 ends in about a minute
	@$(BIN)/python bench/startup.py $(if $(QUICK),--quick) $(ARGS)

bench-transports: setup ## every transport: speed, CPU, beside other programs, over far and lossy paths; QUICK=1 ends in about a minute
	@$(BIN)/python bench/transports/run.py $(if $(QUICK),--quick) $(ARGS)

bench-attacks: setup ## attacks on a network with memory limits, beside honest users; QUICK=1 ends in about two minutes
	@$(BIN)/python bench/attacks/run.py $(if $(QUICK),--quick) $(ARGS)

bench-chaos: setup ## faults of every kind beside fetches, for half an hour; QUICK=1 ends in about three minutes
	@$(BIN)/python bench/chaos/run.py $(if $(QUICK),--quick) $(ARGS)

bench-anonymity: setup ## who can link whom: every figure of docs/explanation/anonymity.md; QUICK=1 ends in about a minute
	@$(BIN)/python bench/anonymity/run.py $(if $(QUICK),--quick) $(ARGS)

bench-work: setup ## what a place in a view costs: stamps, checks, floods, shares; QUICK=1 ends in about a minute
	@$(BIN)/python bench/work.py $(if $(QUICK),--quick) $(ARGS)

sim: setup ## simulate flows and who can link them; ARGS="--mix timed --interval 1 --seeds 20"
	@$(BIN)/phantomband sim $(ARGS)

testnet-up: setup ## start a test network in the background; NODES=6 ARGS="--mix timed"
	@$(BIN)/phantomband testnet up --nodes $(NODES) --detach $(ARGS)

testnet-down: setup ## stop it
	@$(BIN)/phantomband testnet down $(ARGS)

testnet-status: setup ## what runs
	@$(BIN)/phantomband testnet status $(ARGS)

protos: setup ## generate phantomband.proto again
	@$(BIN)/python common/build_protos.py

lock: setup ## write requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --upgrade $(LOCK_INPUTS) --group dev --output-file requirements.lock

wheels: setup ## build all packages as wheels into dist/
	@for p in common cli services/*/; do $(BIN)/uv build -q --no-sources --wheel --no-build-isolation --python $(BIN)/python --out-dir dist $$p || exit 1; done

images: setup ## build the container images
	@deploy/build.sh $(ARGS)

COMPOSE = $$(docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

compose-up: ## start compose.yaml's network in the background; make images first
	@$(COMPOSE) up --detach $(ARGS)

compose-down: ## stop it, and forget its keys
	@$(COMPOSE) down --volumes --remove-orphans $(ARGS)

compose-test: setup ## build the images, and test a network of containers
	@$(BIN)/python -m pytest -m docker tests $(ARGS)

clean: ## remove what was built
	@if [ -x $(BIN)/phantomband ]; then $(BIN)/phantomband testnet down --quiet || true; fi
	rm -rf $(VENV) dist build wheels .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache common/src/phantomband/proto
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
