#!/bin/sh
# The step of tests/scale/step.c on simulated clusters, beside the formula of model.py.
# RANKS="2 3 ..." (those below); FAST=no: 256 ranks with every batch, a minute of simulating each.
# Needs smpicc and smpirun (libsimgrid-dev).
set -eu
here=$(dirname "$0") top=$(dirname "$0")/../..
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
RANKS=${RANKS:-2 3 4 8 12 16 32 64 100 128 256}

# Hosts around one switch: a link of its own for each, both ways at once.  SimGrid wants its DOCTYPE: as smpirun
# writes it.
platform() { # HOSTS BANDWIDTH LATENCY-OF-A-LINK
	cat >"$out/platform.xml" <<-END
	<?xml version='1.0'?>
	$(grep -m 1 '^<!DOCTYPE' "$(command -v smpirun)")
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
simulate() { # RANKS ARGUMENTS...
	np=$1; shift
	OMPI_COMM_WORLD_SIZE=$np timeout -k 5 200 smpirun -np "$np" -platform "$out/platform.xml" -hostfile "$out/hosts" \
		--cfg=smpi/host-speed:10Gf --cfg=smpi/simulate-computation:no --cfg=smpi/coll-selector:ompi \
		--cfg=smpi/test:0 --cfg=smpi/lat-factor:0:1 --cfg=smpi/bw-factor:0:0.94 \
		--cfg=smpi/send-is-detached-thresh:0 --log=root.thres:critical "$out/step" "$@" </dev/null
}

smpicc -O2 -D_GNU_SOURCE -I"$top/include" -o "$out/step" "$here/step.c" "$top/lib/dist/mpi.c" "$top/lib/dist/tree.c" \
	"$top/lib/dist/alone.c" "$top/lib/base/err.c" "$top/lib/base/mem.c" "$top/lib/base/parallel.c"

python3 "$here/model.py" networks | while read -r name bandwidth latency rest; do
	for np in $RANKS; do
		platform "$np" "$bandwidth" "$latency"
		# 11 per rank, and a batch that cannot be shared evenly: shares of several nodes
		for batch in $((np * 16)) $((np * 2)) $((np * 1)) $((np * 11)) $((np * 16 - 1)); do
			[ "$np" -lt 256 ] || [ "$batch" = $((np * 16)) ] || [ "${FAST:-yes}" = no ] || continue
			case $np,$batch in 3,*|12,*|100,*) ;; *,$((np * 11))|*,$((np * 16 - 1))) continue ;; esac
			echo "$name $(simulate "$np" "$batch" $rest)"
		done
	done
done | python3 "$here/model.py" compare
