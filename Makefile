# Everything runs in .venv, which is created on first use; PYTHON must be 3.11 or later.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
DATA ?= demo/capture
PARALLEL := -n auto --dist worksteal
NPM := NODE_OPTIONS=--use-system-ca PATH="$(CURDIR)/$(BIN):$$PATH" npm --prefix player --loglevel error
MODULES := player/node_modules/.package-lock.json
PLAYER := invcodec/player/index.js
GUIDED := file head frame index json calibration points request message

.PHONY: help demo test quick lint player wheel bench rate speed fuzz fuzz-guided

help:
	@echo "make demo    encode a small ray-traced scene, render it, measure it (results in demo/)"
	@echo "make test    run the tests, one process per core"
	@echo "make quick   run all but the slow tests"
	@echo "make lint    check style and types"
	@echo "make player  build the player for browsers"
	@echo "make wheel   build the wheel (in dist/)"
	@echo "make fuzz    feed hostile files to the decoder, hostile captures to the encoder, hostile bytes to servers and readers"
	@echo "make fuzz-guided    the same in one process, guided by coverage; takes 45 minutes (Linux)"
	@echo "make bench   reprint the README's tables (DATA=DIR for a capture of your own)"
	@echo "make rate    compare rate and distortion with other coders and with AV1 (DATA=DIR; takes a C++ compiler)"
	@echo "make speed   measure times, memory and how they grow (DATA=DIR; takes an hour and more)"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

$(MODULES): player/package.json player/package-lock.json | $(READY)
	$(NPM) ci --ignore-scripts
	touch $@

$(PLAYER): $(MODULES) player/build.mjs $(shell find player/src player/test -type f)
	$(NPM) run --silent build

player: $(PLAYER)

demo/capture/transforms.json: | $(READY)
	$(BIN)/invcodec synth demo/capture --size 160x120 --frames 8 --scene changing

demo: $(READY) demo/capture/transforms.json
	$(BIN)/invcodec inspect demo/capture --preset fast
	$(BIN)/invcodec encode demo/capture demo/out.inv --preset fast -f --progress bar
	$(BIN)/invcodec decode demo/out.inv --frame latest --pose examples/between.json --size 640x480 -o demo/view.png -f
	$(BIN)/invcodec decode demo/out.inv --pose orbit --size 320x240 -o demo/orbit.mp4 -f
	$(BIN)/invcodec eval demo/out.inv demo/capture --save demo/compared

test: $(READY) $(PLAYER)
	$(BIN)/pytest $(PARALLEL)

quick: $(READY) $(PLAYER)
	$(BIN)/pytest $(PARALLEL) -m "not slow"

lint: $(READY) $(MODULES)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(NPM) run --silent lint

wheel: $(READY) $(PLAYER)
	rm -rf build dist
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps -w dist .

fuzz: $(READY)
	$(BIN)/python spec/fuzz.py --keep fuzz-crashes
	$(BIN)/python spec/fuzz_captures.py
	$(BIN)/python spec/fuzz_network.py

fuzz-guided: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt atheris
	for target in $(GUIDED); do $(BIN)/python spec/fuzz_guided.py $$target --seconds 300 || exit 1; done

bench: $(READY) demo/capture/transforms.json
	$(BIN)/python benchmarks/quality.py --data $(DATA)

rate: $(READY) demo/capture/transforms.json
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps nncodec
	$(BIN)/python benchmarks/rate.py --data $(DATA)

speed: $(READY) demo/capture/transforms.json
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/speed.py --data $(DATA)
