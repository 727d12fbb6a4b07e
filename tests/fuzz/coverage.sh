#!/bin/sh
# Print how many lines of each file were run, and fail when one is below the
# bar.
#
# usage: tests/fuzz/coverage.sh DIRECTORY_OF_OBJECTS NAME ...
set -eu

bar=90
objects=$1
shift
bad=0

for name in "$@"; do
	line=$(cd "$objects" && gcov -n "$name.gcda" 2>/dev/null |
	    grep -A 1 "^File '$name.c'" | sed -n 's/^Lines executed://p')
	printf '%-20s %s\n' "$name.c" "${line:-0% (no line)}"
	percent=${line%%.*}
	[ "${percent:-0}" -ge "$bar" ] || bad=1
done
[ "$bad" = 0 ] || echo "a file is below $bar %"
exit "$bad"
