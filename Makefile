# make run          set everything up, evaluate six methods (other tasks and methods: ARGS="--help")
# make serve        set everything up, serve the bundled reasoner to OpenAI's clients (ARGS="--help")
# make test         set everything up, run the tests in two processes (in one: ARGS="tests/search -x")
# make check        formatting, lint, layers, types
# make format       put the formatting right
# make fuzz         judge 10,000 random pairs of answers (ARGS="--pairs 1000 --seed 1")
# make null         how often the intervals of reports err where nothing differs (half an hour)
# make bench        tokens per second while branching, of plain sampling (ARGS="--help")
# make seconds      seconds until searches pass as many prompts as Full Parallel (needs a quiet machine;
#                   another folder than runs/seconds: RUN=…)
# make faults       what becomes of runs, and of prompts, when something goes wrong (40 minutes)
# make fuzz-endpoint  6,000 malformed and hostile requests to the endpoint (ten minutes)
# make load         1,000 requests to the endpoint at 200 at a time, with faults (needs a quiet machine)
# make overhead     the endpoint against its SGLang server: throughput, n = 16 (needs a quiet machine)
# make proof        methods and peers on a benchmark within a number of tokens, and a page to post
#                   (SERVER=http://localhost:30000 ARGS="--task gsm8k --tokens 5000000")
# make peers        vote against other projects' self-consistency (needs a quiet machine)
# make router       what SGLang's router passes on to the embedded runtime (two minutes)
# make clients      what OpenAI's clients, LangChain, DSPy, lm-eval, inspect_ai do with the endpoint
# make train        train the bundled reasoner anew
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
# A server's three processes import SGLang, which takes twice as long where no bytecode is kept.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run serve test check format fuzz fuzz-endpoint null bench seconds faults load overhead peers \
	proof router clients train
FIRST_METHODS := parallel,eager_init,eager_adapt,eager,best_first,vote
FIRST_VOTE := --vote-rule share:0.8:3 --vote-weights probability
run: .venv/installed
	$(BIN)/python evals/run.py $(or $(ARGS),--limit 72 --concurrency 72 --methods $(FIRST_METHODS) $(FIRST_VOTE))

serve: .venv/installed
	$(BIN)/python -m eager_sgl.server \
		$(if $(filter --server% --model%,$(ARGS)),,--model evals/reasoner/model) $(ARGS)

# A type of SWIG's would be warned of after pytest's summary.
test: export PYTHONWARNINGS := ignore:builtin type
# Threads of several processes that wait for each other cost more than they gain.
test: export OMP_NUM_THREADS := 1
test: .venv/installed .venv/gym
	$(BIN)/python -m pytest $(or $(ARGS),--numprocesses 2 --no-loadscope-reorder)

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

fuzz-endpoint: .venv/installed
	$(BIN)/python -m tests.server.fuzz $(ARGS)

null: .venv/installed
	OPENBLAS_NUM_THREADS=1 $(BIN)/python evals/comparison/null_simulation.py $(ARGS)

bench: .venv/installed
	$(BIN)/python evals/bench.py $(ARGS)

seconds: RUN ?= runs/seconds
seconds: .venv/installed
	$(BIN)/python evals/run.py --methods parallel,best_first,trie_parallel --temperature 1 \
		--max-sequences 48 --limit 80 --seeds 45,46,47 --output-dir $(RUN) $(ARGS)
	$(BIN)/python evals/comparison/seconds.py $(RUN)

faults: .venv/installed
	$(BIN)/python -m tests.faults.table
	$(BIN)/python -m tests.faults.client_table
	$(BIN)/python -m tests.faults.gate_table

load: .venv/installed
	$(BIN)/python -m tests.load $(ARGS)

overhead: .venv/installed
	$(BIN)/python -m evals.throughput.endpoint $(ARGS)

proof: .venv/installed
	$(BIN)/python -m evals.proof $(if $(SERVER),--server $(SERVER)) $(ARGS)

peers: .venv/installed
	$(BIN)/python -m evals.peers $(ARGS)

router: .venv/installed
	$(BIN)/python -m tests.integration.router_trial

clients: .venv/installed
	$(BIN)/python -m tests.integration.clients.table $(ARGS)

train: .venv/installed
	$(BIN)/python evals/reasoner/train.py $(ARGS)

.venv/installed: pyproject.toml constraints.txt
	$(if $(PYTHON),,$(error Python 3.11 or newer is needed; name it with make PYTHON=/path/to/python))
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt \
		--editable '.[evals]' --group dev
	touch $@

# The tests of reasoning-gym are skipped where there is no C compiler to install it with.
.venv/gym: .venv/installed
	-$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt \
		--editable '.[gym]'
	touch $@
