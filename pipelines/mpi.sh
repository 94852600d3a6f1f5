# Sourced: `ranks N program...` runs it on N MPI ranks, as root and on few cores too, or plainly
# where there is no mpirun.
ranks() {
	local n=$1; shift
	if ! command -v mpirun >/dev/null; then "$@"; return; fi
	OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 \
	OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1 mpirun -q -np "$n" "$@"
}
