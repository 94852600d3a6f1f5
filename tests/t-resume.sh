# Checkpoints: a run that was interrupted and resumed has the model and the log of the one that was not.
. "$SEG_TESTS/lib.sh"
seg-synth -n 13 --size 32 >s.seg
seg-synth -n 5 --size 32 --start 100 >v.seg
hash() { seg-info --hash "$1" 2>&1 | cut -c1-16; }
both() { echo "$(hash "$1.seg") $(tail -n +2 "$1.jsonl" | sha256sum | cut -c1-16)"; } # the first line has the options

train() { # NAME args...: of a file, with three epochs of three steps, the last batch smaller
	local name=$1; shift
	timeout 60 seg-train -i s.seg -v v.seg --epochs 3 --channels 4,8 --batch 5 -o "$name.seg" --log "$name.jsonl" "$@" 2>"$name.err"
}
ranks() { # N NAME args...
	local np=$1 name=$2; shift 2
	timeout -k 5 100 mpirun -q -np "$np" seg-train -i s.seg -v v.seg --epochs 3 --channels 4,8 --batch 5 -o "$name.seg" --log "$name.jsonl" "$@" 2>"$name.err"
}
train one || no "the run that is not interrupted" "$(cat one.err)"
want=$(both one)
train a --checkpoint c.seg; is "checkpoints change nothing" "$(both a)" "$want"
train a --checkpoint c.seg --resume; is "resumed when all is done" "$(both a)" "$want"
rm -f c.seg; train a --checkpoint c.seg --resume; is "nothing to resume: from the start" "$(both a)" "$want"
for k in 1 2 3 4 8 9; do
	rm -f c.seg
	train a --checkpoint c.seg --max-steps $k
	train a --checkpoint c.seg --resume
	is "after step $k" "$(both a)" "$want"
done
match "it says so" "$(cat a.err)" '^resumed +after step 9$'
if [ "${MPI:-yes}" = yes ]; then
	for np in "2 3" "3 1" "1 5"; do
		rm -f c.seg
		ranks "${np% *}" a --checkpoint c.seg --max-steps 5
		ranks "${np#* }" a --checkpoint c.seg --resume
		is "${np% *} ranks, then ${np#* }" "$(both a)" "$want"
	done
fi
train sgd --optimizer sgd --momentum 0.9
train a --optimizer sgd --momentum 0.9 --checkpoint sgd-c.seg --max-steps 4
train a --optimizer sgd --momentum 0.9 --checkpoint sgd-c.seg --resume
is "momentum" "$(both a)" "$(both sgd)"
train dice -l 'mean[k](1 - dice[n,y,x]) + mean[n,y,x](ce)'
train a -l 'mean[k](1 - dice[n,y,x]) + mean[n,y,x](ce)' --checkpoint dice-c.seg --max-steps 5
train a -l 'mean[k](1 - dice[n,y,x]) + mean[n,y,x](ce)' --checkpoint dice-c.seg --resume
is "a loss of two passes" "$(both a)" "$(both dice)"

# Killed where it happens to be; with a checkpoint after each step no more than one is lost.
lost=0
for i in $(seq 6); do
	rm -f c.seg a.seg
	seg-train -i s.seg -v v.seg --epochs 3 --channels 4,8 --batch 5 -o a.seg --log a.jsonl --checkpoint c.seg --checkpoint-every 0 2>a.err &
	pid=$!
	sleep 0.0$((i * 13 % 9 + 1)); kill -9 $pid 2>/dev/null; wait $pid 2>/dev/null
	train a --checkpoint c.seg --resume --checkpoint-every 0
	[ "$(both a)" = "$want" ] || lost=$((lost + 1))
	rm -f .*.?????? ./*.tmp* 2>/dev/null
done
is "killed six times" $lost 0

# USR1: a checkpoint, status 99, one line.
rm -f c.seg a.seg
seg-train -i s.seg --epochs 100000 --channels 4,8 --batch 5 -o a.seg --checkpoint c.seg 2>a.err &
pid=$!
until [ -e c.seg ]; do sleep 0.05; done
kill -USR1 $pid; wait $pid; rc=$?
is "USR1: status" $rc 99
match "USR1: what it says" "$(tail -n 1 a.err)" '^seg-train: c.seg: checkpoint after step [0-9]+; run again with --resume to go on$'
[ -e a.seg ] && no "USR1: no model" || ok "USR1: no model"
is "USR1: the checkpoint is whole" "$(seg-info c.seg >/dev/null 2>&1; echo $?)" 0
if [ "${MPI:-yes}" = yes ]; then
	rm -f c.seg
	timeout -k 5 60 mpirun -q -np 2 seg-train -i s.seg --epochs 100000 --channels 4,8 --batch 5 -o a.seg --checkpoint c.seg 2>a.err &
	pid=$!
	until [ -e c.seg ]; do sleep 0.05; done
	pkill -USR1 -P $pid mpirun; wait $pid; rc=$?
	is "USR1 to mpirun: status" $rc 99
	is "USR1 to mpirun: one line" "$(grep -c '^seg-train: ' a.err)" 1
fi

# A stream of epochs: what was used is passed over.
epochs() { seg-augment -s "$1" --epochs 3 flip rot90 <s.seg; }
arrive() { local s=$1; shift; epochs "$s" | timeout 60 seg-train --channels 4,8 --batch 5 -v v.seg -o a.seg --log a.jsonl --checkpoint e.seg "$@" 2>a.err; }
arrive 3; stream=$(both a)
for k in 1 3 5 9; do
	rm -f e.seg; arrive 3 --max-steps $k; arrive 3 --resume
	is "a stream of epochs, after step $k" "$(both a)" "$stream"
done
rm -f e.seg; arrive 3 --max-steps 4
says "another stream" 1 'first 18 samples are not those' eval 'epochs 4 | seg-train --channels 4,8 --batch 5 -o x.seg --checkpoint e.seg --resume | tail -n 1 >&2; exit 1'

# What is of another run, and what differs.
rm -f c.seg; train a --checkpoint c.seg --max-steps 4
refuse() { local name=$1 pat=$2; shift 2; says "refused: $name" 1 "^seg-train: c.seg: $pat" sh -c 'seg-train -i s.seg --epochs 3 --channels 4,8 --batch 5 -o x.seg --checkpoint c.seg --resume "$@" 2>&1 | grep ^seg-train: >&2; exit 1' sh "$@"; }
refuse "rate" 'of another run: lr is 0.01.* here, 0.001' --lr 0.01
refuse "network" 'of another run: the network is .*\[4,9\]' --channels 4,9
refuse "loss" 'of another run: loss is "mean\[n,y,x\]\(ce\)" here, "@torch.cross_entropy" in the checkpoint' -l 'mean[n,y,x](ce)'
refuse "data" 'of another run: the data is .*"samples":18\} here' -i v.seg
refuse "seed" 'of another run: seed is 1 here, 0 in the checkpoint' --seed 1
cp one.seg c2.seg; cp c.seg keep.seg
says "a model is no checkpoint" 1 'c2.seg: not a checkpoint' sh -c 'seg-train -i s.seg --epochs 3 --channels 4,8 --batch 5 -o x.seg --checkpoint c2.seg --resume 2>&1 | grep ^seg-train: >&2; exit 1'
head -c 3000 keep.seg >c.seg
says "cut" 3 '^seg-train: c.seg: ' seg-train -i s.seg --epochs 3 --channels 4,8 --batch 5 -o x.seg --checkpoint c.seg --resume
cp keep.seg c.seg
case $(seg-train --version) in
*plain*) ok "class" ;;
*) SEG_ISA=plain; export SEG_ISA
	refuse "class" "made with instructions of class fma, this machine's are plain"; unset SEG_ISA ;;
esac
says "resume without a file" 2 'need --checkpoint' seg-train -i s.seg -o x.seg --resume
finish
