# make run          set everything up, evaluate four methods on a task (ARGS="--help")
# make serve        set everything up, serve the bundled reasoner to OpenAI's clients (ARGS="--help")
# make test         set everything up, run the tests
# make check        formatting, lint, layers, types
# make format       put the formatting right
# make fuzz         judge 10,000 random pairs of answers (ARGS="--pairs 1000 --seed 1")
# make null         how often the intervals of reports err where nothing differs (half an hour)
# make faults       what becomes of runs, and of prompts, when something goes wrong (40 minutes)
# make train        train the bundled reasoner anew
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.PHONY: run serve test check format fuzz null faults train
run: .venv/installed
	$(BIN)/python evals/run.py $(ARGS)

serve: .venv/installed
	$(BIN)/python -m eager_sgl.server \
		$(if $(filter --server% --model%,$(ARGS)),,--model evals/reasoner/model) $(ARGS)

test: .venv/installed
	$(BIN)/python -W "ignore:builtin type" -m pytest $(ARGS)

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fuzz: .venv/installed
	$(BIN)/python -m tests.evals.grading.fuzz $(ARGS)

null: .venv/installed
	OPENBLAS_NUM_THREADS=1 $(BIN)/python evals/comparison/null_simulation.py $(ARGS)

faults: .venv/installed
	$(BIN)/python -m tests.faults.table
	$(BIN)/python -m tests.faults.client_table

train: .venv/installed
	$(BIN)/python evals/reasoner/train.py $(ARGS)

.venv/installed: pyproject.toml constraints.txt
	$(if $(PYTHON),,$(error Python 3.11 or newer is needed; name it with make PYTHON=/path/to/python))
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt \
		--editable '.[evals]' --group dev
	touch $@
