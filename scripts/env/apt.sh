# shellcheck shell=bash
# apt on this machine, driven here and nowhere else. Sourced after lib.sh.

apt_is_updated=
apt_update() {
	[[ -z $apt_is_updated ]] || return 0
	apt_is_updated=yes
	# One broken source of many need not matter; what is missing shows when it is installed.
	as_root apt-get update -qq >&2 || say "apt-get update failed: going on with the package lists there are"
}

# apt_install [--OPTION…] PACKAGE…
apt_install() {
	local options=() room try
	while [[ $1 == --* ]]; do
		options+=("$1")
		shift
	done
	command -v apt-get >/dev/null || die "please install: $* (this machine has no apt-get)"
	[[ -z ${PINHOLE_NO_INSTALL:-} ]] || die "please install: $* (PINHOLE_NO_INSTALL is set)"
	[[ $EUID -eq 0 ]] || command -v sudo >/dev/null || die "please install, as root: $* (this machine has no sudo)"
	# One at a time: apt waits for its own lock when it installs, but not when it updates its lists.
	local lock
	mkdir -p -- "$cache"
	exec {lock}>"$cache/apt.lock"
	flock "$lock"
	apt_update {lock}>&-
	# How much room that takes, in the words of apt 2 and of apt 3. A question that is answered with no always fails, and a
	# number that is not found only is not told.
	room=$(LC_ALL=C apt-get install --assume-no --no-install-recommends "${options[@]}" "$@" 2>/dev/null | sed -nE \
		's/^After this operation, ([0-9.,]+ [kMG]?B) of additional.*/\1/p; s/^ *Space needed: ([0-9.,]+ [kMG]?B) .*/\1/p') || true
	say "installing $*${room:+: $room of disk, some minutes}"
	for try in 1 2 3; do
		# Another apt may hold the lock, or clean the cache under our hands.
		[[ $try -eq 1 ]] || sleep "$((try * 3))"
		if as_root env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get install -qq --yes \
			--no-install-recommends -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 "${options[@]}" "$@" >/dev/null {lock}>&-; then
			exec {lock}>&-
			return 0
		fi
	done
	die "apt-get could not install $*: see its message above"
}

# apt_unpack DIR PACKAGE…: downloads these and unpacks them into DIR, without installing them.
apt_unpack() {
	local dir=$1 work
	shift
	command -v apt-get >/dev/null || die "please install: $* (this machine has no apt-get)"
	apt_update
	say "unpacking $*, in $dir"
	mkdir -p -- "$dir"
	work=$(mktemp -d)
	(cd "$work" && apt-get -qq download "$@" && for package in ./*.deb; do dpkg -x "$package" "$dir"; done) ||
		die "cannot be had: $*"
	rm -rf -- "$work"
}

# apt_need [--OPTION…] THING:PACKAGE[,PACKAGE…]…: installs the packages of what is missing, as scripts/env/need has it.
apt_need() {
	local options=() packages=() wanted item package
	for item; do
		if [[ $item == --* ]]; then
			options+=("$item")
		elif ! is_there "${item%%:*}"; then
			IFS=, read -ra wanted <<<"${item#*:}"
			for package in "${wanted[@]}"; do [[ " ${packages[*]} " == *" $package "* ]] || packages+=("$package"); done
		fi
	done
	[[ ${#packages[@]} -eq 0 ]] || apt_install "${options[@]}" "${packages[@]}"
}

# is_there THING: a command, a file by its whole path (a pattern will do), or python3=MODULE[,MODULE…].
is_there() {
	case $1 in
	/*) compgen -G "$1" >/dev/null ;;
	python3=*) python3 -c "import ${1#*=}" 2>/dev/null ;;
	*) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
	esac
}
