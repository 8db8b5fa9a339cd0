# make help lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
COLLECTION := .ansible/collections/ansible_collections/bulwark/stack
export PATH := $(BIN):$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.ansible/collections
export MOLECULE_GLOB := molecule/*/molecule.yml
export ANSIBLE_HOME := $(CURDIR)/.ansible

help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: tools ## Virtual environment, Docker engine, test images
	@tests/hosts/setup.sh $(BULWARK_HOST_A) $(BULWARK_HOST_B)

tools: $(VENV)/.ready $(COLLECTION)

$(VENV)/.ready: requirements.txt
	@python3 -m venv $(VENV) >/dev/null 2>&1 || { echo "Installing python3-venv"; apt-get update -qq; \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null 2>&1; python3 -m venv $(VENV); }
	@echo "Installing the pinned Python packages"
	@$(BIN)/pip install -q --disable-pip-version-check -r requirements.txt 2>&1 | grep -v '^WARNING: Location' || true
	@$(BIN)/ansible --version >/dev/null && touch $@

$(COLLECTION):
	@mkdir -p $(dir $@) && ln -sfn $(CURDIR) $@

demo: setup ## Converge the whole stack onto a local test host and prove that it works
	@python tests/demo/demo.py up

demo-down: ## Remove the demo
	@python3 tests/demo/demo.py down

test: ## All tests; FAST=1 lint, contract and unit only; FULL=1 every case of every matrix
	@tests/run.py $(if $(FAST),--fast) $(if $(FULL),--full)

molecule: setup ## One scenario: make molecule S=redis [CMD=converge]
	@molecule $(or $(CMD),test) -s $(S)

bench: setup ## The figures of docs/benchmarks.md, as ratios within one run
	@missed=0; for part in bench backups cloud; do python tests/bench/$$part.py || missed=1; done; exit $$missed

docs: $(VENV)/.ready $(COLLECTION) ## Write docs/reference from the specs
	@python tests/reference.py

build: $(VENV)/.ready ## The collection archive
	@ansible-galaxy collection build --force --output-path .ansible/build

clean: demo-down ## Remove what setup made in this checkout
	@rm -rf $(VENV) .ansible .demo .bench

.PHONY: help setup tools demo demo-down test molecule bench docs build clean
