# make demo: train on real digits and look at the samples.   make test: the whole test suite.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
# Containers often forbid bytecode files; the tests start many processes, which would compile every module each time.
unexport PYTHONDONTWRITEBYTECODE

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet

.PHONY: demo test scoreboard table reproduce lint format lock clean

# The demo needs only what training needs; where everything is installed already, that will do.
demo: $(or $(wildcard $(VENV)/.installed),$(VENV)/.installed-train)
	$(BIN)/equisct-train digits

# NumPy's linear algebra would wait for its other threads while the other workers have their cores.
test: $(VENV)/.installed
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# Every row of docs/reliability.md at full size, and the table there.
scoreboard: $(VENV)/.installed
	rm -f .cache/scoreboard.jsonl; mkdir -p .cache
	-EQUISCT_FULL=1 EQUISCT_SCOREBOARD=$(CURDIR)/.cache/scoreboard.jsonl $(BIN)/python -m pytest tests/reliability -q
	$(BIN)/python tests/reliability/scoreboard.py .cache/scoreboard.jsonl

# Every method of the paper's Table 1 at one small size, in about BUDGET minutes; goes on where it was stopped.
BUDGET = 120
table: $(VENV)/.installed
	$(BIN)/python benchmarks/table.py --budget $(BUDGET) --write

# iCT against iCT with a score head, five seeds each, and the ablations, into docs/reproduction.md: about 80 minutes.
reproduce: $(VENV)/.installed
	$(BIN)/python benchmarks/reproduction.py --write

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing everything that development needs, from wheels: about a minute"
	$(PYTHON) -m venv $(VENV)
	$(PIP) --no-compile --require-hashes -r constraints.txt
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-train: pyproject.toml constraints-train.txt
	@echo "installing what training needs, from wheels: about a minute"
	$(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes -r constraints-train.txt
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

# Pinned, hashed sets for Python 3.11 to 3.13, of training and of everything; they name no index.
lock:
	$(COMPILE) pyproject.toml --extra dev --output-file constraints.txt
	printf 'hatchling\neditables\n' | $(COMPILE) pyproject.toml - --extra train --constraint constraints.txt \
		--output-file constraints-train.txt

clean:
	rm -rf $(VENV) .cache
