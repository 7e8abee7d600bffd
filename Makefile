# Every target sets up what it needs in .venv; nothing is installed twice.
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.installed
SETUP_DEVELOPMENT := $(VENV)/.installed-development
# The demo is an experiment; DEMO takes further overrides, for example DEMO="trainer.steps=100".
DEMO :=

.PHONY: demo test lint bench soak clean

demo: $(SETUP)
	$(BIN)/softscribe prepare corpus=demo
	$(BIN)/softscribe train experiment=demo $(DEMO)
	$(BIN)/softscribe evaluate run=runs/demo

test: $(SETUP_DEVELOPMENT)
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(SETUP_DEVELOPMENT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(SETUP_DEVELOPMENT)
	$(BIN)/python scripts/benchmark_alignment.py
	$(BIN)/python scripts/benchmark_features.py

soak: $(SETUP_DEVELOPMENT)
	$(BIN)/python scripts/soak.py
	$(BIN)/pytest --soak -m soak
	FUZZ_EXAMPLES=2000 $(BIN)/pytest tests/fuzz -k readers

$(VENV)/pyvenv.cfg:
	python3 -m venv $(VENV)

$(SETUP): pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(SETUP_DEVELOPMENT): $(SETUP)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
