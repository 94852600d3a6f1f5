# The post's own run as a test of the whole: 256x256x3, five masks, batch 16, its loss as posted,
# eight ranks fed by a pipe.  The model is that of one rank, bit for bit.
. "$SEG_TESTS/lib.sh"
LOSS='@post.weighted_loss(weights=[0,1,2,3,4])'
seg-synth -n 20 --masks >scenes.seg || { no "scenes"; finish; }
one() { timeout -k 5 300 seg-train -o "$1" -l "$LOSS" --batch 16 --log "$1.jsonl" 2>"$1.err"; }
many() { timeout -k 5 300 mpirun -q -np 8 seg-train -o "$1" -l "$LOSS" --batch 16 --log "$1.jsonl" 2>"$1.err"; }
seg-augment -s 1 --epochs 2 flip rot90 'gamma(0.8,1.2)' <scenes.seg | one np1.seg
is "one rank ends well" "${PIPESTATUS[*]}" "0 0"
if [ "${MPI:-yes}" != yes ]; then skip "eight ranks" "not built with Open MPI"; finish; fi
seg-augment -s 1 --epochs 2 flip rot90 'gamma(0.8,1.2)' <scenes.seg | many np8.seg
is "eight ranks end well" "${PIPESTATUS[*]}" "0 0" || cat np8.seg.err
is "same model" "$(seg-info --hash np8.seg | cut -d' ' -f1)" "$(seg-info --hash np1.seg | cut -d' ' -f1)"
is "same bytes" "$(cmp np8.seg np1.seg && echo same)" same
strip() { $PYTHON -c 'import json,sys
for l in open(sys.argv[1]):
    j = json.loads(l)
    [j.pop(k, None) for k in ("seconds", "images_per_second", "ranks", "threads")]
    print(json.dumps(j, sort_keys=True))' "$1"; }
is "same numbers in the log" "$(strip np8.seg.jsonl)" "$(strip np1.seg.jsonl)"
finish
