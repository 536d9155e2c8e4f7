# make demo: train on real digits and look at the samples.   make test: the whole test suite.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax

.PHONY: demo test scoreboard lint format lock clean

demo: $(VENV)/.installed
	$(BIN)/equisct-train digits

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2

# Every row of docs/reliability.md at full size, and the table there.
scoreboard: $(VENV)/.installed
	rm -f .cache/scoreboard.jsonl; mkdir -p .cache
	-EQUISCT_FULL=1 EQUISCT_SCOREBOARD=$(CURDIR)/.cache/scoreboard.jsonl $(BIN)/python -m pytest tests/reliability -q
	$(BIN)/python tests/reliability/scoreboard.py .cache/scoreboard.jsonl

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# The pinned, hashed set of every extra, for Python 3.11 to 3.13; names no index.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet \
		pyproject.toml --extra dev --output-file constraints.txt

clean:
	rm -rf $(VENV) .cache
