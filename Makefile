# Needs Python 3.11 or newer; uv is fetched when it is missing. `make help` lists the words.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV := $(or $(shell command -v uv 2>/dev/null),.make/uv/bin/uv)
SLIDE ?=
MPP ?=
# Hospitals' networks sign with certificates of their own, which the system knows and uv by itself does not.
export UV_SYSTEM_CERTS ?= 1

# Benches must follow the code in names, attributes and arguments; into arrays and other people's packages nobody looks.
BENCH_LOOSE := arg-type import-not-found import-untyped index misc no-any-return no-untyped-call unused-ignore var-annotated

.PHONY: help setup demo test test-slow lint format model bench clean

help:
	@echo "setup   install everything into $(VENV)"
	@echo "demo    examine three phantom slides with the shipped model; SLIDE=path [MPP=0.5] adds a real one"
	@echo "test    run the tests; test-slow runs those that take minutes"
	@echo "lint    ruff and mypy, as CI does; format rewrites the files"
	@echo "model   train the shipped model further and replace it: phantoms, training, calibration (two hours on two cores)"
	@echo "bench   measure: whether phantoms are hard enough, agreement with their truth, memory and speed"

setup: $(READY)

.make/uv/bin/uv:
	$(PYTHON) -m venv .make/uv
	.make/uv/bin/pip install --quiet uv

# An environment whose Python was upgraded away is made again.
ifeq ($(shell $(BIN)/python -c "print(1)" 2>/dev/null),)
$(shell rm -f $(READY))
endif

$(READY): pyproject.toml constraints.txt | $(UV)
	$(BIN)/python -c "" 2>/dev/null || $(UV) venv --quiet --clear --python $(PYTHON) $(VENV)
	VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(UV) pip install --quiet --compile-bytecode -c constraints.txt -e '.[dev,fast]'
	@touch $@

demo: setup
	$(BIN)/histo demo demo $(if $(SLIDE),--slide "$(SLIDE)") $(if $(MPP),--mpp $(MPP))

test: setup
	$(BIN)/pytest

test-slow: setup
	$(BIN)/pytest -m slow

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy bench $(addprefix --disable-error-code=,$(BENCH_LOOSE))

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

COHORT ?= cohorts/phantom
model: setup
	$(BIN)/histo phantom $(COHORT) --spec configs/training_cohort.yaml
	$(BIN)/histo train configs/phantom.yaml --out runs
	$(BIN)/histo phantom cohorts/calibration --slides 160 --seed 7001 --size 3000
	$(BIN)/histo calibrate runs/phantom-compact/bundle cohorts/calibration/slides.csv --out runs/phantom-compact/calibrated
	mkdir -p histo/models/weights
	cp runs/phantom-compact/calibrated/card.json runs/phantom-compact/calibrated/*.safetensors histo/models/weights/

bench: setup
	$(BIN)/python bench/phantom_gate.py
	$(BIN)/python bench/phantom_truth.py
	$(BIN)/python bench/large_slide.py

clean:
	rm -rf $(VENV) .make demo .mypy_cache .ruff_cache .hypothesis
