#!/bin/sh
# Run a command whose root directory is the root of a mount namespace of its
# own.  In a chroot it is not: there mounts can't be kept to oneself, and the
# kernel gives no user namespaces.  Where nothing needs doing, or nothing can
# be done, the command is run as it is.
#
# usage: tests/own-root.sh COMMAND [ARGUMENT ...]
set -eu

if [ "$(id -u)" -ne 0 ] || { mountpoint -q / &&
    unshare --user --map-root-user true 2>/dev/null; } ||
    ! unshare --mount --propagation unchanged true 2>/dev/null; then
	exec "$@"
fi

# Descriptor 9 is our root in the new namespace.  Entering that (though we are
# in it already) takes us to the namespace's root, outside; from there ours is
# moved over it.
# shellcheck disable=SC2016
exec unshare --mount --propagation unchanged sh -eu -c '
	exec 9</
	exec nsenter --mount=/proc/self/ns/mnt sh -eu -c '\''
		root=$(readlink /proc/self/fd/9)
		mount --make-rprivate /
		mount --rbind "$root" "$root"
		cd "$root"
		mount --move . /
		exec chroot . sh -eu -c "exec 9<&-; cd \"\$0\"; exec \"\$@\"" "$0" "$@"
	'\'' "$@"
' sh "$PWD" "$@"
