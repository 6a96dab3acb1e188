PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test lint clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,io,track,metrics]"
	touch $(STAMP)

demo: install
	$(BIN)/lawful demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A process per core, of one thread each: two that share their cores slow one another tenfold.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile

clean:
	rm -rf $(VENV) demo runs studies report
