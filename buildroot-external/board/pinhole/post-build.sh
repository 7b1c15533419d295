#!/usr/bin/env bash
# post-build.sh TARGET: runs in Buildroot when all packages and the overlay are in the root file system, and finishes it.
set -euo pipefail

target=$1
board=$(realpath -- "$(dirname -- "${BASH_SOURCE[0]}")")
repository=$(realpath -- "$board/../../..")
# enabled OPTION: of Buildroot's configuration.
enabled() { grep -qx "$1=y" "$BR2_CONFIG"; }

# Name and version.
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$repository/Cargo.toml")
cat >"$target/usr/lib/os-release" <<END
NAME="Pinhole"
ID=pinhole
ID_LIKE=buildroot
VERSION="$version"
VERSION_ID=$version
PRETTY_NAME="Pinhole $version"
BUILD_ID="buildroot-$BR2_VERSION_FULL"
END

# The clock starts here where nobody knows the time; its date is that of this file (systemd-timesyncd.service(8)).
touch -d "@$SOURCE_DATE_EPOCH" "$target/usr/lib/clock-epoch"

# Mounts are units; with an fstab systemd would check the root, and mount it again.
rm -f "$target/etc/fstab"
mkdir -p "$target"/{boot,data}

# Programs that make up units at each start: none of what they look for is here, and each is a process more before the first
# picture. One would open a terminal where the kernel has a console.
rm -rf "$target/usr/lib/systemd/system-generators"

# The Zero W's Wi-Fi, of all the Pis'.
for folder in brcm cypress; do
	[[ -d $target/usr/lib/firmware/$folder ]] || continue
	find "$target/usr/lib/firmware/$folder" -mindepth 1 ! -name '*43430*' -delete
done

# overlay FOLDER: what only some images have.
# (The tests' has a stand-in for resolved, for cards that have none.)
overlay() { rsync -a --chmod=u=rwX,go=rX --exclude systemd-resolved.service "$1/" "$target/"; }
! enabled BR2_PINHOLE_DEBUG || overlay "$board/rootfs-overlay-debug"
! enabled BR2_PINHOLE_EMULATED || overlay "$repository/tests/device/overlay"
if enabled BR2_PINHOLE_VIRTUAL_CAMERAS; then
	install -D -m 644 -t "$target/usr/share/libcamera/pipeline/virtual" "$repository/tests/instruments/virtual.yaml"
fi
