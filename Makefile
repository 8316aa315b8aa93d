# Every target works on a fresh clone: it makes .venv and installs the tested versions first.
# Written for GNU make 3.81, which is what macOS has.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# make PYTHON=python3.12 chooses an interpreter. It has an effect only if there is no .venv yet.
PYTHON :=
ARGS :=
# Modules are compiled once, not by each worker and each process that a test starts.
unexport PYTHONDONTWRITEBYTECODE
# Two workers halve the time of the tests. Each further worker loads the model once more.
PYTEST := $(BIN)/python -m pytest -m "not e2e" -n 2 --dist worksteal

# One line a package, for terminals and logs alike; of the rest only what went wrong.
define SHOW_PROGRESS
/^(Collecting|Processing|Requirement already satisfied:) / && !seen[$$0]++ {
  sub(/^Requirement already satisfied: /, ""); sub(/^Collecting /, ""); sub(/^Processing .*\//, "")
  printf "  %d of about %d  %s\n", ++n, all, $$1
}
/^Installing collected packages/ { print "  unpacking them" }
/ERROR|[Ee]rror:|No matching|not found/ { print }
/^pip failed$$/ { failed = 1 }
{ fflush() }
END { exit failed }
endef
export SHOW_PROGRESS

.DEFAULT_GOAL := help
.PHONY: help run serve dev console test lint check format e2e zoo bench shots record schema lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

run: $(STAMP) ## server in the background, dashboard in this terminal
	@$(BIN)/mlxdeck up $(ARGS)

serve: $(STAMP) ## the server alone; ARGS="--port 8082" passes flags on
	@$(BIN)/mlxdeck serve $(ARGS)

dev: $(STAMP) ## the dashboard with live styles, over a recording; ARGS="tui" shows a running server
	@TEXTUAL=debug,devtools $(BIN)/mlxdeck $(if $(ARGS),$(ARGS),replay tests/data/day.jsonl)

console: $(STAMP) ## what the dashboard of `make dev` logs and prints, in a terminal of its own
	@$(BIN)/textual console $(ARGS)

test: $(STAMP) ## all tests except those with real clients
	$(PYTEST) $(ARGS)

lint: $(STAMP) ## format, lint, imports and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	PYTHONPATH=.pkg $(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/mypy

check: lint test ## format, lint, imports, types and tests, as CI runs them

format: $(STAMP) ## format the sources for `make check`
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

e2e: $(STAMP) ## tests that drive real clients against a real server
	$(BIN)/python -m pytest -m e2e $(ARGS)

zoo: $(STAMP) ## check the server with each model family; ARGS="--families qwen3,llama"
	$(BIN)/python -m tests.zoo $(ARGS)

bench: $(STAMP) ## measure, and print the figures
	$(BIN)/python -m tests.bench $(ARGS)

shots: $(STAMP) ## write screenshots/ from the real dashboard
	$(BIN)/python -m tests.shots $(ARGS)
	$(BIN)/python -m tests.movie

record: $(STAMP) ## record a session with the real client, for the dashboard
	$(BIN)/python -m tests.record $(ARGS)

schema: $(STAMP) ## export the schema of a telemetry line, and its page in docs/
	$(BIN)/python -m tests.exported

lock: $(STAMP) ## write requirements.lock with the newest versions that pyproject.toml allows
	$(BIN)/python -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip install --quiet uv
	$(VENV)/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	  --group dev --custom-compile-command "make lock" --output-file requirements.lock \
	  pyproject.toml
	rm -rf $(VENV)/lock

clean: ## remove .venv and all generated files
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): requirements.lock pyproject.toml
	@set -e; found=; \
	if ! [ -x $(BIN)/python ]; then \
	  for candidate in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
	    if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	      found=$$candidate; break; \
	    fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "mlxdeck needs Python 3.11 or later: install it, or name it with" \
	      "make PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	  fi; \
	  echo "making $(VENV) with $$($$found --version)"; \
	  $$found -m venv --clear $(VENV); \
	fi; \
	mkdir -p .pkg/mlxdeck; \
	for each in cli server settings telemetry tui; do \
	  [ -e .pkg/mlxdeck/$$each ] || ln -s ../../$$each .pkg/mlxdeck/$$each; \
	done; \
	[ -e .pkg/mlxdeck/__main__.py ] || ln -s ../../cli/__main__.py .pkg/mlxdeck/__main__.py; \
	echo "installing the versions of requirements.lock: 2 GB, a few minutes"; \
	{ $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off \
	  -r requirements.lock 2>&1 || echo "pip failed"; } \
	  | awk -v all="$$(grep -c == requirements.lock)" "$$SHOW_PROGRESS"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  --no-build-isolation --editable .; \
	touch $@
