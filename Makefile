# One entry per job; .ci/run calls the same ones.
#
#   make demo    the whole documented flow on this machine alone
#   make test    Rust, Python and interop tests
#   make lint    formatters, linters, type checkers, and the links of the documentation
#   make bench   the benchmarks
#   make callgrind   instructions of the hot functions; needs valgrind
#   make soak    the tests that take minutes
#   make fuzz    what strangers can send, guided by coverage: a minute an input, or P2P_FUZZ_SECONDS
#   make mutants plants fifteen bugs, one after the other: a check catches each
#   make docs    the documentation as a site, in build/site; every link in it leads somewhere
#   make reference   writes docs/reference/ anew, from the code
#   make browser  the dashboard in headless Chromium, which is installed for it
#   make frameworks  the agent frameworks, each in an environment of its own; FRAMEWORKS='crewai ag2' for some of them
#   make clean   removes what was built
#
# All of them share one target folder, one cargo profile (dev; its dependencies are optimised, see Cargo.toml) and one
# virtual environment, so that nothing is built twice. Stamps inside .venv make a second run start at once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TOOLS := $(VENV)/.tools-installed
NATIVE := $(VENV)/.native-built
TIMED := scripts/timed.sh

export VIRTUAL_ENV := $(CURDIR)/$(VENV)

# What pyo3 is built for must be the same in every step, or cargo builds pyo3 again at each change of it: clippy is
# told what `maturin develop` told cargo.
AS_MATURIN = PYO3_BUILD_EXTENSION_MODULE=1 \
	PYO3_CONFIG_FILE=$$(ls -t $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)/maturin/pyo3-config-*.txt | head -n 1)

RUST_SOURCES := Cargo.toml Cargo.lock $(shell find src skill -type f)
# The tests wait for the most part, so two share a core gladly. Those of a file share its relay.
SIDE_BY_SIDE := --numprocesses 3 --dist loadfile
NEXTEST := $(shell command -v cargo-nextest)
DENY := $(shell command -v cargo-deny)

# A virtual environment whose interpreter has moved or gone is made again.
ifeq ($(shell $(BIN)/python -c 'print("alive")' 2>/dev/null),)
$(TOOLS): always
endif

.PHONY: demo test lint bench callgrind soak fuzz mutants browser docs reference frameworks clean always
.DEFAULT_GOAL := test

demo: $(NATIVE)
	$(BIN)/p2p-comm demo

test: $(TOOLS)
	@$(TIMED) 'Rust tests' cargo $(if $(NEXTEST),nextest run,test) --locked
	@$(MAKE) --no-print-directory --quiet $(NATIVE)
	@$(TIMED) 'Python and interop tests' $(BIN)/python -m pytest $(SIDE_BY_SIDE) tests/python tests/interop

lint: $(TOOLS)
	@$(TIMED) 'rustfmt' cargo fmt --check
	@$(TIMED) 'ruff' $(BIN)/ruff check .
	@$(TIMED) 'ruff format' $(BIN)/ruff format --check .
	@$(TIMED) 'clippy' cargo clippy --locked --all-targets -- -D warnings
	@$(MAKE) --no-print-directory --quiet $(NATIVE)
	@$(AS_MATURIN) $(TIMED) 'clippy with python' cargo clippy --locked --all-targets --features python -- -D warnings
	@$(TIMED) 'mypy' $(BIN)/mypy
	@$(TIMED) 'stubtest' $(BIN)/stubtest p2p_comm._native
	@$(if $(DENY),$(TIMED) 'cargo deny' scripts/deny.sh,echo 'cargo deny: not installed, not run')
	@$(MAKE) --no-print-directory --quiet docs

bench: $(TOOLS)
	@$(TIMED) 'benchmarks' scripts/bench.sh

callgrind:
	@$(TIMED) 'instructions' scripts/callgrind.sh

soak: $(NATIVE)
	@$(TIMED) 'nostr-rs-relay' scripts/install-nostr-rs-relay.sh
	@$(TIMED) 'soak tests' $(BIN)/python -m pytest -m soak

fuzz:
	@$(TIMED) 'fuzzing' scripts/fuzz.sh

# Needs strace, as `make soak` does; the program with the bugs is in build/mutants, and .venv has none.
mutants: $(TOOLS)
	@$(TIMED) 'planted bugs' $(BIN)/python scripts/mutants.py

# An environment of its own: what builds a site is not what tests need.
SITE := build/site-tools
docs: $(SITE)/.installed
	@$(TIMED) 'site' $(SITE)/bin/mkdocs build --strict

$(SITE)/.installed: docs/requirements.txt
	rm -rf $(SITE)
	$(PYTHON) -m venv $(SITE)
	@$(TIMED) 'site tools' $(SITE)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

reference: $(NATIVE)
	@$(BIN)/python scripts/reference.py

browser: $(NATIVE)
	@$(TIMED) 'chromium' scripts/install-chromium.sh
	@$(TIMED) 'dashboard' $(BIN)/python -m pytest tests/python/test_dashboard_page.py

frameworks: $(NATIVE)
	@$(TIMED) 'frameworks' scripts/frameworks.sh $(FRAMEWORKS)

clean:
	cargo clean
	rm -rf $(VENV) build tests/interop/node_modules python/p2p_comm/_native*.so
	rm -rf .pytest_cache .mypy_cache .ruff_cache

$(TOOLS): requirements-dev.txt
	@scripts/prerequisites.sh $(PYTHON)
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	@$(TIMED) 'developer tools' $(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@

# An editable install: the Python files are used where they are, so only Rust sources make it stale.
$(NATIVE): $(TOOLS) pyproject.toml $(RUST_SOURCES)
	@$(TIMED) 'extension module' $(BIN)/maturin develop --quiet --locked
	@touch $@
