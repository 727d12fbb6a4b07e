#!/bin/sh
# Run a command where build/peers lies over /usr, /etc and /var, and /run and
# /dev/shm are empty, in a mount namespace of its own: nobody else sees it, and
# nothing of it is left when its last process ends.  Needs root.
#
# usage: tests/private.sh [--end-all] SCRATCH [SOURCE:TARGET ...] -- COMMAND ...
#   --end-all      for servers: all that the command started ends with it, or
#                  when this process is killed; else it becomes the command
#   PEERS          (in the environment) instead of build/peers
#   SCRATCH        an empty directory, for the mounts
#   SOURCE:TARGET  bind SOURCE over TARGET, a directory or a file
set -eu

if [ -z "${PRIVATE_NAMESPACE:-}" ]; then
	export PRIVATE_NAMESPACE=1
	if [ "$1" = --end-all ]; then
		exec unshare --mount --propagation private --pid --fork \
		    --kill-child --mount-proc "$0" "$@"
	fi
	exec unshare --mount --propagation private "$0" "$@"
fi
unset PRIVATE_NAMESPACE

end_all=
if [ "$1" = --end-all ]; then
	end_all=1
	shift
fi
peers=${PEERS:-$(cd "$(dirname "$0")/.." && pwd)/build/peers}/root
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
mount -t tmpfs -o mode=1777 private /dev/shm # faketime's semaphores

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
[ -n "$end_all" ] || exec "$@"
# The signal that ends us with our parent is lost by changes of user, so the
# command is not to be the first process of the namespace itself.
"$@"
