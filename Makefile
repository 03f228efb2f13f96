# Everything runs in an environment of its own, .venv, made on the first call.
# Stamp files make a second call quick; edit setup.cfg or constraints.txt and the install runs again.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Two workers: a second core helps, a second thread in models this small does not.
PYTEST_ARGS ?= -n 2
VENV := .venv
INSIGHTS := .venv-insights
BIN := $(VENV)/bin
# The constraints keep torch at the pinned version: left free, pip may take a build of several GB.
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable
DECLARED := setup.cfg pyproject.toml constraints.txt

.PHONY: demo test insights-test lint format docs tutorials bench clean distclean

demo: $(VENV)/.text  ## explain tokens of the shipped models, write out/demo.png, out/text.html and out/text.png
	$(BIN)/captum-ultra demo --output out

test: $(VENV)/.test  ## all tests and the examples in the docstrings
	$(BIN)/python -m pytest $(PYTEST_ARGS)

insights-test: $(INSIGHTS)/.made  ## Captum Insights, with the last captum that ships it, over HTTP
	$(INSIGHTS)/bin/python -m pytest tests/insights/test_captum_insights.py

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs  ## the pages as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir build/site

tutorials: $(VENV)/.test  ## run the notebooks and keep their pictures in them
	$(BIN)/python tools/run_tutorials.py tutorials/*.ipynb

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks.latent_tokens

clean:
	rm -rf build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

distclean: clean
	rm -rf $(VENV) $(INSIGHTS)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.text: $(DECLARED) | $(BIN)/python
	$(INSTALL) ".[text]"
	@touch $@

$(VENV)/.test: $(DECLARED) | $(BIN)/python
	$(INSTALL) ".[test]"
	@touch $@ $(VENV)/.text

$(VENV)/.docs: $(DECLARED) | $(BIN)/python
	$(INSTALL) ".[docs]"
	@touch $@ $(VENV)/.text

$(INSIGHTS)/.made: $(DECLARED) constraints-insights.txt
	$(PYTHON) -m venv $(INSIGHTS)
	$(INSIGHTS)/bin/python -m pip install --quiet --constraint constraints-insights.txt --editable . \
		flask flask-compress pytest
	@touch $@
