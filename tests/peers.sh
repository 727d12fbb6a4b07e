#!/bin/sh
# Download the peers of tests/packages.txt (or those named) with what they
# need and unpack them into build/peers: nothing is installed, so no mail
# system gets onto the machine.  tests/private.sh lays build/peers over /usr
# and /etc.  Run again, it does nothing.  Needs root, for apt-get.
#
# usage: tests/peers.sh [NAME ...]
#   PEERS  (in the environment) instead of build/peers
set -eu

here=$(cd "$(dirname "$0")" && pwd)
peers=${PEERS:-$(dirname "$here")/build/peers}
root=$peers/root
names=${*:-$(sed -n 's/^peer //p' "$here/packages.txt")}

missing=
for name in $names; do
	[ -e "$peers/done/$name" ] || missing="$missing $name"
done
[ -n "$missing" ] || exit 0

mkdir -p "$peers/debs/partial" "$peers/done" "$root/etc"
for directory in bin lib lib32 lib64 libx32 sbin; do
	# Debian 12 has only these links; packages still name the old paths.
	mkdir -p "$root/usr/$directory"
	ln -sfn "usr/$directory" "$root/$directory"
done

# The maintainer scripts of these never run, so apt's own lock and state are
# all that is touched, and only for the download.  All are named, not just the
# missing ones: several depend on any mail system, which is to be our postfix.
# shellcheck disable=SC2086
set -- apt-get -y -qq --no-install-recommends --download-only --reinstall \
    -o Dir::Cache::archives="$peers/debs" -o APT::Sandbox::User=root \
    install $names
"$@" >"$peers/log" 2>&1 || {
	# A machine that has never looked, or not for long, has no list.
	apt-get -qq update >>"$peers/log" 2>&1
	"$@" >>"$peers/log" 2>&1
} || {
	cat "$peers/log" >&2
	exit 1
}

for deb in "$peers"/debs/*.deb; do
	dpkg-deb --fsys-tarfile "$deb" |
	    tar -x -f - -C "$root" --keep-directory-symlink
done
# Nothing here needs more rights than who runs it has.
find "$root" -perm /6000 -type f -exec chmod u-s,g-s {} +
for name in $missing; do
	: >"$peers/done/$name"
done
