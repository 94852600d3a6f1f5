# Killed at random moments - a rank, mpirun, from a file or a pipe - and resumed on another number of
# ranks: every time the model and the log of the run that was left alone.  N kills (100); SEG_DATA's
# micrographs if they are there, else scenes.
. "$SEG_TESTS/lib.sh"
[ "${MPI:-yes}" != yes ] && { skip "kills" "not built with Open MPI"; finish; }
N=${N:-100}
micrographs 13 >s.seg
set -- --channels 4,8 --epochs 2 --batch 5 --checkpoint "$PWD/c.seg" --checkpoint-every 0 --resume --log a.jsonl -o a.seg
both() { echo "$(seg-info --hash a.seg 2>&1 | cut -c1-16) $(sha256sum <a.jsonl | cut -c1-16)"; }
run() { # RANKS HOW
	if [ "$2" = pipe ]; then cat s.seg | timeout -k 5 200 mpirun -q -np "$1" seg-train "${args[@]}" 2>err
	else timeout -k 5 200 mpirun -q -np "$1" seg-train -i s.seg "${args[@]}" </dev/null 2>err; fi
}
args=("$@")
rm -f c.seg; run 1 file || no "the run that is left alone" "$(cat err)"
want=$(both)
start=$(date +%s%N); rm -f c.seg a.seg; run 2 file; took=$((($(date +%s%N) - start) / 1000000))
is "two ranks" "$(both)" "$want"
RANDOM=1 kills=0 bad_runs=0
while [ $kills -lt "$N" ]; do
	rm -f c.seg a.seg a.jsonl
	for round in 1 2 3; do
		np=$((RANDOM % 3 + 1)) how=$([ $((RANDOM % 2)) = 0 ] && echo file || echo pipe)
		run $np $how & pid=$!
		sleep "$(awk -v r=$RANDOM -v t=$took 'BEGIN {printf "%.3f", r / 32768 * t / 1000}')"
		victims=$(pgrep -f "seg-train .*--checkpoint $PWD/c.seg" | shuf -n 1 --random-source=<(yes $RANDOM))
		[ -n "$victims" ] && kill -9 $victims 2>/dev/null && kills=$((kills + 1))
		wait $pid 2>/dev/null; rc=$?
		[ -n "$victims" ] && [ $rc = 0 ] && ! [ -e a.seg ] && { no "killed, yet status 0" "$(cat err)"; bad_runs=$((bad_runs + 1)); }
		pkill -9 -f "seg-train .*--checkpoint $PWD/c.seg" 2>/dev/null
	done
	np=$((RANDOM % 4 + 1)); run $np file || { no "resumed on $np ranks" "$(cat err)"; bad_runs=$((bad_runs + 1)); }
	[ "$(both)" = "$want" ] || { no "after $kills kills" "$(both), want $want"; bad_runs=$((bad_runs + 1)); }
	[ $bad_runs -lt 3 ] || break
done
is "$kills kills, runs that ended otherwise" $bad_runs 0
finish
