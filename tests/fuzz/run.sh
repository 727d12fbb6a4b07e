#!/bin/sh
# Fuzz targets, two at a time, each from the inputs kept in the tree, and print
# of each how much was tried and reached.  Fails on any crash, leak, undefined
# behaviour or timeout; its input is then in DIRECTORY/found.
#
# usage: tests/fuzz/run.sh DIRECTORY NAME ...
#   FUZZ_RUNS     so many executions each (a million)
#   FUZZ_SECONDS  or so long, instead
#   FUZZ_SEED     the same ones again each time
set -eu

# A short memory of what was freed, and none of by whom, is as good and faster by
# a third: trying again what was found tells that.
ASAN_OPTIONS=malloc_context_size=1:quarantine_size_mb=1
export ASAN_OPTIONS

figure() {
	sed -n "s/^stat::$1: *//p" "$log"
}

reached() {
	sed -n "s/.* $1: \\([0-9]*\\).*/\\1/p" "$log" | tail -n 1
}

fuzz() {
	name=$1
	log=$objects/found/$name.log
	corpus=$objects/corpus/$name
	mkdir -p "$corpus"
	set -- -runs="${FUZZ_RUNS:-1000000}"
	[ -z "${FUZZ_SECONDS:-}" ] || set -- -max_total_time="$FUZZ_SECONDS"
	[ -z "${FUZZ_SEED:-}" ] || set -- "$@" -seed="$FUZZ_SEED"
	begun=$(date +%s)
	"$objects/tests/fuzz/fuzz_$name" "$@" -max_len=512 -timeout=20 \
	    -rss_limit_mb=1024 -print_final_stats=1 \
	    -dict="tests/fuzz/$name.dict" \
	    -artifact_prefix="$objects/found/$name-" \
	    "$corpus" "tests/fuzz/corpus/$name" >"$log" 2>&1 || {
		tail -n 40 "$log"
		echo "$name: failed, see $log" >&2
		return 1
	}
	took=$(($(date +%s) - begun))
	count=$(figure number_of_executed_units)
	printf '%-10s %10d %8d %8d %6d %7d\n' "$name" "$count" "$took" \
	    "$((count / (took > 0 ? took : 1)))" "$(reached cov)" \
	    "$(reached ft)"
}

objects=$1
if [ "$2" = -- ]; then # called by itself
	fuzz "$3"
	exit
fi
shift
mkdir -p "$objects/found"
printf '%-10s %10s %8s %8s %6s %7s\n' target executions seconds '1/s' cov ft
printf '%s\n' "$@" | xargs -P 2 -n 1 "$0" "$objects" --
