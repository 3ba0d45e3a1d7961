# Each target works from a bare clone with Python 3.11 or newer and make, and installs its needs into .venv.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin

# Many tests mostly wait, so a few run at once; but only one if they all use the server of SLUICEGATE_TEST_REDIS_URL.
WORKERS ?= $(if $(SLUICEGATE_TEST_REDIS_URL),0,3)
WORKERS_OF_LONG_TESTS ?= $(if $(SLUICEGATE_TEST_REDIS_URL),0,2)

# Two targets at once, each printing its output in one piece at its end; in turn with a make that cannot do that.
SIDE_BY_SIDE := $(if $(SLUICEGATE_TEST_REDIS_URL),,$(if $(filter output-sync,$(.FEATURES)),-j2 --output-sync=target))

.PHONY: run test test-rest lint format types build bench soak faults compare compare-web check clean

## run: the service on http://127.0.0.1:8000, counting in memory (RATE_LIMIT_BACKEND=redis for a fleet)
run: .venv/.installed
	$(BIN)/uvicorn app.main:app --port $(PORT)

## test: what can be decided quickly, on one server and one interpreter; under three minutes on two cores
test: .venv/.installed-dev
	@echo "the fast tests, under three minutes on two cores; make check runs all that there are, in some twenty"
	@SLUICEGATE_TEST_ONE_SERVER=1 $(BIN)/pytest -n $(WORKERS)

## test-rest: the slow tests, more thorough properties, and every kind of server; then other Pythons from 3.11 up, and the oldest FastAPI
test-rest: .venv/.installed-dev
	SLUICEGATE_TEST_REST=1 HYPOTHESIS_PROFILE=thorough $(BIN)/pytest -m "" -n $(WORKERS_OF_LONG_TESTS)
	others=$$($(BIN)/python tools/interpreters.py) && \
	  $(MAKE) --no-print-directory $(SIDE_BY_SIDE) test-others OTHERS="$$(echo $$others)"

.PHONY: test-others
test-others: $(addprefix test-on/,$(OTHERS)) test-web-on-oldest-fastapi ;

# The fast tests of the library and its pipelines on one other interpreter, in its own venv; what servers say is the same.
test-on/%:
	@echo "fast suite on $*"
	@test -d .venv-$(notdir $*) || $* -m venv .venv-$(notdir $*)
	@.venv-$(notdir $*)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@SLUICEGATE_TEST_ONE_SERVER=1 .venv-$(notdir $*)/bin/pytest -q -p no:cacheprovider \
	  --ignore=tests/proof --ignore=tests/tools --ignore=tests/service --ignore=tests/faults/test_refusals.py

# The fast tests of the web layer and of the pytest plugin on the oldest FastAPI, Starlette and pytest, in a venv of their
# own. Of anyio they use what is deprecated by now.
.PHONY: test-web-on-oldest-fastapi
test-web-on-oldest-fastapi:
	@echo "web tests on the oldest FastAPI, Starlette and pytest"
	@test -d .venv-oldest-fastapi || $(PYTHON) -m venv .venv-oldest-fastapi
	@.venv-oldest-fastapi/bin/python -m pip install --quiet --disable-pip-version-check \
	  -r requirements.txt -r requirements-oldest.txt
	@SLUICEGATE_TEST_ONE_SERVER=1 .venv-oldest-fastapi/bin/pytest -q -p no:cacheprovider -W ignore::DeprecationWarning \
	  tests/web tests/testing

## lint: format, lint and strict types
lint: .venv/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

## format: fix what lint complains about, where it can be fixed automatically
format: .venv/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

## build: wheel and sdist in dist/, each tried in an empty environment
build: .venv/.installed-dev
	rm -rf build dist
	$(BIN)/python -m build --outdir dist
	for archive in dist/*.whl dist/*.tar.gz; do \
	  rm -rf build/empty && $(PYTHON) -m venv build/empty && \
	  build/empty/bin/python -m pip install --quiet --disable-pip-version-check $$archive && \
	  (cd build && empty/bin/python -c "from sluicegate import Limiter, SlidingWindow; \
	    limiter = Limiter(SlidingWindow(1, window=60)); assert limiter.allow('a') and not limiter.allow('a')") && \
	  build/empty/bin/python -m pip install --quiet --disable-pip-version-check "$$archive[redis]" && \
	  (cd build && empty/bin/python -c "from sluicegate._stores.redis.store import RedisStore; \
	    RedisStore.from_url('redis://localhost')._scripts.decide.source.index('fixed_window.lua')") && \
	  (cd build && empty/bin/sluicegate --help >/dev/null && empty/bin/sluicegate --version >/dev/null && \
	    { empty/bin/sluicegate grade 2>missing; test $$? -eq 2; } && grep -q "pip install 'sluicegate.proof.'" missing) && \
	  build/empty/bin/python -m pip install --quiet --disable-pip-version-check "$$archive[proof]" && \
	  (cd build && empty/bin/sluicegate grade ../tests/proof/seeded/correct_memory.py:SlidingWindow --html page.html \
	    --case correctness/limit && grep -q "<style" page.html) >/dev/null && \
	  echo "$$archive installs and runs" || exit 1; done

## bench: time and memory beside the peers and the floors; ten minutes, on an idle machine (BENCH=--quick for a trial)
bench: .venv/.installed-dev
	$(BIN)/python benchmarks/bench.py $(BENCH)

## soak: the proof kit on all seeded faults and 100 times on each correct limiter, with one core kept busy; takes hours
soak: .venv/.installed-dev
	$(BIN)/python tools/soak.py --busy

## faults: every fault of docs/reliability.md, on real servers; six minutes, on an idle machine (FAULTS="--soak 600")
faults: .venv/.installed-dev
	$(BIN)/python tools/reliability.py $(FAULTS)

## compare: the proof kit on Sluicegate and its peers, for docs/comparison.md; half an hour, on an idle machine
compare: .venv/.installed .venv-peers/.installed compare-web
	$(BIN)/python tools/compare.py

## compare-web: Sluicegate and its peers in FastAPI, for the section of docs/comparison.md on it; two minutes
compare-web: .venv/.installed .venv-web-peers/.installed
	$(BIN)/python tools/web_traps.py

## check: all that CI runs; some twenty minutes on two cores
check: test lint test-rest build

clean:
	rm -rf .venv .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Sluicegate needs Python 3.11 or newer; $(PYTHON) \
	is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 ...")'
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

# The two lines of fastapi-limiter have one name: the older one, which tests compare as well, gets a folder of its own.
.venv/.installed-dev: requirements-dev.txt .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
	  --target .venv/fastapi-limiter-0.1 fastapi-limiter==0.1.6
	touch $@

# The peers require an older redis-py than Sluicegate, so they have a venv of their own.
.venv-peers/.installed: benchmarks/peers/requirements.txt | .venv/.installed
	test -d .venv-peers || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers/requirements.txt
	touch $@

# The peers in FastAPI, beside the web stack that Sluicegate is tested on.
.venv-web-peers/.installed: benchmarks/web_apps/requirements.txt | .venv/.installed
	test -d .venv-web-peers || $(PYTHON) -m venv .venv-web-peers
	.venv-web-peers/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/web_apps/requirements.txt
	touch $@
