# `make run` and `make test` set everything up; `make help` lists the rest.
.DEFAULT_GOAL := help
PYTHON ?= python3
PY := .venv/bin/python
# One repository setting feeds the badges and the notebooks' first cells: make badges REPO=owner/name REF=main
REPO ?= $(shell sed -n 's/^repo = "\(.*\)"/\1/p' pyproject.toml)
REF ?= $(shell sed -n 's/^ref = "\(.*\)"/\1/p' pyproject.toml)
# A plain run is the embedded one: no network, no account. TUTORIAL_PROFILE=quick or full goes further.
export TUTORIAL_PROFILE ?= sample
export TUTORIAL_DATA TUTORIAL_ARTIFACTS TUTORIAL_HUB_REPO
export PYTHONDONTWRITEBYTECODE = 1

.PHONY: help run test exercises preflight browser test-space test-colab sample-report bench lab app refresh lint lock badges clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

# The stamp is written last, so an interrupted installation is completed by the next call.
.venv/installed: requirements.txt
	test -x $(PY) || $(PYTHON) -m venv .venv
	@echo "Installing the packages of requirements.txt into .venv, 2.5 GB on disk: some minutes without a word."
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

run: .venv/installed  ## execute the series and print the results
	$(PY) -m helpers run

test: .venv/installed  ## every test, the notebooks under nbval included
	.venv/bin/ruff check . && .venv/bin/ruff format --check .
	$(PY) -m pytest --nbval -n 2 --no-loadscope-reorder --cov=helpers --cov-report=term --durations=8 tests notebooks

browser:  ## install Debian's Chromium, which the app's browser tests drive
	apt-get install --yes chromium || sudo apt-get install --yes chromium

test-space: .venv/installed  ## the app in an environment that holds only the Space's packages (minutes)
	TUTORIAL_SPACE_VENV=1 $(PY) -m pytest tests/test_app.py -k runs_alone

# Colab's versions, each without its dependencies as on Colab; torch is the lock's, and has its own.
.venv-colab/installed: tests/colab_runtime.txt requirements.txt
	test -x .venv-colab/bin/python || $(PYTHON) -m venv .venv-colab
	@echo "Installing what Colab has into .venv-colab, 1.8 GB on disk: some minutes without a word."
	.venv-colab/bin/python -m pip install --quiet --disable-pip-version-check --constraint tests/colab_runtime.txt $$(grep '^torch==' requirements.txt)
	.venv-colab/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/colab_runtime.txt
	touch $@

test-colab: .venv/installed .venv-colab/installed  ## each notebook alone, with Colab's versions (20 to 50 minutes): make test-colab [ONLY=02_tokenization]
	TUTORIAL_COLAB_VENV=.venv-colab $(PY) -m pytest -s -rs tests/test_colab.py tests/test_quick.py $(if $(ONLY),-k $(ONLY))

sample-report: .venv/installed  ## measure models on the embedded reviews: make sample-report [REAL=reviews.parquet]
	$(PY) tests/sample_report.py $(REAL)

bench: .venv/installed  ## measure training and inference against the usual way: make bench [ARGS="--reviews 50 --repetitions 1", or "--device cuda"]
	$(PY) tests/benchmark.py $(ARGS)

lab: .venv/installed  ## open JupyterLab on the notebooks
	.venv/bin/jupyter lab --notebook-dir=. notebooks/01_data.ipynb

app: .venv/installed  ## serve the trained model in the Streamlit app
	$(PY) helpers/space/serve.py --server.address localhost --browser.gatherUsageStats false

refresh: .venv/installed  ## re-execute the notebooks, store their outputs, rewrite README's table
	.venv/bin/ruff check --fix . && .venv/bin/ruff format .
	$(PY) -m helpers refresh

lint: .venv/installed  ## check the style of all code
	.venv/bin/ruff check . && .venv/bin/ruff format --check .

lock:  ## resolve environment.yml into requirements.txt
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet pip-tools pyyaml
	.venv-lock/bin/python -c "import yaml; print(*yaml.safe_load(open('environment.yml'))['dependencies'][-1]['pip'], sep='\n')" > .venv-lock/requirements.in
	cd .venv-lock && CUSTOM_COMPILE_COMMAND="make lock" bin/pip-compile --quiet --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-annotate --output-file=requirements.txt requirements.in
	sed 's/+cpu$$//' .venv-lock/requirements.txt > requirements.txt
	rm -rf .venv-lock

exercises: .venv/installed  ## copy the exercises of notebooks/solutions into the notebooks
	$(PY) -m helpers exercises

preflight: .venv/installed  ## check whether this machine is ready for the series
	$(PY) -m helpers preflight

badges: .venv/installed  ## write the Colab badges: make badges REPO=owner/name REF=main
	$(PY) -m helpers badges --repo $(REPO) --ref $(REF)

clean:  ## remove artifacts, caches and the virtual environments, which the next call installs anew
	rm -rf artifacts .venv .venv-colab .venv-lock .pytest_cache .ruff_cache .coverage
	find . \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
