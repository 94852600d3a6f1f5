# Has it become slower?  Instructions are counted, not seconds: the same on every run of the same program.
. "$SEG_TESTS/lib.sh"
command -v valgrind >/dev/null || { skip "instructions" "no valgrind here: apt-get install valgrind"; finish; }
[ "$B" = build ] || { skip "instructions" "of another build"; finish; }
case $(cut -d' ' -f1 "$TOP/$B/flags") in *clang*) skip "instructions" "the limits are those of gcc"; finish ;; esac
seg-train --version | grep -qE 'avx' || { skip "instructions" "the limits are those of AVX2"; finish; }
export SEG_ISA=avx2 # what valgrind knows
seg-synth -n 2 --size 64 >s.seg
timeout 300 valgrind --tool=callgrind --callgrind-out-file=counts seg-train -@ 1 -i s.seg -o m.seg --max-steps 1 --batch 2 >log 2>&1 ||
	no "valgrind runs" "$(tail -n 3 log)"
# 2 samples of 64x64; a 256x256 takes 2287 million multiply-adds, forward and back
callgrind_annotate --auto=no --threshold=100 counts 2>/dev/null | tr -d , | awk -v macs=$((2287 * 2 / 16))e6 '
	/PROGRAM TOTALS/ { all = $1 }
	/:(conv|wgrad|seg_winograd_avx2|seg_winograd_gradient_avx2|fold_four|dots)( |$)/ { kernels += $1 }
	END { printf "%.3f %.3f\n", kernels / macs, all / macs }' >per-mac
read -r kernels all <per-mac
# limits: a twentieth above what gcc 12 makes
at_most() { awk -v a="$2" -v b="$3" 'BEGIN { exit !(a > 0 && a <= b) }' && ok "$1: $2 instructions for a multiply-add (at most $3)" || no "$1" "$2 instructions for a multiply-add, more than $3"; }
at_most "convolutions and weight gradients" "$kernels" 0.32
at_most "the whole program, start and optimiser included" "$all" 0.95
finish
