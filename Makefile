# `make demo` and `make test` do all their own set-up from a clean clone: a virtual environment in .venv, nothing else.

PYTHON ?= python3
BIN := .venv/bin
DEMO := demo

.PHONY: demo test test-slow test-install fuzz lint clean docs/report.schema.json

# Torch goes first and pinned: a bare `torch` brings gigabytes of CUDA packages.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e '.[dev,report]'
	touch $@

demo: .venv/ready
	$(BIN)/python samples/digits/train.py --output $(DEMO)
	$(BIN)/crisp-onnx compress $(DEMO)/digits.onnx --classes $(DEMO)/cls.txt --labels $(DEMO)/labels.txt \
	  --data $(DEMO)/images/train --eval-data $(DEMO)/images/val --preprocess unit \
	  --sparsity 0.8 --epochs 20 --output $(DEMO)/compressed

test: .venv/ready
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow

# The wheel without extras, in an environment of its own that holds what it requires and nothing else.
test-install: .venv/ready
	$(BIN)/python .ci/plain_install.py build/plain

# Changed models, images, archives, recipes and label files: fails on what would end a command in exit 1.
MUTATIONS ?= 100000
fuzz: .venv/ready
	cd tests && nice -n 19 ../$(BIN)/python -m fuzz --mutations $(MUTATIONS)

# passes/ and hw_targets/ are installed inside the package, so type checks and import rules need a tree that has them there.
lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/tree && mkdir -p build/tree
	cp -r crisp_onnx build/tree/ && cp -r passes hw_targets build/tree/crisp_onnx/
	cd build/tree && MYPYPATH=. ../../$(BIN)/mypy --config-file ../../pyproject.toml -p crisp_onnx
	cd build/tree && PYTHONPATH=. ../../$(BIN)/lint-imports --no-logo --config ../../pyproject.toml

# The published schema of report.json, from the code.
docs/report.schema.json: .venv/ready
	$(BIN)/python -c "from crisp_onnx.report.schema import schema_text; print(schema_text(), end='')" > $@

clean:
	rm -rf .venv build dist $(DEMO)
