# Every target sets up what it needs. `make demo` and `make test` are all a new machine takes.

PYTHON37 ?= $(shell scripts/find-python 3.7)
MODERN   ?= $(shell scripts/find-python modern 2>/dev/null)
VENV     := .venv
BIN      := $(VENV)/bin
JOBS     ?= 2
PIP      := pip install --quiet --disable-pip-version-check

.PHONY: demo test lint format types test-37 test-modern corpus corpus-mnn golden fixtures bench bench-lowbits bench-mixed bench-regress bench-scaling fuzz fuzz-laws faults clean

demo: $(VENV)/ready
	@rm -rf out && mkdir -p out
	$(BIN)/graphwq quantize fixtures/digits_cnn.pb -o out/digits_cnn_8bit.pb
	@echo
	$(BIN)/graphwq quantize fixtures/digits_cnn.pb -o out/digits_cnn_4bit.pb --bits 4
	@echo
	$(BIN)/graphwq verify fixtures/digits_cnn.pb out/digits_cnn_8bit.pb --inputs fixtures/digits_cnn_test.npz
	@echo
	$(BIN)/graphwq verify fixtures/digits_cnn.pb out/digits_cnn_4bit.pb --inputs fixtures/digits_cnn_test.npz --html out/digits_cnn_4bit.html
	@echo
	@echo "out/digits_cnn_4bit.html shows the last report as a page"

test: lint types test-37 test-modern

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: $(VENV)/ready
	$(BIN)/mypy

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-37: $(VENV)/ready
	$(BIN)/python -m pytest -q -n $(JOBS)

# The core without TensorFlow on a modern Python.
test-modern:
ifeq ($(MODERN),)
	@echo "no Python 3.8 to 3.13 found: the tests of the core on a modern Python are left out"
else
	@$(MAKE) --no-print-directory .venv-modern/ready
	.venv-modern/bin/python -m pytest -q -n $(JOBS) -m "not tf and not corpus"
endif

# All real graphs at all widths; takes about half an hour.
corpus: $(VENV)/ready
	$(BIN)/python -m pytest -q -n $(JOBS) -m corpus --corpus-widths 2,3,4,5,6,7,8

# All real graphs through the MNN converter at four widths; takes about half an hour.
corpus-mnn: $(VENV)/ready
	$(BIN)/python -m pytest -q -n $(JOBS) tests/mnn/test_corpus.py --mnn-widths 8,4,3,2

golden: $(VENV)/ready
	$(BIN)/python -m pytest -q -n $(JOBS) --update-golden
	git diff --stat -- tests

fixtures: $(VENV)/ready
	$(BIN)/python fixtures/make.py

bench: $(VENV)/ready
	$(BIN)/python benchmarks/bench.py all --out benchmarks/RESULTS.md

# What calibrated rounding gains on the real graphs, without and with data; takes about half an hour.
bench-lowbits: $(VENV)/ready
	$(BIN)/python benchmarks/lowbits.py

bench-mixed: $(VENV)/ready
	$(BIN)/python benchmarks/mixed.py

# Did the working tree get slower than the last commit but one? OLD= and NEW= name other commits.
bench-regress: $(VENV)/ready
	$(BIN)/python benchmarks/regress.py $(OLD) $(NEW)

# benchmarks/scaling.svg: time from 1 MB to 1.9 GB and from 100 to 100,000 nodes.
bench-scaling: $(VENV)/ready
	$(BIN)/python benchmarks/scaling.py

# Coverage-guided, more than a million runs, about an hour; make fuzz RUNS=1000 for so many a target.
fuzz: .venv-fuzz/ready
	cd tests && PYTHONPATH=..:. ../.venv-fuzz/bin/python -m fuzz.run $(if $(RUNS),--runs $(RUNS))

.venv-fuzz/ready: setup.py
	"$(MODERN)" -m venv --clear .venv-fuzz
	.venv-fuzz/bin/$(PIP) -e ".[test]" atheris
	@touch $@

# Kills, signals, full disks, truncated inputs: minutes.
faults: $(VENV)/ready
	cd tests && PYTHONPATH=..:. ../$(BIN)/python -m faults.harness --table ../benchmarks/faults.md

fuzz-laws: $(VENV)/ready
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest -q -n $(JOBS) tests/laws

$(VENV)/ready: setup.py
	@test -n "$(PYTHON37)"
	"$(PYTHON37)" -m venv --clear $(VENV)
	$(BIN)/$(PIP) --upgrade "pip<24.1" wheel
	$(BIN)/$(PIP) -e ".[dev,mnn]"
	@touch $@

.venv-modern/ready: setup.py
	"$(MODERN)" -m venv --clear .venv-modern
	.venv-modern/bin/$(PIP) -e ".[test]"
	@touch $@

clean:
	rm -rf $(VENV) .venv-modern .venv-fuzz out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
