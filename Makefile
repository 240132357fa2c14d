# make demo        on a fresh machine: environment, spoken corpus, training, error rates, pictures
# make demo-ocr    the same for images: handwritten digits and printed lines, no data
# make test        the whole of pytest, doctests included
# make test-oldest  the library's own tests with the oldest PyTorch, Numba and NumPy that it supports, and Python 3.10 where there is one
# make test-newest  the same with the newest of everything
# make faults      what takes minutes: recipes that are killed a hundred times, eight processes that start cold at once
# make constraints  write down the versions that make test has installed, for .ci/run to install them again
# make fuzz        100,000 calls of the public functions, drawn by a coverage-guided fuzzer, and what each must give
# make bounds      many of the tests, with every index and every vector of the kernels checked
# make test-models  Hugging Face's, SpeechBrain's and Lightning's training with patch_torch and without
# make lint        ruff and mypy
# make docs        run the pages of docs/: their pictures, and what they print
# make bench       every peer that installs, on the CPU and on a GPU where there is one; writes docs/benchmarks.md
# make bench-cpu   the CPU's part of it with what is installed; writes benchmarks/results and figures
# make bench-decode  search, alignment and first use next to the decoders and aligners on PyPI; writes benchmarks/results/decode.*
# make bench-head  the fused head next to a projection and a loss, some minutes; writes benchmarks/results/head.*
# make gpu         the next two, meant to take less than 8 minutes once everything is installed
# make test-gpu    every test of losses and alignments on CUDA tensors, and what only a GPU can show
# make bench-gpu   time, host time, memory and kernels next to PyTorch, cuDNN, optax and torchaudio; writes benchmarks/results/gpu.*
# make sanitize    memcheck and racecheck of compute-sanitizer over each kernel, where CUDA's toolkit is installed
# make clean       remove what the above made, but for results

PYTHON ?= python3
VENV ?= .venv
BIN := $(abspath $(VENV))/bin

.DEFAULT_GOAL := help
.PHONY: help demo demo-ocr test fuzz bounds test-oldest test-newest faults constraints test-models lint docs bench bench-cpu bench-decode bench-head gpu test-gpu bench-gpu sanitize needs-gpu clean

help:
	@sed -n 's/^# \(make\)/\1/p' Makefile

# Each stamp is an installation that is up to date with pyproject.toml: a second run installs nothing.
$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install -e '.[recipe]'
	touch $@

$(VENV)/.test: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install -e '.[test,recipe,bench]'
	touch $(VENV)/.demo $@

demo: $(VENV)/.demo
	PYTHON=$(BIN)/python recipes/librispeech/run.sh

demo-ocr: $(VENV)/.demo
	PYTHON=$(BIN)/python recipes/ocr/run.sh

# a file's tests stay together, in one of as many processes as there are cores
test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile $(PYTEST_ARGUMENTS)

# those of recipes, benchmarks, pages and GPUs need more than the library does
CORE_TESTS = $(filter-out $(patsubst %,tests/test_%.py,docs models plotting readme) \
    tests/test_benchmarks% tests/test_cuda% tests/test_gpu%,$(wildcard tests/test_*.py))
RUN_CORE_TESTS = python -m pytest --devices cpu -n auto --maxprocesses 8 --dist loadfile $(PYTEST_ARGUMENTS) $(CORE_TESTS)
CORE_TOOLS = greenlet hypothesis pytest pytest-xdist

# torch==2.4 numba==0.62 numpy==2.0: the lower bounds of pyproject.toml
OLDEST = $(shell sed -nE 's/^    "(torch|numba|numpy)>=([0-9.]+)".*/\1==\2/p' pyproject.toml)
OLDEST_PYTHON ?= $(shell python3.10 -c 'print("python3.10")' 2>/dev/null || echo $(PYTHON))

$(VENV)-oldest/.made: pyproject.toml
	$(OLDEST_PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install $(OLDEST) $(CORE_TOOLS)
	touch $@

# docs/reliability.md says what the variable is for, which tests are left out and why
test-oldest: $(VENV)-oldest/.made
	$(VENV)-oldest/bin/python -c 'import sys, torch, numba, numpy; print("Python", sys.version, *(x.__name__ + " " + x.__version__ for x in (torch, numba, numpy)))'
	TORCHDYNAMO_CAPTURE_DYNAMIC_OUTPUT_SHAPE_OPS=1 $(VENV)-oldest/bin/$(RUN_CORE_TESTS) \
	    -W ignore::FutureWarning -W ignore::UserWarning \
	    --deselect tests/test_memory.py::test_a_loss_that_is_kept_after_backward_keeps_nothing_large \
	    --deselect tests/test_head_contract.py::test_torch_func_grad

# installed anew each time, for what is newest changes
test-newest:
	$(PYTHON) -m venv --clear $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install torch numba numpy $(CORE_TOOLS)
	$(VENV)-newest/bin/$(RUN_CORE_TESTS)

faults: $(VENV)/.test
	$(BIN)/python -m pytest -m faults -rP tests $(PYTEST_ARGUMENTS)

constraints: $(VENV)/.test
	{ grep '^#' constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | sed 's/$$/; python_version == "3.11"/'; } > $(VENV)/constraints
	mv $(VENV)/constraints constraints.txt

$(VENV)/.fuzz: $(VENV)/.test
	$(BIN)/python -m pip install -e '.[fuzz]'
	touch $@

# what fails leaves its bytes behind: FUZZ_ARGUMENTS='-runs=0 FILE' tries them again, FUZZ_ARGUMENTS=-runs=1000000 goes on for longer
fuzz: $(VENV)/.fuzz
	OMP_NUM_THREADS=1 $(BIN)/python -m fuzz $(FUZZ_ARGUMENTS)

# the kernels with every index and every vector checked; most of the time goes into compiling them
bounds: $(VENV)/.test
	NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=$(abspath .numba_cache/bounds) $(BIN)/python -m pytest tests/test_hostile_input.py \
	    tests/test_values.py tests/test_gradients.py tests/test_edge_cases.py tests/test_extreme_scores.py tests/test_alignment.py \
	    tests/test_posteriors.py tests/test_beam_search.py tests/test_beam_texts.py tests/test_head.py $(PYTEST_ARGUMENTS)

$(VENV)/.models: $(VENV)/.test
	$(BIN)/python -m pip install -e '.[test-models]'
	touch $@

test-models: $(VENV)/.models
	$(BIN)/python -m pytest tests/test_models.py $(PYTEST_ARGUMENTS)

# recipes and tests have a module of the same name here and there, so each folder is checked by itself
lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/mypy numbactc benchmarks docs fuzz
	$(BIN)/mypy tests/*.py
	$(BIN)/mypy tests/recipe/*.py recipes/librispeech/*.py
	$(BIN)/mypy tests/ocr/*.py recipes/ocr/*.py

docs: $(VENV)/.test
	$(BIN)/python -m docs.pages

# each by itself: one that does not install takes no other with it; the GPU's kernels are compiled before they are timed
HAS_GPU = $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'
bench: $(VENV)/.test
	for peer in paddle tensorflow; do \
	    $(BIN)/python -m pip install -e ".[bench-$$peer]" || echo "$$peer could not be installed"; \
	done
	if $(HAS_GPU); then $(MAKE) --no-print-directory needs-gpu; fi
	$(BIN)/python -m benchmarks $(BENCH_ARGUMENTS)

bench-cpu: $(VENV)/.test
	$(BIN)/python -m benchmarks.run

# Without what they ask for: pyctcdecode wants a NumPy before 2 and runs with this one, ctc-forced-aligner a runtime for
# models when all that is measured is its aligner. One that does not install is a row that says so.
bench-decode: $(VENV)/.test
	$(BIN)/python -m pip install -e '.[bench-decode]' || echo "not all peers could be installed"
	$(BIN)/python -m pip install --no-deps pyctcdecode==0.5.0 ctc-forced-aligner==1.0.2 || echo "not all peers could be installed"
	$(BIN)/python -m benchmarks.decode

bench-head: $(VENV)/.test
	$(BIN)/python -m benchmarks.head

# PyTorch for Linux comes with CUDA 13; beside one for CUDA 12 say CUDA=cuda12
CUDA ?= cuda

$(VENV)/.gpu: $(VENV)/.test
	$(BIN)/python -m pip install -e '.[$(CUDA),bench-$(CUDA)]'
	touch $@

bench gpu test-gpu bench-gpu sanitize: export NUMBA_CACHE_DIR := $(abspath .numba_cache/gpu)

# before anything large is installed
needs-gpu: $(VENV)/.test
	@$(BIN)/python -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else "PyTorch finds no NVIDIA GPU here: nothing was run")'
	@$(MAKE) --no-print-directory $(VENV)/.gpu
	$(BIN)/python tests/compile_kernels.py

# four processes share the GPU; what peers did is written down beside the benchmark's results
TEST_GPU = OBSERVATIONS=benchmarks/results/gpu-peers.json $(BIN)/python -m pytest --devices cuda -n auto --maxprocesses 4 \
    --dist loadfile --durations 10 tests $(PYTEST_ARGUMENTS)

test-gpu: needs-gpu
	$(TEST_GPU)

bench-gpu: needs-gpu
	$(BIN)/python -m benchmarks.gpu

# the benchmark runs whatever the tests say, for a GPU may be lent for minutes only
gpu: needs-gpu
	$(TEST_GPU); tests=$$?; $(BIN)/python -m benchmarks.gpu --budget 1.5 --limit 270 && exit $$tests

sanitize: needs-gpu
	@command -v compute-sanitizer || { echo "compute-sanitizer is not on PATH: it comes with CUDA's toolkit"; exit 1; }
	for tool in memcheck racecheck; do \
	    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool $$tool --error-exitcode 1 --target-processes all \
	        $(BIN)/python -m pytest -q --devices cuda tests/test_gpu.py tests/test_gpu_alignment.py \
	        -k "any_company or bad_values or (to_the_last_bit and not 3000)" || exit 1; \
	done

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .numba_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
