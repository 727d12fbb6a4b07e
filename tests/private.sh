#!/bin/sh
# Run a command where build/peers lies over /usr, /etc and /var, with /run
# empty, in a mount namespace of its own: nobody else sees it, and nothing of
# it is left when its last process ends.  Needs root.
#
# usage: tests/private.sh SCRATCH [SOURCE:TARGET ...] -- COMMAND [ARGUMENT ...]
#   SCRATCH        an empty directory, for the mounts
#   SOURCE:TARGET  bind SOURCE over TARGET, a directory or a file
set -eu

if [ -z "${PRIVATE_NAMESPACE:-}" ]; then
	PRIVATE_NAMESPACE=1 exec unshare --mount --propagation private "$0" "$@"
fi
unset PRIVATE_NAMESPACE

peers=$(cd "$(dirname "$0")/.." && pwd)/build/peers/root
scratch=$1
shift
mount -t tmpfs -o mode=0755 private "$scratch"
for directory in usr etc var; do
	lower=/$directory
	[ ! -d "$peers/$directory" ] || lower=$peers/$directory:/$directory
	mkdir "$scratch/$directory" "$scratch/$directory.work"
	mount -t overlay -o "lowerdir=$lower,upperdir=$scratch/$directory,\
workdir=$scratch/$directory.work" private "/$directory"
done
mount -t tmpfs -o mode=0755 private /run

while [ "$1" != -- ]; do
	source=${1%%:*}
	target=${1#*:}
	if [ -d "$source" ]; then
		mkdir -p "$target"
	elif [ ! -e "$target" ]; then
		# A link may point to nowhere (resolv.conf).
		rm -f "$target"
		: >"$target"
	fi
	mount --bind "$source" "$target"
	shift
done
shift
exec "$@"
