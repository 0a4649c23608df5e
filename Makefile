# What people type.  Everything else is in `spanreel --help` and docs/.
#
#   make lab                    the main job on VMs: backup, restore, proof, report
#   make lab TOPOLOGY=process   the same without VMs or root, in seconds
#   make lab TOPOLOGY=file.yaml the same on machines of a lab room (docs/machines.md)
#   make test                   unit tests, the process lab, one main job on VMs
#   make night                  the main job and all scenarios, and a page that says what changed; then an upgrade
#   make bench                  what it costs, beside tar and ndmjob; also in build/bench.json
#                               a short run: BENCH="--only contest --trees empty,large --by tar,token"
#   INSTALL=0 make ...          install nothing; name what is missing

TOPOLOGY ?= vms
VENV ?= .venv
SPANREEL = $(VENV)/bin/spanreel
PYTEST = $(VENV)/bin/python -m pytest
SCENARIOS = tests/integration/test_scenarios.py
FOREIGN = $(wildcard tests/integration/test_ndmjob*.py) tests/integration/test_foreign_servers.py

# What a topology needs installed; one of your own of VMs needs what VMs need.
OF_MACHINES = $(shell grep -qs '^provider: *machines' $(TOPOLOGY) && echo machines)
GROUP = $(if $(filter process,$(TOPOLOGY)),process,$(or $(OF_MACHINES),vms))

.PHONY: lab test night bench unit integration foreign scenarios image e2e e2e-upgrade lint clean

lab:
	@bootstrap/install $(GROUP)
	@$(SPANREEL) lab run --topology $(TOPOLOGY)

# Most tests wait, for processes or for one processor: suites side by side take the time of the longest.  What the
# VMs boot is built meanwhile.
test:
	@bootstrap/install test
	@echo "unit tests, the process lab and its scenarios, side by side, some minutes; then the main job on VMs"
	@$(MAKE) --no-print-directory --jobs=5 --output-sync=target image unit scenarios foreign integration
	@$(MAKE) --no-print-directory e2e

night:
	@bootstrap/install test
	@$(SPANREEL) lab nightly; code=$$?; $(MAKE) --no-print-directory e2e-upgrade || code=$$?; exit $$code

bench:
	@bootstrap/install test
	@$(VENV)/bin/python -m tests.bench $(BENCH)

unit:
	$(PYTEST) tests/unit

# Three runs of the process lab, each with addresses of its own (tests/labrun.py).  The scenarios are one test of
# some minutes.
integration:
	$(PYTEST) -o faulthandler_timeout=600 $(patsubst %,--ignore=%,$(SCENARIOS) $(FOREIGN)) tests/integration

foreign:
	$(PYTEST) -o faulthandler_timeout=600 $(FOREIGN)

scenarios:
	$(PYTEST) -o faulthandler_timeout=0 $(SCENARIOS)

# What it cannot build e2e builds, and says why not.
image:
	-$(VENV)/bin/python -m harness.image

# A run of many minutes is watched as it goes (-s), and no stack is dumped because it takes long.
e2e:
	$(PYTEST) -s -o faulthandler_timeout=0 tests/e2e/test_main_job.py

e2e-upgrade:
	$(PYTEST) -s -o faulthandler_timeout=0 tests/e2e/test_upgrade.py

lint:
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:
	-$(SPANREEL) lab clean --cache
	rm -rf $(VENV) build *.egg-info
