# make demo   the relay's main job, against the sandbox (ONCE=1: play it once and exit; PORT=n: the relay's port)
# make test   lint, types, import rules, all tests; then how each part went, and how long it took
# make bench  measurements against peers; make screenshots: what the console looks like, in build/screens
# make up     deploys it all on this machine's Docker engine, against the sandbox; make down removes it
# make setup  .venv with everything
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FULLY_COVERED := relay_app/mail/*,relay_app/delivery/*,relay_app/inbound/devices.py

.PHONY: help setup demo up down test bench lint lint-ansible lint-python lint-files screenshots docs requirements clean

help:
	@sed -n '/^# /!q; s/^# //p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "Python 3.11 or newer is needed; $(PYTHON) is %d.%d. Install one, then run: make PYTHON=python3.12 $(MAKECMDGOALS)" % tuple(v[:2]))'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Python's venv module is missing. On Debian: apt-get install python3-venv"; exit 1; }

# Three stamps, so that nobody waits for tools that only others need.
$(VENV)/.sandbox: requirements/sandbox.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/sandbox.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/.deploy: requirements/deploy.txt $(VENV)/.sandbox
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/deploy.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.sandbox
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt
	@touch $@ $(VENV)/.deploy

setup: $(VENV)/.dev
	@echo "Ready: $(VENV) has the relay, the sandbox and the tools of the tests."

demo: $(VENV)/.sandbox
	@exec $(BIN)/python -m sandbox.demo $(if $(ONCE),--once) $(if $(PORT),--port $(PORT))

# Always the sandbox, whatever ANSIBLE_INVENTORY says: `make down` removes data without asking.
# PLAY: what ansible-playbook gets besides, such as PLAY="--check --diff"
up: $(VENV)/.deploy
	@tests/engine.sh ensure
	@bases=$$(tests/base_images.sh) && eval "$$bases" && exec $(BIN)/ansible-playbook --inventory inventories/sandbox site.yml $(PLAY)

down: $(VENV)/.deploy
	@exec $(BIN)/ansible-playbook --inventory inventories/sandbox playbooks/uninstall.yml --extra-vars relay_purge=true $(PLAY)

# Side by side: ansible-lint takes as long as all the others.
lint: $(VENV)/.dev
	@$(MAKE) --jobs=2 --output-sync --keep-going --no-print-directory lint-ansible lint-python lint-files

lint-ansible:
	$(BIN)/ansible-lint --offline -q

lint-python:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy plugins
	$(BIN)/lint-imports

lint-files:
	$(BIN)/yamllint --strict .
	$(BIN)/zizmor --offline --quiet --persona=pedantic --strict-collection .github
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema custom.github-workflows-require-timeout .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml

# Each line is a part's name and its command. What uses the Docker engine is one group, for one of the processes.
test: $(VENV)/.dev
	@tests/system_packages.sh
	@tests/parts.sh \
		lint 'make --no-print-directory lint' \
		pytest '$(BIN)/python -m pytest --numprocesses=2 --dist=loadgroup --cov --cov-report=' \
		coverage '$(BIN)/coverage report --fail-under=95 && $(BIN)/coverage report --fail-under=100 --include="$(FULLY_COVERED)"' \
		shipped tests/shipped_python.sh \
		molecule tests/molecule.sh

# In build/screens: each page of the console, in light and dark, on a phone and a desktop, in English and German.
screenshots: $(VENV)/.dev
	@tests/system_packages.sh
	SCREENS=build/screens $(BIN)/python -m pytest tests/console/test_pages.py

bench: $(VENV)/.dev
	$(BIN)/python -m bench

# The tables of variables in the roles' READMEs, from their argument specs.
docs: $(VENV)/.dev
	@for role in roles/*/; do $(BIN)/aar-doc --config-file .config/aar-doc.yml $${role%/} markdown || exit 1; done

# Pins from pyproject.toml. No index address goes into the files.
requirements: $(VENV)/.dev
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --custom-compile-command "make requirements" pyproject.toml -o requirements/relay.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --custom-compile-command "make requirements" pyproject.toml --extra sandbox -c requirements/relay.txt -o requirements/sandbox.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --custom-compile-command "make requirements" pyproject.toml --extra sandbox --group deploy -c requirements/sandbox.txt -o requirements/deploy.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --custom-compile-command "make requirements" pyproject.toml --extra sandbox --group dev --group bench --group deploy --group deploy-test -c requirements/deploy.txt -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --custom-compile-command "make requirements" pyproject.toml --extra sandbox --group unit -c requirements/dev.txt -o requirements/unit.txt

clean:
	rm -rf $(VENV) .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build *.egg-info
