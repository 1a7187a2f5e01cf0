# The README's commands. Everything starts from a fresh Debian 12 machine, as root.
PYTHON := .venv/bin/python

.PHONY: run test test-system screenshots lint messages image clean
.DELETE_ON_ERROR:

run: .venv/run.stamp ## the whole appliance in network namespaces; GUEST=0: no guest, ONCE=1: end after its journey
	@$(PYTHON) -m tests.lab.run $(if $(filter 0,$(GUEST)),--no-guest) $(if $(filter 1,$(ONCE)),--once)

test: .venv/test.stamp lint ## the whole suite but the slow proofs, files beside each other, as many only wait
	$(PYTHON) -m pytest --numprocesses=3 --dist=loadfile

test-system: .venv/test.stamp .venv/image.stamp ## slow proofs: Debian 13, systemd, Ansible, the image; SHORT=1: without the longest
	@./tests/install-packages tests/system/packages.txt
	$(PYTHON) -m pip install --quiet --editable '.[test,image,system]'
	$(PYTHON) -m pytest --numprocesses=2 --dist=loadfile -m "system$(if $(filter 1,$(SHORT)), and not long)"

screenshots: .venv/test.stamp ## docs/images, taken by the browser's tests
	PICTURES=1 $(PYTHON) -m pytest -m system tests/system/test_browser.py -k pictures

lint: .venv/test.stamp
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy

messages: .venv/test.stamp ## the portal's texts into its translators' catalogues
	@$(PYTHON) -m tests.messages

image: .venv/image.stamp ## the bootable image and its update; KEY= CERT= KEYRING= sign it, ARCH= is its architecture
	@$(PYTHON) -m images.build $(if $(ARCH),--arch $(ARCH)) $(if $(KEY),--key $(KEY)) $(if $(CERT),--cert $(CERT)) \
		$(if $(KEYRING),--keyring $(KEYRING))

bench-%: .venv/test.stamp ## a benchmark of tests/bench; JSON=1: one object a line
	@$(PYTHON) -m tests.bench.bench_$*

.venv/run.stamp: setup.cfg appliance/packages.txt tests/packages-run.txt
	@./tests/install-packages appliance/packages.txt tests/packages-run.txt
	/usr/bin/python3 -m venv .venv
	$(PYTHON) -m pip install --quiet --editable .
	@touch $@

.venv/test.stamp: .venv/run.stamp tests/packages.txt
	@./tests/install-packages tests/packages.txt
	$(PYTHON) -m pip install --quiet --editable '.[test,image]'
	@touch $@

.venv/image.stamp: .venv/run.stamp images/packages.txt
	@./tests/install-packages images/packages.txt
	$(PYTHON) -m pip install --quiet --editable '.[image]'
	@touch $@

clean:
	rm -rf .venv *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
