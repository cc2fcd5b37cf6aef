# make demo          train the complete grid on real digits and show the answer
# make test          lint, types, import directions, documentation, tests with coverage
# make docs          build the documentation into build/site
# make test-system   tests of the ways into a cluster; Debian, as root, with namespaces
# make chaos         kill, freeze and damage a cluster at random moments for 50 minutes
# make bench         this program beside plain Ray Tune
# make lock          choose the versions of all dependencies again, after a change of setup.cfg
# Each target creates .venv if needed, and can be repeated at once.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STORE ?= results
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCKED := $(PIP) install --quiet --require-hashes --no-deps
TORCH := $(shell sed -n 's/^torch==\([0-9.]*\).*/\1/p' requirements/torch.lock)

.PHONY: demo test docs test-system chaos bench lock clean

# A torch of the locked version with a local label, such as 2.15.0+cpu, stays: it needs no CUDA.
$(VENV)/installed: setup.cfg pyproject.toml requirements/torch.lock requirements/run.lock
	@echo "installing into $(VENV); the first time that is about 5 GB and some minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) list --format=freeze | grep '^torch==$(TORCH)+' || \
		$(LOCKED) -r requirements/torch.lock
	$(LOCKED) -r requirements/run.lock
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/installed-test: $(VENV)/installed requirements/test.lock
	$(LOCKED) -r requirements/test.lock
	touch $@

demo: $(VENV)/installed
	$(BIN)/layerwise run digits --store $(STORE) --report

docs: $(VENV)/installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

test: $(VENV)/installed-test docs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/typos
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder \
		--durations 30 --durations-min 5 --cov --cov-fail-under=96

test-system: $(VENV)/installed-test
	tests/system/run $(BIN)/python

# Root gets namespaces of its own: mounted disks and started processes end with them.
APART := $(if $(filter 0,$(shell id -u)),unshare --mount --pid --fork --kill-child --mount-proc)

chaos: $(VENV)/installed-test
	$(APART) $(BIN)/python -m tests.chaos.suite $(CHAOS)

bench: $(VENV)/installed
	$(BIN)/python -m benchmarks.versus_tune $(BENCH)

lock: $(VENV)/installed
	$(PIP) install --quiet uv==0.13.9
	$(BIN)/python requirements/lock.py $(LOCK)

clean:
	rm -rf build dist *.egg-info .coverage* .pytest_cache .mypy_cache .ruff_cache
