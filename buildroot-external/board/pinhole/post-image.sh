#!/usr/bin/env bash
# post-image.sh IMAGES: runs in Buildroot when kernel, firmware and root file system lie in IMAGES, and makes the card of them:
# pinhole-zero-VERSION.img.xz, and beside it its block map (.bmap) and checksum (.sha256).
set -euo pipefail

images=$1
board=$(realpath -- "$(dirname -- "${BASH_SOURCE[0]}")")
repository=$(realpath -- "$board/../../..")
enabled() { grep -qx "$1=y" "$BR2_CONFIG"; }

version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$repository/Cargo.toml")
name=pinhole-zero-$version
# Told apart by their names: neither is for a network.
! enabled BR2_PINHOLE_EMULATED || name+=-emulated
! enabled BR2_PINHOLE_DEBUG || name+=-debug

folder=$images/card
rm -rf -- "$folder"
mkdir -p "$folder"/{pinhole,boot/overlays}
cp "$images/rpi-firmware/bootcode.bin" "$repository/config/pinhole.yaml" "$folder/pinhole"
cp "$images"/rpi-firmware/{start,start_x}.elf "$images"/rpi-firmware/{fixup,fixup_x}.dat \
	"$images"/rpi-firmware/{config,cmdline}.txt "$images/zImage" "$images"/bcm2708-rpi-*.dtb "$folder/boot"
# Those that config.txt names, those a person may ask for, and all cameras that libcamera has tuning for (its
# src/ipa/rpi/vc4/data) and the firmware an overlay: it loads that of one it finds. imx500 is there to be named: libcamera
# does not know it (src/sensors.rs).
for overlay in dwc2 ramoops disable-bt miniuart-bt ov5647 ov64a40 ov7251 ov9281 \
	imx219 imx283 imx290 imx296 imx327 imx335 imx378 imx415 imx462 imx477 imx500 imx519 imx708; do
	cp "$images/rpi-firmware/overlays/$overlay.dtbo" "$folder/boot/overlays"
done
cp "$images/rpi-firmware/overlays/overlay_map.dtb" "$folder/boot/overlays"
# (What a computer's terminal program shows, on pins 8 and 10.)
if enabled BR2_PINHOLE_DEBUG; then
	echo enable_uart=1 >>"$folder/boot/config.txt"
	sed -i 's/$/ console=serial0,115200/' "$folder/boot/cmdline.txt"
fi
cp "$images/rootfs.squashfs" "$folder/root.squashfs"

rm -f -- "$images"/pinhole-zero-*.{img,img.xz,img.bmap,sha256}
"$board/make-card" "$folder" "$images/$name.img"
bmaptool create -o "$images/$name.img.bmap" "$images/$name.img"
# The slots hold the same, 65 MB apart: a dictionary that reaches so far stores the second for nothing. One thread, as the
# number of threads changes the bytes.
xz --force --keep --threads=1 --check=crc32 --lzma2=preset=6,dict=96MiB "$images/$name.img"
(cd "$images" && sha256sum "$name.img.xz" "$name.img.bmap" >"$name.sha256")
rm -rf -- "$folder"
