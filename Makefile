# One set of entry points, for people and for CI. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)
C_FILES = $(wildcard csrc/*/*.c csrc/*/*.h)

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

# A stamp of its own: examples/quickstart makes the same environment, without what tests need. The
# newest pip comes first: those that Python 3.10 to 3.13 bring know no dependency groups.
$(VENV)/.built: pyproject.toml setup.py csrc/ffi_build.py $(C_FILES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e . --group dev
	@touch $@

build: $(VENV)/.built ## make the virtual environment with the package in it

servers: ## install the real servers and tools that tests use, where apt may
	@tools/install-servers

test: build servers ## run all tests, benchmarks once each included
	$(BIN)/python -m pytest -n $(JOBS)

lint: build ## check style, formatting, types and imports between rooms
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)
	@! grep -nE '^.{100,}' $(C_FILES) # comments, which clang-format leaves as they are
	$(BIN)/mypy
	$(BIN)/lint-imports

werror: build ## compile the C core with warnings as errors
	rm -rf build/werror
	LAYER_PACKER_WERROR=1 $(BIN)/python -m pip wheel --quiet --disable-pip-version-check \
		--no-deps --wheel-dir build/werror .

sanitize: ## run the C tests under address and undefined sanitizers
	$(MAKE) -C csrc/tests test-asan

fuzz: ## fuzz the C core for a short while
	$(MAKE) -C csrc/tests fuzz

deploy: build ## write deploy/ anew from the package's templates
	$(BIN)/layer-packer registry config -q --output deploy/kubernetes
	$(BIN)/layer-packer registry config -q --storage s3 --bucket layer-packer --output deploy/kubernetes
	$(BIN)/layer-packer registry config -q --for compose --output deploy

bench: build ## time every stage
	$(BIN)/python -m pytest benchmarks -o addopts= --benchmark-only --benchmark-columns=median,iqr,rounds

docs: build ## build the documentation site, warnings as errors
	$(BIN)/sphinx-build -q -W --keep-going -c docs -b html -d build/site-cache . build/site

report: build ## measure everything beside its peers, and write build/report.html
	$(BIN)/python -m benchmarks.report build/report.html

.PHONY: help build servers test lint werror sanitize fuzz deploy bench docs report
