# make demo   the whole pipeline on real digits, ending in a verdict
# make test   lint, types, import contracts and every test
# Both set up what they need first; see tools/setup.sh for the variables that steer that.
SHELL := bash
PY := .venv/bin/python
DEMO_DESIGN ?= data/designs/digits.toml
DEMO_LIMITS ?= data/limits/default.toml
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint unit docs clean

# $(call step,name,command): announce a step, run it, say how long it took, keep its exit code
define step
@echo "== $(1)"; start=$$SECONDS; $(2); code=$$?; \
if [ $$code -eq 0 ]; then echo "   $(1): ok, $$((SECONDS - start)) s"; \
else echo "   $(1): FAILED (exit $$code), $$((SECONDS - start)) s"; fi; exit $$code
endef

help: ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## .venv, a CPU build of torch, the package, ngspice (safe to run again)
	@tools/setup.sh

demo: setup ## calibrate, fit, train, verify on real digits; non-zero unless the verdict is pass
	@.venv/bin/analog-deq run $(DEMO_DESIGN) --limits $(DEMO_LIMITS); code=$$?; \
	case $$code in \
	0) echo "demo: verdict pass";; \
	1) echo "demo: verdict FAIL; the rows above say which limits were missed" >&2;; \
	3) echo "demo: the simulator or a tool failed; see the message above, or .venv/bin/analog-deq doctor" >&2;; \
	4) echo "demo: verdict inconclusive; too few samples for the claims above" >&2;; \
	130) echo "demo: interrupted; make demo again resumes" >&2;; \
	*) echo "demo: stopped by the error above" >&2;; \
	esac; \
	if [ $$code -ne 0 ]; then \
	echo "demo: analog-deq run exited with $$code (make itself always turns that into 2)" >&2; fi; \
	exit $$code

test: lint ## lint, then every test: unit, spice and pipeline (ngspice required)
	@echo "== pytest"
	@$(PY) -m pytest -n 2 --dist loadfile --require-ngspice $(PYTEST_ARGS)

lint: setup ## ruff, mypy, import contracts
	$(call step,ruff check,$(PY) -m ruff check .)
	$(call step,ruff format,$(PY) -m ruff format --check .)
	$(call step,mypy,$(PY) -m mypy)
	$(call step,import contracts,.venv/bin/lint-imports)

unit: setup ## the tests that need no ngspice, in under a minute
	@$(PY) -m pytest -n 2 tests/unit $(PYTEST_ARGS)

docs: setup ## write docs/cli.md, report.md, measurements.md and failures.md again (the last two run ngspice)
	@$(PY) tools/cli_reference.py
	@$(PY) tools/report_schema.py
	@$(PY) tools/closed_forms.py
	@$(PY) tools/failure_catalogue.py

clean: ## remove .venv and caches (keeps runs/, the results)
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
