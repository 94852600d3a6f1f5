# seg-train and seg-predict as their users see them: what is printed and logged, what the options do,
# and that the model says elsewhere what it said in training.
. "$SEG_TESTS/lib.sh"
export PYTHONPATH=$SEG_TESTS
seg-synth -n 6 --size 32 >s.seg
seg-synth -n 3 --size 32 --start 50 >v.seg
hash() { seg-info --hash "$1" | cut -c1-64; }
train() { seg-train -i s.seg --channels 4,8 --batch 4 "$@" 2>err; }

train -o m.seg -v v.seg --epochs 2 --log log.jsonl || no "training" "$(cat err)"
plan=$(sed -n '1,/^on /p' err)
for want in 'data +6 samples of 3 channels, range u1; validation on 3' 'classes +5, multiclass: ground' \
	'network +4-8, norm none, head softmax, 1737 parameters, glorot' 'loss +@torch.cross_entropy$' \
	'training +2 epochs, batch 4, adam, lr 0.001, shuffled, seed 0' 'on +1 rank x [0-9]+ thread'; do
	match "the plan: ${want%% *}" "$plan" "^$want"
done
match "the table has loss and gradient of each class" "$(grep -m 1 '^  class ' err)" 'pixels +IoU +val pixels +val IoU +its loss +gradient$'
is "a table each epoch" "$(grep -c '^  crack ' err) $(grep -c '^epoch [12]/2, step [24], ' err)" "2 2"

# The log says what the table says; the last batch is partial; the model repeats the validation.
why=$($PYTHON - <<'P' 2>&1
import json, math, subprocess
ev = [json.loads(l) for l in open("log.jsonl")]
assert [e["event"] for e in ev] == ["start", "step", "step", "epoch", "step", "step", "epoch"], ev
assert [e["samples"] for e in ev if e["event"] == "step"] == [4, 2, 4, 2]
for e in (3, 6):
    a, b = ev[e - 2], ev[e - 1]
    keras = (4 * a["loss"] + 2 * b["loss"]) / 6
    assert abs(ev[e]["train"]["loss_running"] - keras) < 1e-15, (ev[e], keras)
    c = ev[e]["val"]["classes"]
    assert len(c) == 5 and sum(k["tp"] + k["fn"] for k in c) == 3 * 32 * 32, c
    assert abs(ev[e]["val"]["mean_iou"] - sum(k["iou"] for k in c) / 5) < 1e-15
sh = lambda cmd: json.loads(subprocess.run(cmd, shell=True, capture_output=True, check=True).stdout)
pred = "seg-predict --logits -m m.seg < v.seg | "
audit = sh(pred + "seg-loss --json")
assert audit["loss"] == ev[6]["val"]["loss_exact"], "seg-loss"
for a, b in zip(audit["classes"], ev[6]["val"]["classes"]): # three samples are one batch
    assert a["name"] == b["name"] and a["loss"] == b["loss"], (a, b)
    assert abs(a["share"] - b["loss_share"]) < 1e-12 and abs(a["gradient"] - b["gradient_share"]) < 1e-12, (a, b)
iou = sh(pred + "seg-iou --json")
assert iou["mean_iou"] == ev[6]["val"]["mean_iou"], "seg-iou"
assert [(c["tp"], c["fp"], c["fn"]) for c in iou["classes"]] == [(c["tp"], c["fp"], c["fn"]) for c in ev[6]["val"]["classes"]]
P
)
is "the log; seg-loss and seg-iou repeat the validation to the last bit" "$why" ""

# At rate 0 the epoch's loss is that of the frozen model on the same samples.
for l in '@torch.cross_entropy' 'mean[n,y,x](ce)' '@keras3.binary_crossentropy' 'mean[n,y,x,k](bce) + 0.5'; do
	train -o o.seg -v s.seg --epochs 1 --lr 0 -l "$l" --log exact.jsonl
	is "exact in training and in validation: $l" "$($PYTHON -c 'import json; e = [json.loads(l) for l in open("exact.jsonl")][-1]
print(e["train"]["loss_exact"] == e["val"]["loss_exact"] and e["train"]["loss_exact"] > 0.1, e["train"]["loss_running"] == e["val"]["loss_running"])')" "True True"
done

# What the model carries.
info=$(seg-info m.seg)
for want in 'kind: "model"' 'head: "softmax"' 'net: \{"channels":\[4,8\],"input":3,"norm":"none","output":5\}' 'range: "u1"' \
	'loss: "@torch.cross_entropy"' 'steps: 4' 'conv2d_1/kernel  npy <f4 \[3,3,3,4\]'; do
	match "the model has ${want%%:*}" "$info" "^$want"
done

# Options that must change the model, and some that must not.
base=$(hash m.seg); seen=$base
for o in "--seed 1" "--lr 0.01" "--init he" "--optimizer sgd" "--optimizer adam-torch" "--epsilon 0.1" "--no-shuffle" "--norm instance" \
	"--norm group:2" "--head sigmoid -l mean[n,y,x,k](bce)" "--range 100" "--batch 3" "--epochs 3" "--max-steps 1" \
	"-l mean[n,y,x](2*ce)" "--channels 4,9"; do
	train -o o.seg --epochs 2 $o || no "$o" "$(cat err)"
	h=$(hash o.seg)
	case " $seen " in *" $h "*) no "$o is another model" ;; *) ok "$o is another model" ;; esac
	seen="$seen $h"
done
train -o o.seg --epochs 2 --optimizer sgd --lr 0.1; a=$(hash o.seg)
train -o o.seg --epochs 2 --optimizer sgd --lr 0.1 --momentum 0.9
[ "$a" != "$(hash o.seg)" ] && ok "--momentum is another model" || no "--momentum is another model"
for o in "-@ 1" "-@ 2" "-v v.seg" "--log x.jsonl" "--progress" "--cache 1000"; do
	train -o o.seg --epochs 2 $o; is "$o is the same model" "$(hash o.seg)" "$base"
done

# Fewer samples in a batch than threads: teams of three and eight for one, of two and four for the batches of four and two.
# A batch taken piece by piece: the whole file is the same, its options included.
dice="-l mean[k](1-dice[n,y,x])"
train -o o.seg --epochs 2 --batch 6 $dice; want=$(sha256sum <o.seg)
for o in "--batch 6 --micro-batch 1" "--batch 2 --accumulate 3" "--batch 1 --accumulate 6 -@ 1" "--batch 3 --accumulate 2 --micro-batch 6 -@ 3"; do
	train -o o.seg --epochs 2 $o $dice; is "$o is a batch of 6" "$(sha256sum <o.seg)" "$want"
done
says "--accumulate: too much" 2 'accumulate: 60000 batches of 16 are more than 65536 samples' seg-train -o o.seg -i s.seg --accumulate 60000
for o in "--batch 1" "--batch 4" "--batch 4 --norm instance"; do
	train -o o.seg --epochs 2 -@ 1 $o; want=$(hash o.seg)
	for t in 3 8; do train -o o.seg --epochs 2 -@ $t $o; is "$o -@ $t is the model of -@ 1" "$(hash o.seg)" "$want"; done
done

# --from goes on from the weights; nothing trained is the model itself.
train -o f.seg --from m.seg --epochs 1 --lr 0; is "--from with rate 0 keeps every weight" \
	"$($PYTHON -c 'import segpy; print(all((x["npy"] == y["npy"]).all() for (_, x), (_, y) in zip(segpy.read("m.seg")[1], segpy.read("f.seg")[1])))')" True
match "--from says so" "$(cat err)" '1737 parameters, continued'
says "--from with other channels" 2 'other channels' seg-train -i s.seg -o x.seg --from m.seg --channels 4,9

# Prediction adds one entry and touches nothing else.
seg-predict -m m.seg <v.seg >p.seg
why=$($PYTHON - <<'P' 2>&1
import segpy, numpy as np
h, v = segpy.read("v.seg"); g, p = segpy.read("p.seg")
assert g["head"] == "softmax" and len(v) == len(p)
for (k, a), (l, b) in zip(v, p):
    assert k == l and set(b) == set(a) | {"pred.npy"}, b.keys()
    assert all(np.array_equal(a[n], b[n]) if n != "json" else a[n] == b[n] for n in a)
    assert b["pred.npy"].shape == (32, 32, 5) and abs(b["pred.npy"].sum(-1) - 1).max() < 1e-6
P
)
is "seg-predict adds pred.npy alone" "$why" ""
is "the same bits on 1 and 3 threads" "$(seg-predict -@ 1 -m m.seg <v.seg | cksum)" "$(seg-predict -@ 3 -m m.seg <v.seg | cksum)"
seg-synth -n 40 --size 32 >many.seg
seg-synth -n 1 --size 576 >large.seg
seg-synth -n 2 --size 528 --start 60 >more.seg
cat large.seg v.seg more.seg >mixed.seg
for s in many large mixed; do
	is "the same bytes on 1 and 4 threads: $s" "$(seg-predict -@ 1 -m m.seg <$s.seg | cksum)" "$(seg-predict -@ 4 -m m.seg <$s.seg | cksum)"
done
$PYTHON - <<'P'
import numpy as np, segpy
h, t = segpy.read("m.seg")
del h["framing"]; h["range"] = "1e-37" # of 255 the input is infinite
segpy.write("wild.model", h, t)
h = segpy.read("large.seg")[0]
del h["framing"]
x = np.zeros((576, 576, 3), "u1"); x[500, 7, 0] = x[9, 300, 1] = 255
segpy.write("wild.seg", h, [("a", {"image.npy": x})])
P
for t in 1 4; do says "a prediction that is not finite, $t threads" 1 'sample a: the prediction is not finite at y [0-9] x (29|30)[0-9];' seg-predict -@ $t -m wild.model <wild.seg; done
seg-predict --logits -m m.seg <v.seg >z.seg
why=$($PYTHON - <<'P' 2>&1
import segpy, numpy as np
for (_, a), (_, b) in zip(segpy.read("p.seg")[1], segpy.read("z.seg")[1]):
    z = b["logit.npy"].astype("f8"); e = np.exp(z - z.max(-1, keepdims=True))
    assert abs(e / e.sum(-1, keepdims=True) - a["pred.npy"]).max() < 1e-6
P
)
is "the head of the logits is the prediction" "$why" ""

# A loss that is not finite stops training; the model of before stays.
cp m.seg keep.seg
train -o keep.seg -l 'mean[n,y,x](log(0*ce))'; is "a loss that is not finite: status" "$?" 1
match "and where" "$(tail -n 1 err)" '^seg-train: epoch 1, step 1: sample 000[0-9], pixel .y 0, x 0.: logarithm of 0 in log.0.ce., column 13$'
is "leaves the model that was there" "$(hash keep.seg)" "$base"
match "and no temporary file" "$(ls)" '^[^~]*$'; is "none at all" "$(ls -A | grep -c '^\.')" 0
(exec seg-train -i s.seg -o keep.seg --channels 4,8 --epochs 100000 2>/dev/null) & pid=$!; sleep 0.3; kill -TERM $pid; wait $pid 2>/dev/null
is "killed: status, model, directory" "$? $(hash keep.seg) $(ls -A | grep -c '^\.')" "143 $base 0"

if case $B in *asan*) false ;; *) true ;; esac; then
	# A set of ten times the memory it may have: kept on disk, never in memory.  Peaks in KiB.
	cat >peak.py <<'P'
import resource, subprocess, sys
rc = subprocess.call(sys.argv[1:], stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss if rc == 0 else f"status {rc}")
P
	export TMPDIR=$PWD
	SEG_LEVEL=0 seg-synth -n 200 --size 64 >small.seg
	for i in 1 2 3 4 5 6 7 8 9 10; do cat small.seg; done >large.seg
	peak() { $PYTHON peak.py seg-train -@ 1 --channels 4,8 --epochs 1 --batch 2 --cache 3e6 -o m.seg "$@"; }
	one=$(peak -i small.seg) ten=$(peak -i large.seg) piped=$(peak <large.seg) all=$(($(stat -c %s large.seg) / 1024))
	[ $((ten - one)) -lt 2000 ] && [ $((piped - one)) -lt 6000 ] && ok "flat memory: $one KiB for a tenth, $ten, piped $piped; the set has $all" ||
		no "flat memory" "a tenth of the set: $one KiB; all of it: $ten, piped $piped; the set has $all"

	# A loss that does not couple samples: none waits for the others with its activations.
	seg-synth -n 12 --size 128 >wide.seg
	peak() { $PYTHON peak.py seg-train -@ 1 -i wide.seg --epochs 1 --batch 12 -o m.seg -l "$1"; }
	one=$(peak 'mean[n,y,x](ce)') all=$(peak '1 - dice[n,y,x,k]')
	[ $((all - one)) -gt 40000 ] && ok "at once: $one KiB, $all where a Dice couples the batch" || no "at once" "$one KiB, with a Dice over the batch $all"

	# Start: no MPI_Init unless launched, nothing slow before the first step.
	ms() { $PYTHON -c 'import subprocess, sys, time
def once():
    t = time.monotonic(); subprocess.run(sys.argv[1:], capture_output=True); return time.monotonic() - t
print(int(1000 * min(once() for _ in range(9))))' "$@"; }
	t=$(ms seg-train --help); [ "$t" -lt 20 ] && ok "--help in $t ms" || no "--help in $t ms, not 20"
	t=$(ms seg-train -i s.seg -o x.seg --max-steps 1 --channels 4,8); [ "$t" -lt 50 ] && ok "start without mpirun in $t ms" || no "start in $t ms, not 50"
fi
finish
