# make demo           the study on http://127.0.0.1:5000, from the committed gallery (no torch needed)
# make test           everything, after installing what it needs
# make catalogues     the texts of the pages into study/translations, where new ones wait for words
# make demo-generate  the demo gallery again, from the embedded models
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO := demo-study
GALLERY := demo/gallery
METHODS := fp16,w8a8,mixdq-w8a8,w4a8,mixdq-w4a8,qsched-w4a8,w4a4,svdquant-w4a4

.PHONY: demo demo-generate test lint format catalogues
.DEFAULT_GOAL := demo

.venv/bin/python:
	$(PYTHON) -m venv .venv

# One stamp a set of packages; pyproject.toml and the pins decide when it is stale.
.venv/base.stamp: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

.venv/generate.stamp: .venv/base.stamp
	$(PIP) --editable '.[generate]'
	touch $@

.venv/test.stamp: .venv/generate.stamp
	$(PIP) --editable '.[generate,postgres,test]'
	touch $@

# A second time, init is passed over, ingest finds the gallery there, and the votes so far are kept.
demo: .venv/base.stamp
	test -f $(DEMO)/study.toml || $(BIN)/study init $(DEMO) --title "Which picture is better?"
	$(BIN)/study ingest $(GALLERY) --study $(DEMO)
	$(BIN)/study serve --study $(DEMO)

demo-generate: .venv/generate.stamp
	$(BIN)/generator run --model shapes --methods $(METHODS) -n 48 -o runs/demo-gallery
	@echo 'Show it:  make demo DEMO=runs/demo-study GALLERY=runs/demo-gallery'

# A process a core, each with the files of one of them: their fixtures start servers.
test: .venv/test.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/test.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

catalogues: .venv/test.stamp
	mkdir -p build
	$(BIN)/pybabel --quiet extract --mapping pyproject.toml --add-location file --output build/messages.pot .
	$(BIN)/pybabel --quiet update --input-file build/messages.pot --output-dir study/translations \
		--no-fuzzy-matching --ignore-obsolete --width 100
