#!/bin/sh
# Unpack the peers of the benchmark as tests/peers.sh does, each of those that
# call themselves "the" mail system in a tree of its own.  Needs root.
#
# usage: bench/peers.sh
set -eu
cd "$(dirname "$0")/.."

tests/peers.sh
sed -n 's/^bench //p' tests/packages.txt | while read -r name; do
	PEERS=$PWD/build/bench/peers/$name tests/peers.sh "$name" </dev/null
done
