#!/bin/sh
# The step of tests/scale/step.c on simulated clusters, beside the formula of model.py.
# RANKS="2 3 ..." (those below); FAST=no: 256 ranks with every batch, a minute of simulating each.
# Needs smpicc and smpirun (libsimgrid-dev).
set -eu
here=$(dirname "$0") top=$(dirname "$0")/../..
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
RANKS=${RANKS:-2 3 4 8 12 16 32 64 100 128 256}

# Hosts around one switch: a link of its own for each, both ways at once.
platform() { # HOSTS BANDWIDTH LATENCY-OF-A-LINK
	cat >"$out/platform.xml" <<-END
	<?xml version='1.0'?>
	<!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">
	<platform version="4.1"><zone id="all" routing="Full">
	<cluster id="c" prefix="n" suffix="" radical="0-$(($1 - 1))" speed="10Gf" bw="$2" lat="$3"/>
	</zone></platform>
	END
	seq -f n%.0f 0 $(($1 - 1)) >"$out/hosts"
}

# OMPI_COMM_WORLD_SIZE: what seg_dist_launched looks for.
# smpi/test:0 - SMPI would sleep for each part of a collective at each look at it; time passes in the naps
# of lib/dist/mpi.c alone.  lat-factor, bw-factor: the network is what the platform says, not what was once
# measured on another cluster.  send-is-detached: the same times, simulated faster.
simulate() { # PROGRAM RANKS ARGUMENTS...
	program=$1 np=$2; shift 2
	OMPI_COMM_WORLD_SIZE=$np timeout -k 5 600 smpirun -np "$np" -platform "$out/platform.xml" -hostfile "$out/hosts" \
		--cfg=smpi/host-speed:10Gf --cfg=smpi/simulate-computation:no --cfg=smpi/coll-selector:ompi \
		--cfg=smpi/test:0 --cfg=smpi/lat-factor:0:1 --cfg=smpi/bw-factor:0:0.94 \
		--cfg=smpi/send-is-detached-thresh:0 --log=root.thres:critical "$out/$program" "$@" </dev/null
}

compile() { # PROGRAM MPI.C
	smpicc -O2 -D_GNU_SOURCE -I"$top/include" -o "$out/$1" "$here/step.c" "$2" "$top/lib/dist/tree.c" \
		"$top/lib/dist/alone.c" "$top/lib/base/err.c" "$top/lib/base/mem.c" "$top/lib/base/parallel.c"
}
compile step "$top/lib/dist/mpi.c"

python3 "$here/model.py" networks | while read -r name bandwidth latency rest; do
	for np in $RANKS; do
		platform "$np" "$bandwidth" "$latency"
		# 11 per rank, and a batch that cannot be shared evenly: shares of several nodes
		for batch in $((np * 16)) $((np * 2)) $((np * 1)) $((np * 11)) $((np * 16 - 1)); do
			[ "$np" -lt 256 ] || [ "$batch" = $((np * 16)) ] || [ "${FAST:-yes}" = no ] || continue
			case $np,$batch in 3,*|12,*|100,*) ;; *,$((np * 11))|*,$((np * 16 - 1))) continue ;; esac
			echo "$name $(simulate step "$np" "$batch" $rest)"
		done
	done
done | python3 "$here/model.py" compare

# Is it the naps that the time goes to?  The same with naps of 16 us at most.
sed 's/LONGEST = 1000/LONGEST = 16/' "$top/lib/dist/mpi.c" >"$out/keen.c"
if cmp -s "$top/lib/dist/mpi.c" "$out/keen.c"; then
	echo "run.sh: the naps of lib/dist/mpi.c are not what they were" >&2
	exit 1
fi
compile keen "$out/keen.c"
python3 "$here/model.py" networks | while read -r name bandwidth latency rest; do
	for np in 4 32; do
		platform "$np" "$bandwidth" "$latency"
		echo "naps: $name, $np ranks, 2 samples per rank: $(simulate step "$np" $((2 * np)) $rest | cut -d' ' -f4) ms of communication," \
			"$(simulate keen "$np" $((2 * np)) $rest | cut -d' ' -f4) ms with naps of 16 us at most"
	done
done
