# The house: include arrows run downwards only, every foreign library has one door, nothing is
# banned that the promises forbid, no path of a machine is written down.
. "$SEG_TESTS/lib.sh"
cd "$TOP" || exit 1

floor_of() { case $1 in
	err|mem|file|hash|rng|exact|math|parallel|isa|json) echo base ;;
	tensor|stream) echo stream ;;
	image|transform|synth) echo image ;;
	loss|confusion) echo loss ;;
	net) echo net ;; dist) echo dist ;; report) echo report ;; train) echo train ;;
	*) echo "unknown-header-$1" ;;
esac; }
below() { case $1 in
	base) echo base ;; stream) echo "base stream" ;; image) echo "base stream image" ;;
	loss) echo "base loss" ;; net) echo "base stream net" ;; dist) echo "base dist" ;;
	report) echo "base stream loss report" ;;
	train) echo "base stream image loss net dist report train" ;;
esac; }
wrong=
for f in lib/*/*.[ch]; do
	floor=$(echo "$f" | cut -d/ -f2)
	for h in $(sed -n 's,^#include "seg/\([a-z]*\)\.h".*,\1,p' "$f"); do
		case " $(below "$floor") " in *" $(floor_of "$h") "*) ;; *) wrong="$wrong $f->$h.h" ;; esac
	done
	for h in $(sed -n 's,^#include "\(lib\|cmd\)/\([a-z]*\)/.*,\2,p' "$f"); do
		[ "$h" = "$floor" ] || wrong="$wrong $f->$h/"
	done
done
is "arrows run downwards" "$wrong" ""

door() {
	got=$(grep -lE "#include *[<\"]$1" lib/*/*.[ch] cmd/*.[ch] 2>/dev/null | tr '\n' ' ')
	bad=; for f in $got; do case " $2 " in *" $f "*) ;; *) bad="$bad $f" ;; esac; done
	is "one door for $1" "$bad" ""
}
door 'mpi\.h' lib/dist/mpi.c
door 'tiffio\.h' lib/image/tiff.c
door 'jansson\.h' lib/base/json.c
for h in 'zlib\.h' 'libdeflate\.h'; do
	is "only lib/stream includes $h" "$(grep -lE "#include *<$h" lib/*/*.[ch] cmd/*.[ch] | grep -v ^lib/stream/)" ""
done
is "no fast-math, no OpenMP, no MPI_SUM" "$(grep -nE -- '-ffast-math|-Ofast|-fopenmp|#pragma omp|MPI_SUM *[,)]' Makefile lib/*/*.[ch] cmd/*.[ch])" ""
is "the library neither exits nor prints" "$(grep -nE '\b(exit|printf|puts|perror) *\(|fprintf *\(stderr' lib/*/*.[ch] | grep -v 'lib/dist/')" ""
is "no libm in results" "$(grep -nE '\b(expf?|logf?|powf?|sinf?|cosf?|tanhf?|log1pf?|expm1f?)\(' lib/*/*.c | sed 's/"[^"]*"//g;s,/\*.*,,' | grep -E '\b(expf?|logf?|powf?|sinf?|cosf?|tanhf?|log1pf?|expm1f?)\(' | grep -vE 'seg_|^[^:]*:[0-9]*: *(/?\*|//)')" ""
paths=$(for d in "$TOP" "$(dirname "$TOP")" "$HOME"; do case $d in / | /tmp | '') ;; *) printf '%s/\n' "$d" ;; esac; done)
is "no path of this machine" "$(git grep -nIF -e "$paths" 2>/dev/null | head -3)" ""
is "floor plan" "$(git ls-files | cut -d/ -f1 | sort -u | grep -vxE 'Makefile|cmd|lib|include|tests|pipelines|man|README\.md|LICENSE|\.[A-Za-z-]+')" ""
finish
