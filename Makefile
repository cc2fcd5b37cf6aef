# make demo   train the whole grid on real digits and show the answer
# make test   lint, types, tests
# make test-system   the ways into a cluster, one that grows: Debian, as root, with namespaces
# make chaos  kill, freeze and damage a cluster at random moments, for 40 minutes
# make bench  this program beside plain Ray Tune
# Each creates .venv if needed; each can be run again at once.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STORE ?= results
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-system chaos bench clean

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	@echo "installing into $(VENV); the first time that is about 5 GB and some minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -e .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(INSTALL) -e .[test]
	touch $@

demo: $(VENV)/installed
	$(BIN)/layerwise run digits --store $(STORE) --report

test: $(VENV)/installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

$(VENV)/installed-system: $(VENV)/installed-test
	$(INSTALL) -e .[test,system]
	touch $@

test-system: $(VENV)/installed-system
	tests/system/run $(BIN)/python

# As root in namespaces of its own: disks that it mounts and processes that it starts end with it.
APART := $(if $(filter 0,$(shell id -u)),unshare --mount --pid --fork --kill-child --mount-proc)

chaos: $(VENV)/installed-test
	$(APART) $(BIN)/python -m tests.chaos.suite $(CHAOS)

bench: $(VENV)/installed
	$(BIN)/python -m benchmarks.versus_tune $(BENCH)

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
