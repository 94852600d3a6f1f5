# One model: 1, 2, 3, 4, 5, 8 ranks x 1, 2 threads x file, pipe x straight, killed and resumed; real
# micrographs, a batch that does not divide.
. "$SEG_TESTS/lib.sh"
[ "${MPI:-yes}" != yes ] && { skip "ranks" "not built with Open MPI"; finish; }
micrographs 13 >s.seg
args="--channels 4,8 --epochs 2 --batch 5 --norm instance --checkpoint $PWD/c.seg --log a.jsonl -o a.seg"
both() { echo "$(seg-info --hash a.seg 2>&1 | cut -c1-16) $(tail -n +2 a.jsonl | sha256sum | cut -c1-16)"; }
run() { # RANKS THREADS HOW args...
	local np=$1 threads=$2 how=$3 from=; shift 3
	[ "$how" = file ] && from="-i s.seg"
	cat s.seg | timeout -k 5 100 mpirun -q -np "$np" seg-train -@ "$threads" $from $args "$@" 2>err ||
		{ grep -q orte_iof_hnp err && # seg-train(1), CAVEATS: once more
		cat s.seg | timeout -k 5 100 mpirun -q -np "$np" seg-train -@ "$threads" $from $args "$@" 2>err; }
}
seg-train -i s.seg $args 2>err || no "one process" "$(cat err)"
want=$(both) RANDOM=3
for np in 1 2 3 4 5 8; do
	for threads in 1 2; do
		for how in file pipe; do
			rm -f c.seg a.seg
			run $np $threads $how || no "$np ranks, $threads threads, $how" "$(cat err)"
			is "$np ranks, $threads threads, $how" "$(both)" "$want"
			rm -f c.seg a.seg
			step=$((RANDOM % 5 + 1)) # of six: killed when its checkpoint is there
			run $np $threads $how --checkpoint-every 0 &
			pid=$!
			until [ "$(step_of c.seg)" -ge $step ] 2>/dev/null || ! kill -0 $pid 2>/dev/null; do sleep 0.01; done
			pkill -9 -f "seg-train .*--checkpoint $PWD/c.seg"; wait $pid 2>/dev/null
			at=$(step_of c.seg)
			run $np $threads $how --resume || no "resumed: $np ranks, $threads threads, $how" "$(cat err)"
			is "$np ranks, $threads threads, $how, killed after step $at and resumed" "$(both)" "$want"
		done
	done
done
finish
