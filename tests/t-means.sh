# The loss that 1, 2, 3, 5, 8 ranks print, beside what they would print if each took the mean over its own
# samples and those means were averaged.  The table is the one that seg-cluster(7) shows.
. "$SEG_TESTS/lib.sh"
export PYTHONPATH=$SEG_TESTS
[ "${MPI:-yes}" != yes ] && { skip "ranks" "not built with Open MPI"; finish; }

export SEG_ISA=plain # which every machine has

# 13 scenes, of which more and more is marked as unknown: nothing of the first, most of the last
seg-synth -n 13 --size 32 >full.seg
$PYTHON - <<'P' || no "the scenes"
import segpy
head, records = segpy.read("full.seg")
head.pop("framing")
head["ignore"] = 255
for i, (_, r) in enumerate(records):
    r["label.npy"][32 - 2 * i:] = 255
segpy.write("part.seg", head, records)
P
seg-train -i part.seg --channels 4,8 --epochs 40 --batch 4 --lr 0.01 --norm instance -o m.seg 2>err || no "a model" "$(cat err)"
seg-predict --logits -m m.seg <part.seg >pred.seg

for np in 1 2 3 5 8; do
	for loss in '@torch.cross_entropy' 'mean[k](1 - dice[n,y,x])'; do
		timeout -k 5 60 mpirun -q -np $np seg-train -@ 1 -i part.seg --from m.seg --norm instance -l "$loss" --batch 13 --no-shuffle \
			--lr 0 --max-steps 1 --log log.jsonl -o x.seg 2>err </dev/null || no "$np ranks" "$(cat err)"
		sed -n 's/.*"event":"step".*"loss":\([^,}]*\).*/\1/p' log.jsonl
	done
done >printed
$PYTHON - <<'P' >table || no "NumPy"
import numpy as np, segpy
records = [r for _, r in segpy.read("pred.seg")[1]]
printed = iter(map(float, open("printed")))

def cross_entropy(part):
    total, count = 0, 0
    for r in part:
        z, t = r["logit.npy"].astype("f8"), r["label.npy"]
        log_p = z - z.max(-1, keepdims=True)
        log_p -= np.log(np.exp(log_p).sum(-1, keepdims=True))
        known = t != 255
        total -= np.take_along_axis(log_p[known], t[known][:, None].astype(int), 1).sum()
        count += known.sum()
    return total / count

def dice(part):
    tp, t_sum, p_sum = np.zeros(5), np.zeros(5), np.zeros(5)
    for r in part:
        z, t = r["logit.npy"].astype("f8"), r["label.npy"]
        p = np.exp(z - z.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        known = t != 255
        one = np.eye(5)[t[known]]
        tp, t_sum, p_sum = tp + (one * p[known]).sum(0), t_sum + one.sum(0), p_sum + p.reshape(-1, 5).sum(0)
    return np.mean(1 - (2 * tp + 1) / (t_sum + p_sum + 1))

print("            cross-entropy       1 - Dice of each class\nranks     seg   mean of ranks     seg   mean of ranks")
for ranks in (1, 2, 3, 5, 8):
    share = [13 // ranks * r + 13 % ranks * r // ranks for r in range(ranks + 1)]
    row = f"{ranks:3}  "
    for loss in (cross_entropy, dice):
        seg = next(printed)
        assert abs(seg - loss(records)) < 2e-7, (loss.__name__, ranks, seg, loss(records))
        means = np.mean([loss(records[share[r]:share[r + 1]]) for r in range(ranks)])
        row += f" {seg:9.6f}   {means:9.6f} {('%+.1f' % (100 * (means / seg - 1))) if ranks > 1 else '':>4}{' %' if ranks > 1 else '  '}"
    print(row.rstrip())
P
is "the same number on every number of ranks" "$(paste - - <printed | sort -u | wc -l)" 1
is "the table of seg-cluster(7)" "$(mandoc -T ascii -O width=200 "$TOP/man/seg-cluster.7" | col -bx | sed -n '/^ *cross-entropy/,/^ *8 /p' | sed 's/^ \{11\}//')" "$(cat table)"
finish
