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
	PYTHONWARNINGS='ignore:Editable installation' \
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
	$(BIN)/layer-packer registry config -q --page docker://registry.layer-packer.svc/layer-packer/base --output deploy/kubernetes
	$(BIN)/layer-packer registry config -q --for compose --output deploy

bench: build ## time every stage
	$(BIN)/python -m pytest benchmarks -o addopts= --benchmark-only --benchmark-columns=median,iqr,rounds

docs: build ## build the documentation site, warnings as errors
	$(BIN)/sphinx-build -q -W --keep-going -c docs -b html -d build/site-cache . build/site

# Releasing has tools of its own, in an environment of its own.
RELEASE_BIN = build/release-env/bin
build/release-env/.built: pyproject.toml
	$(PYTHON) -m venv build/release-env
	$(RELEASE_BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(RELEASE_BIN)/python -m pip install --quiet --disable-pip-version-check --group release
	@touch $@

wheels: build/release-env/.built ## build the sdist and the Linux wheels into dist/, twice, and compare
	$(RELEASE_BIN)/python tools/wheels.py --twice

standalone: build/release-env/.built ## build what runs without an installation into dist/ (after wheels)
	$(RELEASE_BIN)/python tools/build_standalone.py

# With the extras that the image, the .pyz and the frozen program hold.
sbom: build/release-env/.built ## list all that a wheel brings, as CycloneDX (after wheels)
	$(PYTHON) -m venv --clear build/sbom-env
	$(RELEASE_BIN)/python -m pip --python build/sbom-env/bin/python install --quiet \
		--disable-pip-version-check --only-binary=:all: --find-links dist 'layer-packer[serve,verify]'
	$(RELEASE_BIN)/cyclonedx-py environment build/sbom-env/bin/python --output-reproducible \
		--pyproject pyproject.toml --output-file dist/layer-packer.cdx.json

IMAGE_BASE ?= docker.io/library/python:3.13-slim
image: ## build the container image by buildah (after wheels)
	buildah build --isolation chroot --build-arg BASE=$(IMAGE_BASE) --tag layer-packer .

# OPTIONS=--rehearse goes on where the texts do not name this version yet.
release-check: build/release-env/.built ## build, check and test all of a release here: VERSION=1.2.3
	$(RELEASE_BIN)/python tools/release_check.py $(OPTIONS) $(VERSION)

report: build ## measure everything beside its peers, and write build/report.html
	$(BIN)/python -m benchmarks.report build/report.html

.PHONY: help build servers test lint werror sanitize fuzz deploy bench docs report wheels \
	standalone sbom image release-check
