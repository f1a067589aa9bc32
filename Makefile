# make demo   a first look: sets up, writes a small world, ingests it, asks it, and writes a report
#             (TORCH_INDEX=…: an index with other builds of PyTorch, as pytorch.org names them)
# make test   all tests, in two processes (PROCESSES=1: in one)
# make check  types, and beside them style, rooms, deployment, known advisories, generated documentation
# make audit  asks pip-audit whether a package that constraints.txt names has an advisory: needs a connection
# make bench  the benchmarks     make docs    writes the generated documentation
PYTHON ?= python3
# As many as there are cores, no more: a Milvus server builds indexes with threads of low priority, which get nothing where others
# want all cores.
PROCESSES ?= 2
BIN := .venv/bin
# Tests of what must come out the same under every BLAS kernel: they run once more under that of AVX2.
EXACT := $(addprefix tests/test_,spanning.py geometry.py cluster.py measures.py)
# What needs no server of the tests of deploy/.
DEPLOYMENT := $(filter-out tests/test_deploy_user.py,$(wildcard tests/test_deploy*.py))
# Processes that share the cores are fastest with one thread each.
PYTEST := $(if $(filter-out 1,$(PROCESSES)),OMP_NUM_THREADS=1) $(BIN)/python -m pytest
SPREAD := $(if $(filter-out 1,$(PROCESSES)),--numprocesses $(PROCESSES) --dist loadscope --no-loadscope-reorder)
TORCH_INDEX ?=
export PYTHON TORCH_INDEX

.PHONY: demo test check checked-types checked-rest audit docs bench clean

.venv/.runtime: pyproject.toml constraints.txt deploy/system-packages.txt
	@deploy/system-packages.sh
	@deploy/install.sh serve
	@touch $@

.venv/.dev: .venv/.runtime deploy/test-packages.txt
	@deploy/system-packages.sh test
	@deploy/install.sh dev,server,serve
	@touch $@

demo: .venv/.runtime
	@sample/demo.sh

test: .venv/.dev
	$(PYTEST) --durations 20 $(SPREAD)
	OPENBLAS_CORETYPE=Haswell $(PYTEST) $(EXACT) $(SPREAD)

check: .venv/.dev
	rm -rf build/shipped
	$(BIN)/python -c 'from setuptools import setup; setup()' --quiet build_py --build-lib build/shipped
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target checked-types checked-rest

checked-types:
	cd build/shipped && ../../$(BIN)/mypy --cache-dir ../../.mypy_cache --config-file ../../pyproject.toml

checked-rest:
	$(BIN)/ruff check .
	cd build/shipped && ../../$(BIN)/lint-imports --no-logo --config ../../pyproject.toml
	$(BIN)/python deploy/audit.py
	$(BIN)/python -m pytest $(DEPLOYMENT) -rs
	$(BIN)/python docs/generate.py --check

# In an environment of its own: it is no part of what Outcrop needs.
audit: .venv/.runtime
	@test -x .venv-audit/bin/pip-audit || { $(PYTHON) -m venv .venv-audit && .venv-audit/bin/python -m pip install --quiet pip-audit; }
	.venv-audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

docs: .venv/.dev
	$(BIN)/python docs/generate.py

bench: .venv/.dev
	$(BIN)/python benchmarks/ingest.py
	$(BIN)/python benchmarks/encoder.py
	$(BIN)/python benchmarks/references.py
	$(BIN)/python benchmarks/query.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/render.py
	$(BIN)/python benchmarks/cluster.py
	$(BIN)/python benchmarks/rerank.py
	$(BIN)/python benchmarks/faults.py --failures-only

clean:
	rm -rf demo .outcrop outcrop.db build *.egg-info
