#!/bin/sh
# `make bench`: the environment of tests/bench.py.
# usage: bench.sh [ROUNDS]     TORCH=debian measures Debian's PyTorch although a newer one could be had
sh tests/deps.sh python3-venv python3-numpy python3-torch python3-pil python3-tifffile pigz || exit 1
. tests/venv.sh
venv_keras || echo "skipped: Keras: cannot be installed here" >&2
# PyTorch as it comes wants 6 GB of what only a GPU needs and does not start without; it has a directory of its
# own, since conformance.sh compares with Debian's.
torch=
if [ "$TORCH" = debian ]; then :
elif [ ! -e "$V/have-torch" ] && [ "$(df -Pk build | awk 'NR == 2 { print $4 }')" -lt 12000000 ]; then
	echo "skipped: current PyTorch: needs 12 GB of room while it is installed; Debian's is measured" >&2
elif venv torch --target "$V/torch" torch "numpy<2" && PYTHONPATH=$V/torch "$V/bin/python" -c 'import torch' 2>/dev/null; then
	torch=$V/torch:
else
	echo "skipped: current PyTorch: cannot be installed here; Debian's is measured" >&2
fi
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
PYTHONPATH=${torch}tests PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 tests/bench.py "${1:-5}"
