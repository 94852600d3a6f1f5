# The same bits on any number of ranks and threads, from a file or a pipe: model, log, table.
. "$SEG_TESTS/lib.sh"
export PYTHONPATH=$SEG_TESTS
[ "${MPI:-yes}" != yes ] && { skip "ranks" "not built with Open MPI"; finish; }

# model and log of one run as two hashes; what may differ is where it ran
run() { # NAME RANKS THREADS args...
	local name=$1 np=$2 threads=$3; shift 3
	timeout -k 5 120 mpirun -q -np "$np" seg-train -@ "$threads" -o "$name.seg" --log "$name.jsonl" "$@" 2>"$name.err" ||
		{ echo "status $? of $name: $(tail -n 1 "$name.err")"; return; }
	echo "$(seg-info --hash "$name.seg" | cut -c1-16) $(sed -E 's/"(seconds|ranks|threads|images_per_second)":[^,}]*,?//g' "$name.jsonl" | sha256sum | cut -c1-16)"
}

# Thirteen samples in batches of five: the last batch has three, fewer than some have ranks.
seg-synth -n 13 --size 32 >s.seg
seg-synth -n 5 --size 32 --start 100 >v.seg
set -- --channels 4,8 --epochs 2 --batch 5 -v v.seg -l 'mean[n,y,x](ce) + mean[k](1 - dice[n,y,x])'
want=$(run one 1 1 -i s.seg "$@")
match "one rank" "$want" '^[0-9a-f]{16} [0-9a-f]{16}$'
for np in 1 2 3 4 5 8; do
	for threads in 1 2; do
		is "$np ranks of $threads threads, file" "$(run a $np $threads -i s.seg "$@")" "$want"
	done
	is "$np ranks, pipe" "$(cat s.seg | run a $np 1 "$@")" "$want"
done
is "16 ranks" "$(run a 16 1 -i s.seg "$@")" "$want"
is "not launched by mpirun" "$(seg-train -o b.seg -i s.seg "$@" 2>/dev/null; seg-info --hash b.seg | cut -c1-16)" "${want% *}"

# Other ways to train, each with what could tell ranks apart.
$PYTHON - <<'P'
import numpy as np, segpy
rng = np.random.default_rng(5)
many = []
for i in range(7):
    h, w = ((16, 16), (16, 32), (32, 16))[i % 3]
    lab = rng.integers(0, 3, (h, w)).astype("u1")
    lab[rng.random((h, w)) < 0.1 * i] = 255
    many.append((f"s{i}", {"image.npy": rng.integers(0, 255, (h, w, 2), "u1"), "label.npy": lab,
                           "weight.npy": rng.random((h, w)).astype("f4"), "json": {"sample_weight": 1 + i}}))
segpy.write("odd.seg", segpy.header("abc", "multiclass", ignore=255), many)
P
while read -r name in args <&3; do
	eval "set -- $args"
	is "three ranks as one: $name" "$(run a 3 1 -i $in --channels 4,8 "$@")" "$(run b 1 2 -i $in --channels 4,8 "$@")"
done 3<<'E'
ignored-pixels,-sizes,-weights odd.seg --epochs 2 --batch 4 -l 'sum[n,y,x,k](v*s*w*ce)/sum[n,y,x,k](v*s*w)'
instance-norm,-sgd s.seg --epochs 1 --batch 4 --norm instance --optimizer sgd --momentum 0.9 --lr 0.05
group-norm,-adam-torch s.seg --epochs 1 --batch 6 --norm group:2 --optimizer adam-torch --init he
no-shuffle,-max-steps s.seg --no-shuffle --max-steps 3 --batch 1
one-batch-of-all s.seg --epochs 2 --batch 100
E
epochs() { seg-augment -s 3 --epochs 3 flip rot90 <s.seg; }
is "a stream of epochs" "$(epochs | run a 4 1 --channels 4,8 --batch 5 -v v.seg)" "$(epochs | run b 1 1 --channels 4,8 --batch 5 -v v.seg)"

# Several files are one; a pipe duplicated on its way is refused.
cat s.seg v.seg >sv.seg
is "two files on three ranks, as their concatenation on one" "$(run a 3 1 -i s.seg -i v.seg --channels 4,8 --epochs 2 --batch 5)" "$(run b 1 1 -i sv.seg --channels 4,8 --epochs 2 --batch 5)"
mkfifo pipe
says "a pipe among several" 2 "pipe is not a file; of several inputs each must be one" sh -c 'seg-train -i s.seg -i pipe -o x.seg 2>&1 | grep ^seg-train >&2; exit 2'
seg-synth -n 2 --size 32 --masks >masks.seg
says "files that disagree" 1 "masks.seg: parts of the concatenation do not fit: multilabel follows multiclass" sh -c 'seg-train -i s.seg -i masks.seg -o x.seg 2>&1 | grep ^seg-train >&2; exit 1'
seg-synth -n 60 --size 64 >big.seg
{ head -c 131072 big.seg; tail -c +65537 big.seg; } >twice.seg
rm -f x.seg
cat twice.seg | timeout -k 5 60 mpirun -q -np 2 seg-train --channels 4,8 -o x.seg 2>twice.err; rc=$?
is "stdin that repeats 64 KiB: status" "$rc $([ -e x.seg ] && echo model)" "3 "

# What is wrong is said once, whoever fails and whoever leaves first.
lines() { timeout 60 mpirun -q -np 3 seg-train "$@" 2>&1 >/dev/null </dev/null | grep -c '^seg-train: '; }
is "four failures, one line each: a loss" "$(for i in 1 2 3 4; do lines -i s.seg -o x.seg -l bce; done | sort | uniq -c | tr -s ' ')" " 4 1"
is "four failures, one line each: an option" "$(for i in 1 2 3 4; do lines --hsah; done | sort | uniq -c | tr -s ' ')" " 4 1"

# What the ranks print is the loss of the batch, not a mean of the ranks' means.
first() { $PYTHON -c 'import json,sys; print(next(j["loss"] for j in map(json.loads, open(sys.argv[1])) if j["event"] == "step"))' "$1"; }
L='sum[n,y,x,k](v*t*ce)/sum[n,y,x,k](v*t) + 1 - dice[n,y,x,k]'
for np in 1 2 3 5 7; do run l$np $np 1 -i odd.seg --channels 4,8 --no-shuffle --batch 7 --max-steps 1 -l "$L" >/dev/null; done
is "the loss of 1, 2, 3, 5, 7 ranks" "$(for np in 1 2 3 5 7; do first l$np.jsonl; done | sort -u | wc -l)" 1
part() { # mean over N ranks of the loss of a rank's own samples
	$PYTHON - "$1" <<'P'
import sys, segpy
head, s = segpy.read("odd.seg"); n = int(sys.argv[1])
for r in range(n):
    segpy.write(f"part{r}.seg", head, s[len(s) * r // n:len(s) * (r + 1) // n])
P
	for r in $(seq 0 $(($1 - 1))); do run p 1 1 -i part$r.seg --channels 4,8 --no-shuffle --batch 7 --max-steps 1 -l "$L" >/dev/null; first p.jsonl; done |
		awk '{s += $1} END {printf "%.6f\n", s / NR}'
}
one=$(first l1.jsonl | awk '{printf "%.6f\n", $1}') mean=$(part 3)
[ "$one" != "$mean" ] && ok "a mean of three ranks' means is another number: $mean, not $one" || no "means of means" "both are $one"
finish
