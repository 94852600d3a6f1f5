/* seg_dist_open of a build without MPI; with MPI the linker takes the one of mpi.c. */
#include "seg/dist.h"
#include "seg/err.h"

int seg_dist_open(struct seg_dist *d)
{
	if (seg_dist_launched(NULL))
		return seg_fail(SEG_EDATA, "launched as one of several ranks, but built without MPI; "
		    "build with MPI=yes or run it alone");
	seg_dist_alone(d);
	return SEG_OK;
}
