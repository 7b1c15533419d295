################################################################################
#
# pinhole
#
################################################################################

PINHOLE_VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' $(BR2_EXTERNAL_PINHOLE_PATH)/../Cargo.toml)
PINHOLE_SITE = $(realpath $(BR2_EXTERNAL_PINHOLE_PATH)/..)
PINHOLE_SITE_METHOD = local
PINHOLE_LICENSE = MIT or Apache-2.0
PINHOLE_LICENSE_FILES = LICENSE-MIT LICENSE-APACHE
# Its source is this repository.
PINHOLE_REDISTRIBUTE = NO
PINHOLE_DEPENDENCIES = host-pkgconf libcamera $(BR2_CMAKE_HOST_DEPENDENCY)
PINHOLE_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = --exclude /target

# A local package is not downloaded, so its crates are not either: they are vendored beside the downloads, once for each
# Cargo.lock, which has the hash of each. After that nothing of this package needs a network.
PINHOLE_CRATES = $(PINHOLE_DL_DIR)/crates-$(shell sha256sum $(BR2_EXTERNAL_PINHOLE_PATH)/../Cargo.lock | cut -c 1-16)
define PINHOLE_VENDOR
	mkdir -p $(PINHOLE_DL_DIR)
	$(TARGET_MAKE_ENV) $(PKG_COMMON_CARGO_ENV) \
		$(PINHOLE_PKGDIR)/vendor $(@D) $(PINHOLE_CRATES)
endef
PINHOLE_POST_RSYNC_HOOKS += PINHOLE_VENDOR

PINHOLE_CARGO_BUILD_OPTS = --config $(PINHOLE_CRATES)/config.toml --bin pinholed

PINHOLE_TRIPLE = $(subst -,_,$(RUSTC_TARGET_NAME))

# pkg-cargo.mk sets a release profile of its own, and flags: both again here, as Cargo.toml has the one, and with what the
# processor is, and without the build's folders, in the other. Symbols stay for Buildroot to strip: they tell check-elf
# code from data.
PINHOLE_CARGO_ENV = \
	CARGO_TARGET_DIR=$(@D)/target \
	CARGO_PROFILE_RELEASE_LTO=fat \
	CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 \
	CARGO_PROFILE_RELEASE_OPT_LEVEL=3 \
	CARGO_PROFILE_RELEASE_STRIP=none \
	CARGO_TARGET_$(call UPPERCASE,$(RUSTC_TARGET_NAME))_RUSTFLAGS="$(PINHOLE_RUSTFLAGS)" \
	CC_$(PINHOLE_TRIPLE)="$(TARGET_CC)" \
	CXX_$(PINHOLE_TRIPLE)="$(TARGET_CXX)" \
	AR_$(PINHOLE_TRIPLE)="$(TARGET_AR)" \
	RANLIB_$(PINHOLE_TRIPLE)="$(TARGET_RANLIB)" \
	CFLAGS_$(PINHOLE_TRIPLE)="$(TARGET_CFLAGS) -ffile-prefix-map=$(@D)=. -ffile-prefix-map=$(PINHOLE_CRATES)=crates" \
	CXXFLAGS_$(PINHOLE_TRIPLE)="$(TARGET_CXXFLAGS) -ffile-prefix-map=$(@D)=. -ffile-prefix-map=$(PINHOLE_CRATES)=crates" \
	HOST_CC="$(HOSTCC)" \
	HOST_CXX="$(HOSTCXX)" \
	HOST_CFLAGS="$(HOST_CFLAGS)" \
	HOST_CXXFLAGS="$(HOST_CXXFLAGS)" \
	PKG_CONFIG_ALLOW_CROSS=1 \
	BINDGEN_EXTRA_CLANG_ARGS="--target=$(PINHOLE_CLANG_TARGET) --sysroot=$(STAGING_DIR) $(PINHOLE_CXX_HEADERS)" \
	V4L2R_VIDEODEV2_H_PATH=$(STAGING_DIR)/usr/include/linux

PINHOLE_RUSTFLAGS = \
	-Ctarget-cpu=$(GCC_TARGET_CPU) \
	-Clink-arg=-Wl,--allow-multiple-definition \
	--remap-path-prefix=$(@D)=. \
	--remap-path-prefix=$(PINHOLE_CRATES)=crates

# libclang knows where a distribution keeps C++'s headers, not where Buildroot's compilers do.
PINHOLE_CXX_HEADERS = $(shell $(TARGET_CXX) -E -x c++ -v /dev/null 2>&1 >/dev/null | sed -n 's|^ \(/.*/c++/.*\)|-isystem \1|p')

PINHOLE_CLANG_TARGET = $(if $(BR2_ARM_EABIHF),arm-linux-gnueabihf,arm-linux-gnueabi)

PINHOLE_PROGRAM = $(@D)/target/$(RUSTC_TARGET_NAME)/$(if $(BR2_ENABLE_DEBUG),debug,release)/pinholed

define PINHOLE_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 755 $(PINHOLE_PROGRAM) $(TARGET_DIR)/usr/bin/pinholed
	$(INSTALL) -D -m 644 $(@D)/config/pinhole.yaml $(TARGET_DIR)/etc/pinhole/pinhole.yaml
endef

define PINHOLE_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 644 -t $(TARGET_DIR)/usr/lib/systemd/system \
		$(@D)/systemd/pinhole.service $(@D)/systemd/pinhole.socket
endef

$(eval $(cargo-package))
