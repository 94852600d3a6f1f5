"""seg-loss on the question's situation against the numbers worked out for it in float64, and the
ledger of every recipe on random streams; ledgers subtracted; the worst.  Prints ok and not ok lines."""
import json, os, re, subprocess, sys

import numpy as np

import segpy


def result(name, bad):
    print("not ok" if bad else "ok", name)
    for b in bad[:5]:
        print("#  ", b)


def loss(stream, text, *options):
    p = subprocess.run(["seg-loss", "-l", text, *options, stream], capture_output=True, text=True, timeout=300)
    return p.stdout if p.returncode == 0 else "failed: " + p.stderr


subprocess.run([sys.executable, os.environ["TOP"] + "/pipelines/question.py", "q.seg"], check=True)
FOUR, MEANT = "[0,1,2,3,4]", "[1,1,1,1,1000]"
WEIGHTED = "class_weight(%s)*(mean[k](keras2_bce) + (1 - dice[n,y,x,k]))" % FOUR

# the total, and what others would print
bad = []
for want, text in (("0.012641", f"@post.weighted_loss(weights={FOUR}, sign=1)"), ("0.012641", f"mean[n,y,x]({WEIGHTED})"),
                   ("0.569579", f"@post.weighted_loss(weights={MEANT}, sign=1)"),
                   ("0.090791", f"sum[n,y,x]({WEIGHTED})/sum[n,y,x](class_weight({FOUR}))"),
                   ("-0.265831", f"@post.weighted_loss(weights={FOUR})"), ("-2.383142", f"@post.weighted_loss(weights={MEANT})"),
                   ("0.203506", "1 - mean[k](dice[n,y,x])"), ("0.006724", "mean[n,y,x,k](bce)")):
    got = loss("q.seg", text).split(" ")[0]
    if got != want:
        bad.append(f"{text}: {got}, want {want}")
result("the question's totals", bad)

# the explanation: numbers and warnings
text = loss("q.seg", f"@post.weighted_loss(weights={FOUR}, sign=1)", "--explain", "--precision", "f64")
flat = re.sub(r"\s+", " ", text)
bad = [w for w in (
    "n y x k 0.001 .. 6.908", "mean 0.006724", "every class counts 1/5", "0.951574 = 188,231.2 / 197,810.4",
    "'class 4' is 0.52 %", "0 .. 4, mean 0.139236", "0.012641 = 13,255.", " / 1,048,576",
    "not by the sum of the weights (146,000)", "0 .. 5.72",
    "952,076 pixels (90.8 %) have no class set; argmax[k](t) takes them for the first class, 'class 0'",
    "meets 0.05 % of the pixels and so holds only 1.37 % of all weight (4 x 500 of 146,000)",
    "where 'class 4' is predicted on other pixels, those pixels' weight counts",
    "the class numbers themselves", "at p = t, everything right", "at p = 1/2", "range as -2 ..") if w not in flat]
if max(map(len, text.splitlines())) > 100:
    bad.append("a line is longer than 100 columns")
result("the question's explanation", bad)

# the ledger: loss by class of the pixel
j = json.loads(loss("q.seg", f"@post.weighted_loss(weights={FOUR}, sign=1)", "--json", "--precision", "f64"))
bad = []
for c, n, want, iou in zip(j["classes"], [24000] * 4 + [500], ((0, 0, 0), (.000655, .001108, .001764), (.001310, .002217, .003527),
                           (.001966, .003325, .005291), (.001967, .000092, .002060)), [.96] * 4 + [.23]):
    got = (*c["terms"].values(), c["loss"])
    if c["pixels"] != n or np.abs(np.subtract(got, want)).max() > 5.1e-7 or abs(c["iou"] - iou) > 5e-4:
        bad.append(f"{c}: want {n}, {want}, {iou}")
per_class = [c["iou"] for c in j["classes"]]
if j["ledger"]["others"][0]["pixels"] != 952076 or j["ledger"]["others"][0]["loss"] != 0:
    bad.append(str(j["ledger"]["others"][0]))
result("the question's ledger", bad)
b = json.loads(loss("q.seg", "mean[n,y,x,k](bce)", "--json"))
got = [round(5 * c["channel_loss"], 4) for c in b["classes"]]
result("BCE of each class: the worst has the smallest", [] if got == [.0075] * 4 + [.0038] else [str(got)])

# where nothing is wrong nothing is warned of
rng = np.random.default_rng(3)
lab = rng.integers(0, 3, (4, 8, 8)).astype("u1")
logit = rng.normal(size=(4, 8, 8, 3)).astype("f4")
full = [(f"s{i}", {"image.npy": np.zeros((8, 8, 1), "u1"), "label.npy": lab[i], "logit.npy": logit[i]}) for i in range(4)]
segpy.write("fine.seg", segpy.header("abc", "multiclass", head="softmax"), full)
text = loss("fine.seg", "@torch.cross_entropy", "--explain")
result("no warning without a reason", [w for w in text.splitlines() if w.startswith("!")])
text = loss("fine.seg", "mean[n,y,x](ce) - 1.3", "--explain")
result("cancelling terms are warned of", [] if re.search("^!.*cancel", text, re.M) else [text])

# every recipe's ledger closes
more = []
for i in range(5):
    h, w = 6 + 2 * (i % 2), 8
    lab = rng.integers(0, 4, (h, w)).astype("u1")
    lab[lab == 3] = 255
    more.append((f"m{i}", {"image.npy": np.zeros((h, w, 1), "u1"), "label.npy": lab,
                           "logit.npy": rng.normal(size=(h, w, 3)).astype("f4") * 3, "weight.npy": rng.random((h, w)).astype("f4"),
                           "json": {"sample_weight": [1, 0.5, 2, 1, 3][i]}}))
segpy.write("class.seg", segpy.header("abc", "multiclass", head="softmax", ignore=255), more)
label = [(k, {**e, "mask.npy": (rng.random(e["label.npy"].shape + (3,)) < 0.3).astype("u1")}) for k, e in more]
for _, e in label:
    del e["label.npy"]
segpy.write("masks.seg", segpy.header("abc", "multilabel", head="sigmoid"), label)
names = re.findall(r"^(@?[a-z0-9_]+(?:\.\w+)?)", subprocess.run(["seg-loss", "--list"], capture_output=True, text=True).stdout, re.M)
recipes = [n for n in names if n.startswith("@")]
NEEDS = {"@post.weighted_loss": "(weights=[1,0,7])", "@smp.soft_tversky_score": "(alpha=0.3, beta=0.7)"}
bad = [] if len(recipes) > 10 else [f"--list gives {recipes}"]
tried = 0
for n in recipes:
    text = n + NEEDS.get(n, "")
    for stream in "class.seg", "masks.seg":
        out = loss(stream, text, "--json")
        if out.startswith("failed"):
            if not re.search("softmax|sigmoid|multi", out):  # made for the other head
                bad.append(f"{text} on {stream}: {out}")
            continue
        g = json.loads(out)["ledger"]
        cells = [c["loss"] for c in g["cells"]] + [r["loss"] for r in g["rows"]]
        total = json.loads(out)["loss"]
        tried += 1
        if abs(g["rounding"]) > 1e-12 * np.abs(cells).sum() or abs(g["sum"] + g["rounding"] - total) > 1e-15 * abs(total):
            bad.append(f"{text} on {stream}: sum {g['sum']}, rounding {g['rounding']}, loss {total}")
        if abs(sum(cells) - total) > 1e-12 * np.abs(cells).sum():
            bad.append(f"{text} on {stream}: cells and rows add up to {sum(cells)}, the loss is {total}")
result(f"the ledger closes: {len(recipes)} recipes, {tried} evaluations", bad)

# --field, --map and --gradient: values, contributions and finite differences
names = dict(wide="mean[y,x](ce)", all="ce*v", classes="mean[n,y,x](bce)", one="mean[n,y,x](ce)", row="mean[x](p)")
bad = []
want = {"wide": ["n"], "all": ["n", "y", "x", "k"], "classes": ["k"], "one": [], "row": ["n", "y", "k"]}
for name, text in names.items():
    f = json.loads(loss("fine.seg", text, "--field"))
    v = np.array(f["values"])
    shape = tuple({"n": 4, "y": 8, "x": 8, "k": 3}[a] for a in want[name])
    if f["axes"] != want[name] or v.shape != shape:
        bad.append(f"{text}: axes {f['axes']}, shape {v.shape}, want {want[name]} {shape}")
z = logit.astype("f8") - logit.max(-1, keepdims=True)
ce = -(np.take_along_axis(z, np.array([e["label.npy"] for _, e in full])[..., None].astype(int), -1)[..., 0] - np.log(np.exp(z).sum(-1)))
got = np.array(json.loads(loss("fine.seg", "ce", "--field", "--precision", "f64"))["values"])
if np.abs(got - ce).max() > 1e-12:
    bad.append(f"ce differs from NumPy's by {np.abs(got - ce).max()}")
result("--field: axes, shapes, values", bad)

text = "@torch.cross_entropy(weight=[1,5,2]) + mean[k](1 - dice[n,y,x])*2 + 7"
p = subprocess.run(["seg-loss", "--map", "--gradient", "--json", "--report", "r.json", "-l", text, "class.seg"], stdout=open("map.seg", "wb"), timeout=60)
j = json.load(open("r.json"))
head, records = segpy.read("map.seg")
pixels = sum(e["loss.npy"].astype("f8").sum() for _, e in records)
rows = sum(r["loss"] for r in j["ledger"]["rows"])
bad = [] if abs(pixels + rows - j["loss"]) < 1e-6 * abs(j["loss"]) and rows != 0 else [f"maps {pixels}, rows {rows}, loss {j['loss']}"]
rng = np.random.default_rng(9)
for i, y, x, k in ((0, 1, 2, 0), (1, 3, 4, 1), (2, 5, 6, 2), (4, 0, 7, 1)):
    side = []
    for step in (1e-2, -1e-2):
        moved = [(key, {n: a.copy() if hasattr(a, "copy") else a for n, a in e.items()}) for key, e in more]
        moved[i][1]["logit.npy"][y, x, k] += step
        step = float(moved[i][1]["logit.npy"][y, x, k]) - float(more[i][1]["logit.npy"][y, x, k])
        segpy.write("moved.seg", segpy.header("abc", "multiclass", head="softmax", ignore=255), moved)
        side.append((step, json.loads(loss("moved.seg", text, "--json", "--precision", "f64"))["loss"]))
    slope = (side[0][1] - side[1][1]) / (side[0][0] - side[1][0])
    got = records[i][1]["grad.npy"][y, x, k]
    if abs(slope - got) > 1e-4 * abs(slope) + 1e-8:
        bad.append(f"gradient at {i, y, x, k}: {got}, slope {slope}")
if p.returncode or any(set(e) != set(w) | {"loss.npy", "grad.npy"} for (_, e), (_, w) in zip(records, more)):
    bad.append(f"status {p.returncode}, entries {[sorted(e) for _, e in records][:1]}")
result("--map and the rows without pixels add up to the loss; --gradient is its slope", bad)

# --as: side by side, and where the ways part
j = json.loads(loss("q.seg", f"@post.weighted_loss(weights={FOUR}, sign=1)", "--json",
                    "--as", f"keras2,kaggle,@post.weighted_loss(weights={MEANT}, sign=1),mean[n,y,x]({WEIGHTED})"))
got = [(o["loss"].split("(")[0], round(o["value"], 6), o["differs"]) for o in j["as"]]
want = [("@keras2.binary_crossentropy", 0.006724, "max[k](v)"),
        ("@kaggle.bce_dice", -0.948212, "mean[n,y,x](0.5*mean[k](keras2_bce) - dice[n,y,x,k](smooth=1))"),
        ("@post.weighted_loss", 0.569579, "sum[k]([1,1,1,1,1000]*argmax[k](t))"), ("mean[n,y,x]", 0.012641, None)]
result("--as: values, and the first step that differs", [f"{g}, want {w}" for g, w in zip(got, want) if g != w] + ([] if len(got) == 4 else [str(got)]))
p = subprocess.run(["seg-loss", "--as", "caffe", "q.seg"], capture_output=True, text=True)
result("--as: no such project", [] if p.returncode == 2 and "'caffe' is no project; there are keras2" in p.stderr else [p.stderr])

# --diff: two ledgers of one loss
def diff(*files, **kw):
    return subprocess.run(["seg-loss", "--diff", *files], capture_output=True, text=True, timeout=60, **kw)


def ledger(name, stream, text):
    with open(name, "w") as f:
        f.write(loss(stream, text, "--json"))
    return json.load(open(name))


moved = [(k, {**e, "logit.npy": (e["logit.npy"] * 0.5 + rng.normal(size=e["logit.npy"].shape) * 0.3).astype("f4")}) for k, e in more]
segpy.write("moved.seg", segpy.header("abc", "multiclass", head="softmax", ignore=255), moved)
segpy.write("part.seg", segpy.header("abc", "multiclass", head="softmax", ignore=255), moved[:3])
segpy.write("named.seg", segpy.header("xyz", "multiclass", head="softmax", ignore=255), more)
bad = []
for text in "@torch.cross_entropy(weight=[1,5,2])", "mean[k](1 - dice[n,y,x])*2 + mean[n,y,x](ce) + 7 + log(mean[n,y,x](ce))":
    for other in "moved.seg", "part.seg":
        a, b = ledger("a.json", "class.seg", text), ledger("b.json", other, text)
        j = json.loads(diff("a.json", "b.json", "--json").stdout)
        rows = [r["change"] for r in j["rows"]]
        if abs(j["change"] - (b["loss"] - a["loss"])) > 0 or abs(sum(rows) + j["rounding"] - j["change"]) > 1e-16 or \
                abs(j["rounding"]) > 1e-12 * sum(map(abs, rows)):
            bad.append(f"{text}: rows {rows}, rounding {j['rounding']}, change {j['change']}")
        if [abs(r) for r in rows] != sorted(map(abs, rows), reverse=True):
            bad.append(f"{text}: not by size: {rows}")
        if j["same_pixels"] != (other == "moved.seg"):
            bad.append(f"{text}: same_pixels {j['same_pixels']} with {other}")
        at = {r.get("name"): r for r in j["rows"]}
        for c, d in zip(a["classes"], b["classes"]):
            r = at[c["name"]]
            if [r[k + s] for s in ("_a", "_b") for k in ("pixels", "loss", "gradient", "iou")] != \
                    [x[k] for x in (c, d) for k in ("pixels", "loss", "gradient", "iou")]:
                bad.append(f"{text}: {r} from {c}, {d}")
        of_channels = sum(c["change"] for c in j["channels"])
        if j["channels"] and abs(of_channels - j["change"]) > 1e-12:
            bad.append(f"{text}: channels change by {of_channels}, the loss by {j['change']}")
        out = diff("a.json", "b.json").stdout
        if max(map(len, out.splitlines())) > 100 or ("! the truth is not the same" in out) != (other == "part.seg"):
            bad.append(out)
result("--diff: the changes add up, largest first", bad)
if diff("a.json", stdin=open("b.json")).stdout.replace("<stdin>", "b.json") != out:
    result("--diff: the second from stdin", [out])
ledger("other.json", "class.seg", "@torch.cross_entropy")
ledger("named.json", "named.seg", text)
open("mine", "w").write("mine = mean[n,y,x](ce);\n"), open("yours", "w").write("mine = 2*mean[n,y,x](ce);\n")
for name in "mine", "yours":
    open(name + ".json", "w").write(loss("class.seg", "mine", "--recipes", name, "--json"))
open("cut.json", "w").write(open("a.json").read()[:500]), open("list.json", "w").write("[1]\n")
open("null.json", "w").write(re.sub(r'"loss": [^,\n]*(?=[,\n])', '"loss": null', open("a.json").read()))
bad = []
for files, status, want in ((("a.json", "other.json"), 1, "^seg-loss: other.json: another loss than in a.json: @torch"),
                            (("a.json", "named.json"), 1, "^seg-loss: named.json: class 0 is 'x', but 'a' in a.json"),
                            (("mine.json", "yours.json"), 1, "^seg-loss: yours.json: .* other definitions: term 1 is '2"),
                            (("cut.json", "b.json"), 1, "^seg-loss: cut.json: JSON: line "), (("a.json", "list.json"), 1, "^seg-loss: list.json: no ledger"),
                            (("null.json", "b.json"), 1, "^seg-loss: null.json: no ledger"), (("a.json", "class.seg"), 1, "^seg-loss: class.seg: JSON: "),
                            (("a.json", "none.json"), 1, "^seg-loss: none.json: No such file"), (("a.json", "b.json", "a.json"), 2, "more than two"),
                            (("a.json", "b.json", "--map"), 2, "--diff reads two ledgers")):
    p = diff(*files)
    if p.returncode != status or not re.search(want, p.stderr) or p.stderr.count("\n") != 1 or p.stdout:
        bad.append(f"{files}: status {p.returncode}, {p.stderr}")
result("--diff: what cannot be compared is refused, in one line", bad)

# --worst: samples and windows against the maps
rng = np.random.default_rng(12)
large = []
for i, (h, w) in enumerate(((70, 130), (64, 64), (20, 200), (70, 130), (128, 65))):
    m = (rng.random((h, w, 3)) < 0.2).astype("u1")
    large.append((f"w{i}" + "x" * 60 * (i == 3), {"image.npy": np.zeros((h, w, 1), "u1"), "mask.npy": m,
                                                   "logit.npy": rng.normal(size=(h, w, 3)).astype("f4")}))
large[3] = (large[3][0], {k: v.copy() for k, v in large[0][1].items()})  # a tie: the first comes first
segpy.write("large.seg", segpy.header("abc", "multilabel", head="sigmoid"), large)
bad = []
for text in "mean[n,y,x,k](bce)", "mean[n,k](1 - dice[y,x]) + mean[n,y,x](mean[k](bce)) + 2":
    subprocess.run(["seg-loss", "--map", "--report", "r.json", "-l", text, "large.seg"], stdout=open("map.seg", "wb"), timeout=60)
    j = json.loads(loss("large.seg", text, "--json", "--worst", "6", "--batch", "2"))
    g, top = j["ledger"], j["worst"]
    want = []
    for key, e in segpy.read("map.seg")[1]:
        m = e["loss.npy"].astype("f8")
        want += [(key, y, x, *m[y:y + 64, x:x + 64].shape, m[y:y + 64, x:x + 64].sum()) for y in range(0, m.shape[0], 64) for x in range(0, m.shape[1], 64)]
    want.sort(key=lambda v: -v[5])
    got = [tuple(r[k] for k in ("key", "y", "x", "height", "width", "loss")) for r in top["windows"]]
    if len(got) != 6 or any(a[:5] != b[:5] or abs(a[5] - b[5]) > 1e-7 * abs(b[5]) for a, b in zip(got, want)):
        bad.append(f"{text}: windows {got}, want {want[:6]}")
    no_pixel = sum(r["loss"] for r in g["rows"])
    if abs(top["no_pixel"] - no_pixel) > 1e-15 or abs(sum(v[5] for v in want) + no_pixel - j["loss"]) > 1e-7:
        bad.append(f"{text}: in no pixel {top['no_pixel']}, want {no_pixel}")
    samples = sorted(g["samples"], key=lambda v: -v["loss"])
    if [(r["key"], r["loss"]) for r in top["samples"]] != [(r["key"], r["loss"]) for r in samples]:
        bad.append(f"{text}: samples {top['samples']}, want {samples}")
    if abs(top["samples_loss"] + top["no_sample"] + g["rounding"] - j["loss"]) > 1e-14 or (top["no_sample"] != 0) != ("+ 2" in text):
        bad.append(f"{text}: samples hold {top['samples_loss']}, in none {top['no_sample']}, loss {j['loss']}")
    two = json.loads(loss("large.seg", text, "--json", "--worst", "2"))["worst"]
    if two["windows"] != top["windows"][:2] or two["samples"] != top["samples"][:2]:
        bad.append(f"{text}: two are not the first two of six")
    out = [loss("large.seg", text, "--worst", "5", "-@", t) for t in "124"]
    if out[0] != out[1] or out[0] != out[2] or max(map(len, out[0].splitlines())) > 100:
        bad.append(out[0])
    if ("! pixels lower" in out[0]) != ("dice" in text) or "windows of 64 x 64 pixels" not in out[0]:
        bad.append(out[0])
for weights in "[1,0,0]", "[0,0,9]":
    text = f"mean[n,y,x](class_weight({weights})*mean[k](bce))"
    r = json.loads(loss("large.seg", text, "--json", "--worst", "1"))["worst"]["samples"][0]
    segpy.write("one.seg", segpy.header("abc", "multilabel", head="sigmoid"), [s for s in large if s[0] == r["key"]])
    own = {c["name"]: c["iou"] for c in json.loads(loss("one.seg", text, "--json"))["classes"]}
    if weights == "[0,0,9]" and r["pixel_class"] != "c" or r["iou"] != own.get(r["pixel_class"]):
        bad.append(f"{r}, want IoU {own}")
for args in ("--worst", "0"), ("--worst", "x"), ("--worst", "2", "--field"), ("--worst", "2", "--diff", "a.json"):
    p = subprocess.run(["seg-loss", *args, "large.seg"], capture_output=True, text=True)
    if p.returncode != 2 or p.stderr.count("\n") != 1:
        bad.append(f"{args}: status {p.returncode}, {p.stderr}")
result("--worst: windows are sums of the map, samples those of the ledger, ties and threads", bad)
