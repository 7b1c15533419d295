# The front door. `make help` lists what there is.
#
# Variables: ARGS      more arguments for pinholed in `make run`, such as ARGS='--config my.yaml' (a relative path is from
#                      here); also of `make bench`, `bench-armv6` and `attack`
#            PORT      port of `make run`, over what a file says (8080 where neither does)
#            HOST, BINARY    of `make deploy`: user@address, program (default: the static one, without libcamera)
#            SDK       of `make cross`: folder of the image's SDK
#            BUILDROOT_DIR   Buildroot's sources, of `make image` and what is like it (else cloned); see scripts/image/buildroot, also
#                      for FRAGMENTS, O, BR2_DL_DIR, EXTERNAL
#            DEVICE, IMAGE   of `make flash`; IMAGE also of `make test-device`
#            PINHOLE_CACHE   where tools and roots for tests are kept (~/.cache/pinhole)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Of all recipes, whatever it would depend on; an @ at the start of one silences the whole.
.ONESHELL:

PORT ?= 8080
ARGS ?=
export PINHOLE_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pinhole
# Given on make's command line or in the environment, they are for scripts/image/buildroot.
export BUILDROOT_DIR FRAGMENTS O BR2_DL_DIR EXTERNAL
export CROSS_CONFIG := cross.toml
# Rust and tools that scripts/env/setup installed where the machine has none.
export PATH := $(PINHOLE_CACHE)/tools/bin:$(HOME)/.cargo/bin:$(PATH)

# Evaluated when a recipe runs: setup may have installed libcamera just before.
features = $$(scripts/env/features)

.PHONY: help
help: ## list the targets, and the variables some of them take
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18
	echo
	echo "Times are of two free cores, with what earlier runs have left in PINHOLE_CACHE: the first takes longer."
	echo
	sed -n '/^# Variables:/,/^$$/s/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

.PHONY: run
run: quick ## build quickly, then serve the best camera there is, else the test pattern · 2 min the first time
	@source=auto
	if ! why=$$(target/quick/pinholed --list-cameras 2>&1 >/dev/null); then
		printf '%s\n' "$$why" "showing the test pattern, unless a file names another source"
		source=test-pattern
	fi
	echo "open the address told below (ctrl-C stops)"
	# A file of one's own wins over what is chosen here; a port given by hand wins over the file.
	exec target/quick/pinholed --default camera.source=$$source \
		--$(if $(filter file,$(origin PORT)),default,set) 'http.listen=[::]:$(PORT)' $(ARGS)

.PHONY: quick
quick: setup ## build the daemon as `make run` does: optimised, but not as what ships · 2 min the first time
	@[[ -e target/quick/pinholed ]] || echo "compiling takes about 2 minutes on two free cores and 0.5 GB in target/quick, once"
	cargo build --locked --profile quick $(features)

.PHONY: build
build: setup ## build the daemon as it ships (release) · 4 min
	@[[ -e target/release/pinholed ]] || echo "compiling takes about 4 minutes on two free cores and 0.5 GB in target/release, once"
	cargo build --locked --release $(features)

.PHONY: setup
setup: ## install what building needs (Debian packages; Rust where there is none)
	@scripts/env/setup build

.PHONY: ci-fast
ci-fast: ## lint, unit and integration tests: what a change must pass before anybody looks at it · 5 min, the first time 10
	@$(MAKE) --no-print-directory lint
	$(MAKE) --no-print-directory test

.PHONY: ci
ci: ## each lane of tests but test-network, test-gadget and test-zero (by hand), its log in target/ci · 40 min
	@.ci/run

.PHONY: test
test: ## unit and integration tests · 3 min, the first time 6
	@scripts/env/setup build
	tests/run

.PHONY: lint
lint: ## rustfmt, clippy, cargo deny, shellcheck · 1 min
	@scripts/env/setup build lint
	cargo fmt --all --check
	cargo clippy --locked --all-targets $(features) -- -D warnings
	cargo deny --log-level error check bans licenses sources
	shellcheck -x .ci/run benches/run* tests/run tests/*/run tests/*/init \
		$$(grep -rlIE '^#!.*\b(ba)?sh$$' scripts cross buildroot-external)

.PHONY: test-libcamera
test-libcamera: ## tests against real libcamera and its virtual cameras (in a Debian 13 root) · 1 min
	@scripts/env/setup build nextest
	tests/libcamera/run

.PHONY: test-usb
test-usb: ## tests with a USB camera in an emulated PC (real uvcvideo and libcamera) · 5 min
	@scripts/env/setup build
	tests/usb/run

.PHONY: armv6
armv6: ## build for the Pi Zero's processor, with Debian's armel libcamera · 1 min
	scripts/build/armv6

.PHONY: test-armv6
test-armv6: ## all tests on the ARMv6 build, its processor emulated · 10 min
	@scripts/env/setup build nextest
	tests/armv6/run

.PHONY: settings
settings: ## write config/pinhole.yaml and the table in docs/configuration.md anew from the table of settings
	@PINHOLE_WRITE=1 cargo test --quiet --locked $(features) --lib config::reference::
	git diff --stat -- config/pinhole.yaml docs/configuration.md

.PHONY: bench-armv6
bench-armv6: ## count the ARMv6 build's instructions for each frame · 3 min
	benches/run-armv6 $(ARGS)

.PHONY: armv6-hf
armv6-hf: ## build what ships, hard-float, without libcamera: also as one static file for any Pi · 2 min
	scripts/build/armv6-hf

.PHONY: test-armv6-hf
test-armv6-hf: ## build the static file and run it on an emulated ARM1176 · 1 min
	tests/armv6-hf/run

.PHONY: cross
cross: ## build in a container with cross: SDK=folder for the image's SDK, else Debian's armel · 25 min the first time
	PINHOLE_SDK='$(SDK)' scripts/build/cross $(if $(SDK),arm-unknown-linux-gnueabihf)

.PHONY: test-check-elf
test-check-elf: ## tests of the check that a binary has no code of ARMv7 · 15 s
	@tests/check-elf/run

.PHONY: test-zero
test-zero: ## the ARMv6 build with a USB camera on an emulated Pi Zero · 2 min
	tests/zero/run

.PHONY: test-device
test-device: ## the appliance on an emulated Pi Zero: boots, is supervised, survives (PINHOLE_POWER_CUTS=N, IMAGE=file) · 16 min with 5 power cuts
	PINHOLE_IMAGE='$(IMAGE)' tests/device/run

.PHONY: test-clients
test-clients: quick ## tests with ffmpeg, OpenCV, curl, Chromium and others · 4 min
	tests/clients/run

.PHONY: test-page
test-page: ## the page's JavaScript: types, lint, unit tests · 5 s
	@tests/page/run

.PHONY: test-units
test-units: ## systemd units: verify, and sandbox exposure · 10 s
	tests/units/run

.PHONY: test-overlay
test-overlay: ## the appliance's scripts, without a machine · 10 s
	@tests/overlay/run

.PHONY: test-network
test-network: ## the appliance's network under systemd-networkd and -resolved, in network namespaces · 3 min
	tests/network/run

.PHONY: test-gadget
test-gadget: ## the appliance's network by USB, both ends of the cable in an emulated PC · 5 min
	tests/gadget/run

.PHONY: bench
bench: build ## measure beside other servers, then micro-benchmarks · 15 min
	benches/run $(ARGS)
	cargo bench --locked $(features) --bench hot_path

.PHONY: attack
attack: build ## what strangers can do to a viewer: a table (needs root) · 5 min
	PINHOLED=target/release/pinholed tests/attacks/run $(ARGS)

.PHONY: image
image: ## the SD card image, with Buildroot (FRAGMENTS=emulated|debug): prints path, size, SHA-256 · 3 h the first time
	@scripts/image/buildroot

.PHONY: sdk
sdk: ## the SDK that `make cross SDK=` compiles with for the image
	@scripts/image/buildroot sdk

.PHONY: test-reproducible
test-reproducible: ## build daemon and root of a finished image once more: the same bytes?
	@scripts/image/buildroot reproduce

.PHONY: menuconfig
menuconfig: ## choose what is in the image, in Buildroot's menu
	@scripts/image/buildroot $@

.PHONY: linux-menuconfig
linux-menuconfig: ## the same of its kernel
	@scripts/image/buildroot $@

.PHONY: savedefconfig
savedefconfig: ## write what menuconfig changed into the defconfig
	@scripts/image/buildroot $@

.PHONY: flash
flash: ## write the image onto an SD card: DEVICE=/dev/sdX [IMAGE=file.img.xz]
	@scripts/image/flash '$(DEVICE)' '$(IMAGE)'

.PHONY: test-flash
test-flash: ## tests of flash, without a disk · 10 s
	@tests/flash/run

.PHONY: check-buildroot
check-buildroot: ## the image's sources, without building it (more of them with BUILDROOT_DIR) · 20 s
	@scripts/image/check-buildroot

.PHONY: deploy
deploy: ## try a program on a running Pi until its next boot: HOST=user@address [BINARY=file]
	@[[ -n "$(HOST)" ]] || { echo "usage: make deploy HOST=user@address [BINARY=file]" >&2; exit 2; }
	binary='$(BINARY)'
	[[ -n $$binary ]] || binary=$$(scripts/build/armv6-hf musl)
	scripts/image/deploy '$(HOST)' "$$binary"

.PHONY: test-deploy
test-deploy: ## tests of deploy, without a Pi · 2 s
	@tests/deploy/run

.PHONY: fmt
fmt: ## format the sources
	cargo fmt --all

.PHONY: clean
clean: ## remove what was built here
	cargo clean
