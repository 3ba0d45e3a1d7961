# Each target works from a bare clone with Python 3.11 or newer and make: what it needs goes into .venv.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin

.PHONY: run test test-all lint format types build bench soak compare check clean

## run: the service on http://127.0.0.1:8000, counting in memory (RATE_LIMIT_BACKEND=redis for a fleet)
run: .venv/.installed
	$(BIN)/uvicorn app.main:app --port $(PORT)

## test: the whole suite, and the fast one on every other Python from 3.11 up that this machine has
test: .venv/.installed-dev
	HYPOTHESIS_PROFILE=thorough $(BIN)/pytest -m ""
	@for python in $$($(BIN)/python tools/interpreters.py); do $(MAKE) --no-print-directory test-on ON=$$python || exit 1; done

# One other interpreter: a venv of its own, and the fast suite.
.PHONY: test-on
test-on:
	@echo "fast suite on $(ON)"
	@test -d .venv-$(notdir $(ON)) || $(ON) -m venv .venv-$(notdir $(ON))
	@.venv-$(notdir $(ON))/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	.venv-$(notdir $(ON))/bin/pytest -q

## lint: format, lint and strict types
lint: .venv/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

## format: rewrite what lint would complain of
format: .venv/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

## build: wheel and sdist, each installed into an empty environment and tried
build: .venv/.installed-dev
	rm -rf build dist
	$(BIN)/python -m build --outdir dist
	for archive in dist/*.whl dist/*.tar.gz; do \
	  rm -rf build/empty && $(PYTHON) -m venv build/empty && \
	  build/empty/bin/python -m pip install --quiet --disable-pip-version-check $$archive && \
	  (cd build && empty/bin/python -c "from headgate import Limiter, SlidingWindow; \
	    limiter = Limiter(SlidingWindow(1, window=60)); assert limiter.allow('a') and not limiter.allow('a')") && \
	  build/empty/bin/python -m pip install --quiet --disable-pip-version-check "$$archive[redis]" && \
	  (cd build && empty/bin/python -c "from headgate.store.redis import RedisStore; \
	    RedisStore.from_url('redis://localhost')._scripts[True].source.index('sliding_window.lua')") && \
	  (cd build && ! empty/bin/headgate cases 2>needs && grep -q "pip install 'headgate.proof.'" needs) && \
	  build/empty/bin/python -m pip install --quiet --disable-pip-version-check "$$archive[proof]" && \
	  (cd build && empty/bin/headgate grade ../tests/proof/planted/correct_memory.py:SlidingWindow --html page.html \
	    --case correctness/limit && grep -q "<style" page.html) >/dev/null && \
	  echo "$$archive installs and runs" || exit 1; done

## bench: time and memory beside the peers and the floors; takes minutes, wants the machine to itself
bench: .venv/.installed-dev
	$(BIN)/python benchmarks/decisions.py

## soak: the proof kit on all planted faults and 100 times on each correct limiter, with a core kept busy; takes hours
soak: .venv/.installed-dev
	$(BIN)/python tools/soak.py --busy

## compare: the proof kit on Headgate and its peers, for docs/comparison.md; half an hour, wants the machine to itself
compare: .venv/.installed .venv-peers/.installed
	$(BIN)/python tools/compare.py

## check: all that CI runs
check: test lint build

clean:
	rm -rf .venv .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Headgate needs Python 3.11 or newer; $(PYTHON) \
	is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 ...")'
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/.installed-dev: requirements-dev.txt .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

# What the peers declare of redis-py keeps them from Headgate's: they have a venv of their own.
.venv-peers/.installed: benchmarks/peers/requirements.txt | .venv/.installed
	test -d .venv-peers || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers/requirements.txt
	touch $@
