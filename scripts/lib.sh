# shellcheck shell=bash
# What the scripts share: each sources this first. It only defines:
#
#   $repository  this checkout
#   $cache       where tools, root folders and builds are kept between runs: PINHOLE_CACHE, else ~/.cache/pinhole

repository=$(realpath -- "$(dirname -- "${BASH_SOURCE[0]}")/..")
cache=$(realpath -m -- "${PINHOLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pinhole}")
this_script=$(realpath -m -- "$0")
this_script=${this_script#"$repository"/}

say() { printf '== %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "$this_script" "$*" >&2; exit 1; }

# usage: prints the comment at the head of the script, and ends it.
usage() {
	sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
	exit 2
}

# as_root COMMAND…: through sudo where the caller is not root.
as_root() {
	if [[ $EUID -eq 0 ]]; then "$@"; else sudo -- "$@"; fi
}

# exec_as_root COMMAND…: likewise, in this script's place.
exec_as_root() {
	if [[ $EUID -eq 0 ]]; then exec "$@"; else exec sudo -- "$@"; fi
}
