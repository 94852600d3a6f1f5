# seg-iou against NumPy: counts and ratios, ignored pixels, soft and overlapping masks, thresholds;
# and what binding a sample refuses.
. "$SEG_TESTS/lib.sh"
export PYTHONPATH=$SEG_TESTS

$PYTHON - <<'P'
import json, subprocess, sys
import numpy as np
import segpy

rng = np.random.default_rng(5)
names = ["matrix", "oxide", "gamma2", "gamma3", "crack"]
K = len(names)


def counts(truth, valid, guess):
    truth, guess = truth & valid, guess & valid
    ax = tuple(range(truth.ndim - 1))
    return [(a & b).sum(ax) for a, b in ((truth, guess), (~truth & valid, guess), (truth, ~guess))]


def first_maximum(p):
    return p.argmax(-1)[..., None] == np.arange(p.shape[-1])


def check(what, head, records, want, valid, args=()):
    segpy.write("x.seg", head, records)
    for threads in "1", "3":
        p = subprocess.run(["seg-iou", "--json", "-@", threads, *args], stdin=open("x.seg"), capture_output=True)
        if p.returncode:
            print("not ok", what, p.stderr.decode()); return
        got = json.loads(p.stdout)
        tp, fp, fn = [sum(w[i] for w in want) for i in range(3)]
        bad = []
        with np.errstate(invalid="ignore"):
            iou, dice = tp / (tp + fp + fn), 2 * tp / (2 * tp + fp + fn)
            prec, rec = tp / (tp + fp), tp / (tp + fn)
        for k, c in enumerate(got["classes"]):
            for name, v in dict(tp=tp, fp=fp, fn=fn, iou=iou, dice=dice, precision=prec, recall=rec).items():
                g = np.nan if c[name] is None else c[name]
                if not np.allclose(g, v[k], rtol=1e-12, atol=0, equal_nan=True):
                    bad.append(f"class {k} {name}: {g}, want {v[k]}")
        n = sum(v.any(-1).sum() for v in valid), sum((~v.any(-1)).sum() for v in valid)
        if (got["pixels"], got["ignored"]) != n:
            bad.append(f"pixels, ignored {got['pixels']}, {got['ignored']}, want {n}")
        if got["present"] != np.isfinite(iou).sum() or not np.isclose(got["mean_iou"], np.nanmean(iou), rtol=1e-12):
            bad.append(f"mean {got['mean_iou']} of {got['present']}, want {np.nanmean(iou)}")
        if [c["name"] for c in got["classes"]] != names:
            bad.append("names")
        print("not ok" if bad else "ok", what, threads, "threads")
        for b in bad:
            print("#  ", b)


sizes = [(16, 16), (7, 31), (64, 48)]
# classes, with ignored pixels and a class that never occurs; coarse predictions so that ties are common
recs, want, valids = [], [], []
for i, (h, w) in enumerate(sizes):
    t = rng.integers(0, 4, (h, w)).astype([np.uint8, np.uint16, np.int64][i])
    t[rng.random((h, w)) < .2] = 255
    p = (rng.integers(0, 4, (h, w, K)) / 4).astype(np.float32)
    p[..., 4] = 0 if i else p[..., 4]
    p[..., 4] *= .3
    valid = np.repeat((t != 255)[..., None], K, 2)
    recs.append((f"s{i}", {"label.npy": t, "pred.npy": p}))
    want.append(counts(t[..., None] == np.arange(K), valid, first_maximum(p)))
    valids.append(valid)
check("multiclass", segpy.header(names, "multiclass", ignore=255, head="softmax"), recs, want, valids)
logits = [(k, {"label.npy": e["label.npy"], "logit.npy": e["pred.npy"] * 8 - 4}) for k, e in recs]
check("multiclass, logits", segpy.header(names, "multiclass", ignore=255, head="softmax"), logits, want, valids)

# overlapping masks, one of them never set; part of a class ignored, some pixels altogether
recs, logits, want, want3, valids = [], [], [], [], []
thr = np.array([.5, .5, .25, .5, .75])
for i, (h, w) in enumerate(sizes):
    t = (rng.random((h, w, K)) < [.5, .3, .2, .1, 0]).astype(np.uint8)
    t[rng.random((h, w, K)) < .1] = 255
    t[:3] = 255
    z = rng.normal(0, 2, (h, w, K)).astype(np.float32)
    z[rng.random((h, w, K)) < .1] = 0
    z[..., 4] = -5
    p = (1 / (1 + np.exp(-z.astype(np.float64)))).astype(np.float32)
    valid = t != 255
    recs.append((f"s{i}", {"mask.npy": t, "pred.npy": p}))
    logits.append((f"s{i}", {"mask.npy": t, "logit.npy": z}))
    want.append(counts(t == 1, valid, p > .5))
    want3.append(counts(t == 1, valid, p > thr))
    valids.append(valid)
head = segpy.header(names, "multilabel", ignore=255, head="sigmoid")
check("multilabel", head, recs, want, valids)
check("multilabel, logits", head, logits, want, valids)
check("multilabel, thresholds", head, recs, want3, valids, ["--threshold", "gamma2=0.25,crack=0.75"])

# soft truth counts from 1/2 on
soft = [(k, {"mask.npy": rng.integers(0, 5, e["mask.npy"].shape).astype(np.float32) / 4, "pred.npy": e["pred.npy"]})
        for k, e in recs]
valids = [np.ones(e["mask.npy"].shape, bool) for _, e in soft]
check("soft masks", segpy.header(names, "multilabel", head="sigmoid"), soft,
      [counts(e["mask.npy"] >= .5, v, e["pred.npy"] > .5) for (_, e), v in zip(soft, valids)], valids)

# files for the refusals below
t, p = np.zeros((4, 6), np.uint8), np.full((4, 6, K), .2, np.float32)
m = np.zeros((4, 6, K), np.float32)


def bad(name, task="multiclass", **entries):
    segpy.write(name, segpy.header(names, task), [("good", {"label.npy": t, "pred.npy": p}),
                ("b/7", {k.replace("_", "."): v for k, v in entries.items()})])


def at(a, where, v):
    a = a.copy(); a[where] = v
    return a


bad("nan-mask.seg", mask_npy=at(m, (2, 3, 4), np.nan), pred_npy=p)
bad("two.seg", mask_npy=at(m.astype(np.uint8), (1, 0, 1), 2), pred_npy=p)
bad("range.seg", label_npy=at(t, (3, 1), 5), pred_npy=p)
bad("shape.seg", label_npy=t, pred_npy=p[:3])
bad("classes.seg", label_npy=t, pred_npy=p[..., :4])
bad("nopred.seg", label_npy=t)
bad("notruth.seg", pred_npy=p)
bad("both.seg", label_npy=t, mask_npy=m, pred_npy=p)
bad("nan-pred.seg", label_npy=t, pred_npy=at(p, (0, 5, 1), np.nan))
bad("inf-logit.seg", label_npy=t, logit_npy=at(p, (0, 5, 1), np.inf))
segpy.write("dash.seg", segpy.header(names[:2], "multiclass"), [("a", {"label.npy": t, "pred.npy": p[..., :2]})])
P
[ $? = 0 ] || no "the oracle ran"

for f in "nan-mask b/7.*mask.npy is NaN at y 2 x 3, class crack" "two b/7.*mask.npy is 2 at y 1 x 0, class oxide" \
	"range b/7.*label.npy is 5 at y 3 x 1, expected 0..4" "shape b/7.*3x6" "classes b/7.*4 classes" \
	"nopred b/7.*no predictions" "notruth b/7.*no truth" "both b/7.*both" \
	"nan-pred b/7.*NaN at y 0 x 5, class oxide" "inf-logit b/7.*inf at y 0 x 5, class oxide"; do
	says "refused: ${f%% *}" 1 "^seg-iou: <stdin>: .*${f#* }" sh -c "seg-iou < ${f%% *}.seg"
done
says "threshold on multiclass" 2 "multiclass" sh -c 'seg-iou --threshold 0.3 < dash.seg'
says "threshold of no class" 2 "no class 'x'" sh -c 'seg-iou --threshold x=0.3 < x.seg'
says "empty input" 3 "seg-iou" sh -c 'seg-iou < /dev/null'
is "a file by name" "$(seg-iou dash.seg)" "$(seg-iou < dash.seg)"
status "full disk" 1 sh -c 'seg-iou < dash.seg > /dev/full'
is "0/0 is a dash" "$(seg-iou < dash.seg)" "class   pixels  tp  fp  fn     IoU    Dice  precision  recall
matrix      24  24   0   0  1.0000  1.0000     1.0000  1.0000
oxide        0   0   0   0       -       -          -       -
mean IoU 1.0000 over the 1 of 2 classes present (tp + fp + fn > 0)
pixels 24, ignored 0, samples 1
rule: multiclass: the first maximum over the classes"
# By image, and by the rules of others.
why=$($PYTHON - <<'P' 2>&1
import json, subprocess, numpy as np, segpy
rng = np.random.default_rng(8)
t, g = rng.integers(0, 3, (4, 6, 6)), rng.integers(0, 3, (4, 6, 6))
t[0][t[0] == 2] = 0; g[0][g[0] == 2] = 0; t[1][t[1] == 1] = 0
head = segpy.header(["a", "b", "c"], "multiclass", head="softmax")
segpy.write("img.seg", head, [(f"i{i}", {"label.npy": t[i].astype("u1"), "pred.npy": np.eye(3, dtype="f4")[g[i]] * 0.8 + np.float32(0.1)}) for i in range(4)])
run = lambda *a: json.loads(subprocess.run(["seg-iou", "--json", *a, "img.seg"], capture_output=True, check=True).stdout)
inter = np.array([[((t[i] == k) & (g[i] == k)).sum() for k in range(3)] for i in range(4)]).astype(float)
union = np.array([[((t[i] == k) | (g[i] == k)).sum() for k in range(3)] for i in range(4)]).astype(float)
with np.errstate(invalid="ignore"):
    iou = inter / union
j = run("--per-image")
assert np.allclose([c["iou_per_image"] for c in j["classes"]], np.nanmean(iou, 0), rtol=0, atol=1e-14), j
assert abs(j["mean_iou_per_image"] - np.nanmean(np.nanmean(iou, 1))) < 1e-14
assert j == {**run("-@", "3", "--per-image")}
all_ = inter.sum(0) / union.sum(0)
truth = np.array([[(t[i] == k).any() for k in range(3)] for i in range(4)])
monai = np.mean([iou[i][truth[i]].mean() for i in range(4)])
got = {o["as"]: o["mean_iou"] for o in run("--as", "all")}
want = {"keras": all_.mean(), "torchmetrics": all_.mean(), "smp": all_.mean(), "monai": monai}
for k, v in want.items():
    assert abs(got[k] - v) < 1e-6, (k, got[k], v)
assert set(got) == {"keras", "torchmetrics", "monai", "smp", "kaggle"} and all(o["rule"] for o in run("--as", "monai,kaggle"))
P
)
is "--per-image and --as against NumPy" "$why" ""
says "--as: no such project" 2 "'caffe' is none of" seg-iou --as caffe img.seg
says "--as and --per-image" 2 "rules of its own" seg-iou --as all --per-image img.seg
# Weights of pixels: [H,W], [H,W,K], none; overlapping masks and labels.
why=$($PYTHON - <<'P' 2>&1
import json, subprocess, numpy as np, segpy
rng = np.random.default_rng(9)
run = lambda f, *a: json.loads(subprocess.run(["seg-iou", "--json", *a, f], capture_output=True, check=True).stdout)
K, sizes = 3, [(20, 17), (5, 3), (16, 16), (33, 40)]
for task in "multiclass", "multilabel":
    recs, sums = [], np.zeros((3, K))
    for i, (h, w) in enumerate(sizes):
        p = rng.random((h, w, K)).astype("f4")
        e = {"pred.npy": p}
        if task == "multiclass":
            y = rng.integers(0, K, (h, w)).astype("u1")
            y[rng.random((h, w)) < .1] = 255
            e["label.npy"] = y
            t, valid, g = y[..., None] == np.arange(K), (y != 255)[..., None], p.argmax(-1)[..., None] == np.arange(K)
        else:
            t = rng.random((h, w, K)) < .4
            e["mask.npy"] = t.astype("u1")
            valid, g = True, p > .5
        wt = [None, rng.random((h, w, K)) * 10, rng.random((h, w)), rng.random((h, w)) / 3][i]
        f = np.ones((h, w, 1))
        if wt is not None:
            e["weight.npy"] = wt.astype("f4")
            f = e["weight.npy"].astype("f8").reshape(h, w, -1)
        f = np.broadcast_to(f, (h, w, K)) * valid
        sums += [(f * (t & g)).sum((0, 1)), (f * (~t & g)).sum((0, 1)), (f * (t & ~g)).sum((0, 1))]
        recs.append((f"s{i}", e))
    head = segpy.header(["a", "b", "c"], task, ignore=255, head="softmax" if task == "multiclass" else "sigmoid")
    segpy.write(f"w-{task}.seg", head, recs)
    segpy.write("back.seg", head, recs[::-1])
    j = run(f"w-{task}.seg", "--weights", "--per-image")
    assert j["counts"] == "weights"
    got = np.array([[c[n] for c in j["classes"]] for n in ("tp", "fp", "fn")])
    assert np.allclose(got, sums, rtol=1e-13, atol=0), (got, sums)
    assert np.allclose([c["iou"] for c in j["classes"]], sums[0] / sums.sum(0), rtol=1e-13, atol=0)
    assert all(sum(x) == c[n] for c in j["classes"] for x, n in zip(c["exact"], ("tp", "fp", "fn"))), "exact"
    for same in run(f"w-{task}.seg", "--weights", "--per-image", "-@", "3"), run("back.seg", "--weights", "--per-image", "-@", "1"):
        assert j == same, "the same bits in any order"
    plain = run(f"w-{task}.seg")
    assert plain["counts"] == "pixels" and plain["pixels"] == j["pixels"] and type(plain["classes"][0]["tp"]) is int
segpy.write("minus.seg", head, [("m", {**e, "weight.npy": np.where(np.arange(h * w).reshape(h, w) == 41, -1, 1).astype("f4")})])
P
)
is "--weights against NumPy" "$why" ""
says "a weight below 0" 1 "sample m: weight.npy is -1 at y 1 x 1, class 0" seg-iou --weights minus.seg
match "text says that counts are weights" "$(seg-iou --weights w-multiclass.seg)" "^class +weight +tp"
match "and how" "$(seg-iou --weights w-multiclass.seg)" "^counts: sums of weight.npy"
says "--as and --weights" 2 "rules of its own" seg-iou --as all --weights img.seg
# Shards merge to what one run prints, to the byte.
why=$($PYTHON - <<'P' 2>&1
import subprocess, segpy
run = lambda *a: subprocess.run(["seg-iou", *a], capture_output=True, check=True).stdout
for f, ways in ("w-multiclass.seg", [[], ["--weights", "--per-image"]]), ("w-multilabel.seg",
        [[], ["--threshold", "0.3"], ["--threshold", "a=0.1"], ["--per-image"], ["--weights"], ["--weights", "--per-image"]]):
    head, recs = segpy.read(f)
    for i, part in enumerate([recs[:1], recs[1:3], recs[3:]]):
        segpy.write(f"part{i}.seg", head, part)
    for way in ways:
        for i in range(3):
            open(f"part{i}.json", "wb").write(run("--json", *way, f"part{i}.seg"))
        for order in (0, 1, 2), (2, 0, 1):
            files = [f"part{i}.json" for i in order]
            for form in [], ["--json"]:
                assert run("--merge", *form, *files) == run(*form, *way, f), (f, way, order)
        open("all.json", "wb").write(run("--merge", "--json", "part0.json", "part1.json"))
        assert run("--merge", "all.json", "part2.json") == run(*way, f), "merged again"
P
)
is "--merge prints what one run prints" "$why" ""
for a in "a --weights" "b --threshold 0.3" "c --per-image" "d --weights"; do
	seg-iou --json ${a#* } w-multilabel.seg > ${a%% *}.json
done
seg-iou --json w-multilabel.seg > plain.json
seg-iou --json w-multiclass.seg > multi.json
seg-iou --json dash.seg > two.json
seg-iou --json --as all img.seg > as.json
sed 's/"tp": [0-9]*/"tp": -1/' plain.json > minus.json
head -c 300 plain.json > cut.json
for f in 'a a.json: cannot be merged: weights is true, but false in plain.json' 'c c.json: .*per-image is true' \
	'b b.json: .*threshold is .0.2.*, but .0.5,0.5,0.5. in plain.json' 'multi multi.json: .*task is "multiclass", but "multilabel"' \
	'two two.json: .*(task|classes) is' 'as as.json: not written by seg-iou --json' 'minus minus.json: class a: "tp" is not a count' \
	'cut cut.json: JSON: line' 'none none.json: .*No such file'; do
	says "merge refused: ${f%% *}" 1 "^seg-iou: ${f#* }" seg-iou --merge plain.json ${f%% *}.json
done
says "--merge and --weights" 2 "counted with" seg-iou --merge --weights a.json d.json
says "--merge of nothing" 2 "needs files" seg-iou --merge
says "two streams" 2 "one stream at a time" seg-iou img.seg dash.seg
# The sweep: every threshold, the best, its argument; weighted, from logits, merged.
why=$($PYTHON - <<'P' 2>&1
import json, subprocess, numpy as np, segpy
sh = lambda *a: subprocess.run(["seg-iou", *a], capture_output=True, check=True, text=True).stdout
rng = np.random.default_rng(12)
ratio = lambda a, b: a / b if b else None
near = lambda a, b: a is b is None or abs(a - b) <= 1e-13 * abs(b)
names = ["a", "b", "never"]
for task, head in ("multilabel", "sigmoid"), ("multiclass", "softmax"):
    recs = []
    for i, (h, w) in enumerate([(30, 31), (8, 8)]):
        t = rng.random((h, w, 3)) < [.3, .5, 0]
        if task == "multiclass":
            t[..., 1] = ~t[..., 0]
        p = np.clip(t * .3 + rng.random((h, w, 3)) * .6, 0.01, 1).astype("f4")
        p[..., 0] = np.round(p[..., 0] * 4) / 4  # many ties: wide ranges of equal IoU
        truth = {"label.npy": t.argmax(-1).astype("u1")} if task == "multiclass" else {"mask.npy": t.astype("u1")}
        recs.append((f"s{i}", {**truth, "pred.npy": p, "weight.npy": rng.random((h, w)).astype("f4")}))
    segpy.write("sw.seg", segpy.header(names, task, head=head), recs)
    for i in 0, 1:
        segpy.write(f"sw{i}.seg", segpy.header(names, task, head=head), recs[i:i + 1])
    T = np.concatenate([(e["mask.npy"] > 0 if "mask.npy" in e else e["label.npy"][..., None] == np.arange(3)).reshape(-1, 3) for _, e in recs])
    P = np.concatenate([e["pred.npy"].reshape(-1, 3) for _, e in recs])
    W = np.concatenate([e["weight.npy"].astype("f8").reshape(-1) for _, e in recs])
    for step, args, w in (.05, ["--sweep"], np.ones(len(W))), (.1, ["--sweep=0.1", "--weights"], W), (.3, ["--sweep=0.3"], np.ones(len(W))):
        j = json.loads(sh("--json", *args, "sw.seg"))
        grid = [float(f"{step * i:.6g}") for i in range(1, 100) if step * i < 1 - 1e-9]
        use = []
        for k, c in enumerate(j["classes"]):
            assert [s["threshold"] for s in c["sweep"]] == grid, c
            ious = []
            for s in c["sweep"]:
                g, t = P[:, k].astype("f8") > s["threshold"], T[:, k]
                tp, fp, fn = w[t & g].sum(), w[~t & g].sum(), w[t & ~g].sum()
                assert near(s["tp"], tp) and near(s["fp"], fp) and near(s["fn"], fn), (k, s, tp, fp, fn)
                assert near(s["iou"], ratio(tp, tp + fp + fn)) and near(s["dice"], ratio(2 * tp, 2 * tp + fp + fn)), s
                ious.append(s["iou"])
            if T[:, k].any():
                at = ious.index(max(v for v in ious if v is not None))
                assert c["best"]["threshold"] == grid[at] and c["best"]["iou"] == ious[at], (k, c["best"])
                use.append(grid[at])
            else:
                assert c["best"] is None
                use.append(.5)
        text = ",".join(f"{v:.6g}" for v in use)
        assert j["best_threshold"] == text, (j["best_threshold"], text)
        lines = sh(*args, "sw.seg").splitlines()
        assert max(map(len, lines)) <= 100
        if task == "multilabel":
            assert lines[-1] == "--threshold " + text
            again = json.loads(sh("--json", *lines[-1].split(), *args[1:], "sw.seg"))
            for c, d in zip(j["classes"], again["classes"]):
                assert c["best"] is None or c["best"]["iou"] == d["iou"], "the argument pasted"
        else:
            assert lines[-1] == text and "first maximum" in lines[-2]
        for i in 0, 1:
            open(f"sw{i}.json", "w").write(sh("--json", *args, f"sw{i}.seg"))
        assert sh("--merge", "sw0.json", "sw1.json") == sh(*args, "sw.seg") and sh("--merge", "--json", "sw0.json", "sw1.json") == sh("--json", *args, "sw.seg")
        assert sh("--json", *args, "-@", "2", "sw.seg") == sh("--json", *args, "-@", "1", "sw.seg")
    logits = [(k, {**{n: a for n, a in e.items() if n != "pred.npy"}, "logit.npy": (np.random.default_rng(3).normal(0, 2, e["pred.npy"].shape)).astype("f4")}) for k, e in recs]
    segpy.write(f"z-{task}.seg", segpy.header(names, task, head=head), logits)
    if task == "multilabel":
        probs = [(k, {**{n: a for n, a in e.items() if n != "logit.npy"}, "pred.npy": (1 / (1 + np.exp(-e["logit.npy"].astype("f8")))).astype("f4")}) for k, e in logits]
        segpy.write("p.seg", segpy.header(names, task, head=head), probs)
        assert sh("--sweep", "z-multilabel.seg") == sh("--sweep", "p.seg"), "logits"
P
)
is "--sweep against NumPy" "$why" ""
says "sweep of softmax logits" 1 "head softmax give no probability" seg-iou --sweep z-multiclass.seg
says "step of 0" 2 "'0' is not a number from 0.001 to 0.5" seg-iou --sweep=0 sw.seg
says "--merge and --sweep" 2 "counted with" seg-iou --merge --sweep sw0.json
says "--as and --sweep" 2 "rules of its own" seg-iou --as all --sweep sw.seg
says "merge refused: other sweep" 1 "sw1.json: cannot be merged: sweep is" sh -c 'seg-iou --json sw0.seg > n.json; seg-iou --merge n.json sw1.json'
says "two thresholds for three classes" 2 "2 numbers, but the stream has 3 classes" seg-iou --threshold 0.1,0.2 w-multilabel.seg
is "a threshold for each class" "$(seg-iou --threshold 0.1,0.2,0.3 w-multilabel.seg)" "$(seg-iou --threshold a=0.1,b=0.2,c=0.3 w-multilabel.seg)"
finish
