################################################################################
#
# Pinhole: changes to Buildroot's own packages, and what is checked of them
#
################################################################################

include $(sort $(wildcard $(BR2_EXTERNAL_PINHOLE_PATH)/package/*/*.mk))

# The kernel's final configuration has every option the fragments ask for. Kconfig drops what it does not know, or what
# depends on something else, without a word. (Of trim.fragment nothing is asked.) Checked before it is built, and again with
# each image, however the kernel came about. So is what the Wi-Fi driver is told not to do.
ifeq ($(BR2_LINUX_KERNEL),y)
define PINHOLE_LINUX_CHECK_CONFIG
	$(BR2_EXTERNAL_PINHOLE_PATH)/board/pinhole/check-kernel-config \
		$(LINUX_DIR)/.config $(filter-out %/trim.fragment,$(LINUX_KCONFIG_FRAGMENT_FILES))
	$(BR2_EXTERNAL_PINHOLE_PATH)/board/pinhole/check-wifi-features \
		$(LINUX_DIR)/drivers/net/wireless/broadcom/brcm80211/brcmfmac/feature.h \
		$(BR2_EXTERNAL_PINHOLE_PATH)/board/pinhole/rootfs-overlay/usr/lib/modprobe.d/brcmfmac.conf
endef
LINUX_PRE_BUILD_HOOKS += PINHOLE_LINUX_CHECK_CONFIG
TARGET_FINALIZE_HOOKS += PINHOLE_LINUX_CHECK_CONFIG
endif

# libcamera signs its image processing modules with a key made anew for each build, so no two builds were the same. The
# signature only tells libcamera which modules may run in its own process: those of this image, from its read-only root.
define PINHOLE_LIBCAMERA_PIN_IPA_KEY
	script=$$(find $(@D)/utils -name gen-ipa-priv-key.sh) && \
		test -n "$$script" && \
		cp $(BR2_EXTERNAL_PINHOLE_PATH)/board/pinhole/ipa-key.pem "$${script%/*}" && \
		printf '#!/bin/sh\nexec cp "$${0%%/*}/ipa-key.pem" "$$1"\n' >"$$script"
endef
LIBCAMERA_POST_PATCH_HOOKS += PINHOLE_LIBCAMERA_PIN_IPA_KEY

# OpenSSL is there for wpa_supplicant (WPA3), and what finds it links to it. In systemd's library it would be loaded by each of
# its programs at each start, for DNS over TLS and DNSSEC, which are off (resolved.conf.d); in libkmod for showing who signed
# a module. Buildroot's own word comes first, and the last counts.
SYSTEMD_CONF_OPTS += -Dopenssl=disabled -Ddns-over-tls=false -Ddefault-dns-over-tls=no -Ddefault-dnssec=no
KMOD_CONF_OPTS += -Dopenssl=disabled

# libcamera's virtual cameras, which Buildroot has no option for. They need libyuv, which libcamera asks pkg-config for, or
# else would download.
ifeq ($(BR2_PINHOLE_VIRTUAL_CAMERAS),y)
LIBCAMERA_PIPELINES-y += virtual
define PINHOLE_LIBYUV_PKG_CONFIG
	printf 'libdir=/usr/lib\nName: libyuv\nDescription: libyuv\nVersion: 0\nLibs: -L$${libdir} -lyuv\n' \
		>$(STAGING_DIR)/usr/lib/pkgconfig/libyuv.pc
endef
LIBYUV_POST_INSTALL_STAGING_HOOKS += PINHOLE_LIBYUV_PKG_CONFIG
$(LIBCAMERA_TARGET_CONFIGURE): | jpeg libyuv
endif
