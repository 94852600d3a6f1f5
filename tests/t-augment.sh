# seg-augment against NumPy: geometry exactly, values by formula; the same samples whatever the
# threads, the order of arrival and the company.
. "$SEG_TESTS/lib.sh"
export PYTHONPATH=$SEG_TESTS

# three types of image, each with label or mask and a weight; sides differ so that turns show
$PYTHON - <<'P'
import numpy as np, segpy
rng = np.random.default_rng(3)
recs = []
for i in range(12):
    h, w = (8, 12) if i % 2 else (9, 5)
    image = [rng.integers(0, 256, (h, w, 3)).astype(np.uint8), rng.integers(0, 65536, (h, w, 1)).astype(np.uint16),
             rng.random((h, w, 2)).astype(np.float32), (rng.random((h, w, 2)) * 50 - 9).astype(np.float32)][i % 4]
    truth = {"label.npy": rng.integers(0, 3, (h, w)).astype(np.uint8)}
    if i % 3 == 0:
        truth = {"mask.npy": rng.integers(0, 2, (h, w, 3)).astype(np.uint8)}
    recs.append((f"d/s{i}", {"image.npy": image, **truth, "weight.npy": rng.random((h, w)).astype(np.float32),
                 "json": {"id": f"d/s{i}", "source": "x", "size": [h, w], "window": [0, 0], "tags": {}}}))
head = segpy.header("abc", "multilabel")
segpy.write("in.seg", head, recs)
segpy.write("shuffled.seg", head, recs[::-1])
segpy.write("alone.seg", head, recs[4:5])
segpy.write("pred.seg", head, [("a", {"image.npy": recs[0][1]["image.npy"], "pred.npy": np.zeros((9, 5, 3), np.float32)})])
segpy.write("nan.seg", head, [("a", {"image.npy": np.full((4, 4, 1), np.nan, np.float32)})])
P
run() { seg-augment -s 7 "$@" flip rot90 transpose hflip@0.3 'gamma(0.5,2)' 'brightness(-0.2,0.2)@0.5' 'contrast(0.5,1.5)' 'noise(0.05)@0.3'; }
run < in.seg > one.seg
run -@ 1 < in.seg > one1.seg
run -@ 4 < in.seg > one4.seg
run < shuffled.seg > shuffled-out.seg
run < alone.seg > alone-out.seg
run -n 3 --keep < in.seg > copies.seg
run --epochs 3 < in.seg > epochs.seg
run --epochs 3 --cache 0 -@ 3 < in.seg > spilled.seg
run --epochs 2 -n 2 < in.seg > both.seg
run < one.seg > twice.seg
seg-augment -s 8 flip rot90 < in.seg > seed8.seg
for k in 'flip' 'hflip@1' 'vflip@1' 'transpose@1' 'rot90' 'gamma(0.4,2.5)' 'brightness(-0.3,0.3)' 'contrast(0.2,3)' 'noise(0.1)'; do
	seg-augment -n 8 "$k" < in.seg > "k-${k%%[(@]*}.seg"
done
seg-augment hflip@1 < in.seg | seg-augment hflip@1 > back.seg
is "the same bits from every compiler and machine" "$(seg-synth -n 2 --size 48x64 --masks -s 5 |
	seg-augment -s 7 -n 2 flip rot90 transpose 'gamma(0.5,2)' 'brightness(-0.2,0.2)' 'contrast(0.5,1.5)' 'noise(0.05)' |
	seg-info --hash)" "10e39c2de3a3499cef5cdf53a5cd61e9dce85d4bc2fbb2ed45f2f22765fa47f2  -"
is "threads change nothing" "$(cmp one1.seg one4.seg 2>&1; cmp one.seg one1.seg 2>&1)" ""
is "a spilled cache changes nothing" "$(cmp epochs.seg spilled.seg 2>&1)" ""

$PYTHON - <<'P'
import numpy as np, segpy
heads, data = {}, {}
for f in "in one shuffled-out alone-out copies epochs both twice seed8 back".split():
    heads[f], data[f] = segpy.read(f + ".seg")
d = {f: dict(r) for f, r in data.items()}


def check(what, good, *why):
    print("ok" if good else "not ok", what, *([] if good else why))


def equal(a, b, but=()):
    return a.keys() == b.keys() and all(a[s] == b[s] if s == "json" else
        a[s].dtype == b[s].dtype and np.array_equal(a[s], b[s]) for s in a if s not in but)


check("keys stay without -n and --epochs", [k for k, _ in data["one"]] == [k for k, _ in data["in"]])
check("order of arrival", [k for k, _ in data["shuffled-out"]] == [k for k, _ in data["in"]][::-1]
      and all(equal(d["shuffled-out"][k], e) for k, e in data["one"]))
check("company", equal(d["alone-out"]["d/s4"], d["one"]["d/s4"]))
check("copies and original", [k for k, _ in data["copies"]][:8] ==
      ["d/s0_c0", "d/s0_c1", "d/s0_c2", "d/s0_c3", "d/s1_c0", "d/s1_c1", "d/s1_c2", "d/s1_c3"], [k for k, _ in data["copies"]][:8])
check("the original is untouched", all(equal(d["copies"][k + "_c0"], e, ["json"]) and
      d["copies"][k + "_c0"]["json"] == {**e["json"], "copy": 0} for k, e in data["in"]))
check("the first copy is the only one of a plain run", all(equal(d["copies"][k + "_c1"], e, ["json"]) for k, e in data["one"]))
check("epochs pass in order", [k for k, _ in data["epochs"]] == [f"{k}_e{e}" for e in (1, 2, 3) for k, _ in data["in"]])
check("json says epoch", [r["json"]["epoch"] for _, r in data["epochs"]] == [1] * 12 + [2] * 12 + [3] * 12)
check("the header says epochs", heads["epochs"].get("epochs") == 3 and "epochs" not in heads["one"], heads["epochs"])
check("the first epoch is a plain run", all(equal(d["epochs"][k + "_e1"], e, ["json"]) for k, e in data["one"]))
check("epochs differ", sum(equal(d["epochs"][k + "_e1"], d["epochs"][k + "_e2"]) for k, _ in data["in"]) < 3)
check("epochs of copies", [k for k, _ in data["both"]][22:26] == ["d/s11_e1_c1", "d/s11_e1_c2", "d/s0_e2_c1", "d/s0_e2_c2"])
check("epoch 1 of copies is that of one", all(equal(d["both"][k + "_e1_c1"], e, ["json"]) for k, e in data["one"]))
check("other json survives", all(r["json"]["source"] == "x" for _, r in data["both"]))
moved = lambda r: any(t["name"] == "hflip" or t["name"] == "transpose" or any(t["args"]) for t in r["transforms"][:4]
                      if t["name"] in ("flip", "rot90", "transpose", "hflip"))
check("a moved picture has no place any more", all(not moved(r["json"]) == (s in r["json"])
      for _, r in data["both"] for s in ("size", "window", "tags")))
check("a second run adds to the record", all(len(r["json"]["transforms"]) >= len(d["one"][k]["json"]["transforms"]) + 3
      and r["json"]["transforms"][:len(d["one"][k]["json"]["transforms"])] == d["one"][k]["json"]["transforms"]
      for k, r in data["twice"]))
check("another seed", sum(equal(d["seed8"][k], e) for k, e in data["in"]) < 4)
check("mirrored twice is what it was", all(equal(d["back"][k], e, ["json"]) for k, e in data["in"]))
check("provenance", heads["both"]["provenance"][-1]["options"]["transforms"][:2] == ["flip", "rot90"]
      and heads["both"]["provenance"][-1]["program"] == "seg-augment", heads["both"]["provenance"])

# each transform against NumPy, from the parameters it recorded
moves = {"flip": lambda a, h, v: np.flip(a, [i for i, on in ((1, h), (0, v)) if on]), "hflip": np.fliplr, "vflip": np.flipud,
         "transpose": lambda a: np.swapaxes(a, 0, 1), "rot90": lambda a, k: np.rot90(a, int(k))}


def tone(name, a, v):
    lo, hi = (0, 255) if a.dtype == np.uint8 else (0, 65535) if a.dtype == np.uint16 else \
        (0, 1) if a.min() >= 0 and a.max() <= 1 else (float(a.min()), float(a.max()))
    x = (a.astype(float) - lo) / (hi - lo)
    y = {"gamma": lambda: x ** v, "brightness": lambda: x + v, "contrast": lambda: x.mean() + v * (x - x.mean())}[name]()
    return np.clip(y, 0, 1) * (hi - lo) + lo


for name in list(moves) + ["gamma", "brightness", "contrast", "noise"]:
    bad, seen, spread = [], set(), []
    for key, e in segpy.read(f"k-{name}.seg")[1]:
        src = d["in"][key.rsplit("_c", 1)[0]]
        (t,) = e["json"]["transforms"]
        seen.add(tuple(t["args"]))
        assert t["name"] == name
        for s in src:
            if s == "json":
                continue
            a = src[s]
            if name in moves:
                good = np.array_equal(e[s], moves[name](a, *t["args"]))
            elif s != "image.npy":
                good = np.array_equal(e[s], a)
            elif name == "noise":
                scale = 255 if a.dtype == np.uint8 else 65535 if a.dtype == np.uint16 else max(1, np.ptp(a))
                spread.append((e[s].astype(float) - a).std() / scale)
                good = not np.array_equal(e[s], a)
            else:
                diff = np.abs(e[s].astype(float) - tone(name, a, *t["args"]))
                good = (diff <= (.5 + 1e-6 if a.dtype.kind == "u" else 1e-5)).all()
            if not good or e[s].dtype != a.dtype:
                bad.append((key, s, t["args"]))
    want = {"flip": {(0, 0), (0, 1), (1, 0), (1, 1)}, "rot90": {(0,), (1,), (2,), (3,)}, "noise": {(.1,)}}
    if name in want:
        good = seen == want[name]
    elif name in moves:
        good = seen == {()}
    else:
        v = np.array(sorted(x[0] for x in seen))
        lo, hi = {"gamma": (.4, 2.5), "brightness": (-.3, .3), "contrast": (.2, 3)}[name]
        good = len(v) == 96 and lo <= v[0] < lo + .1 * (hi - lo) and hi - .1 * (hi - lo) < v[-1] <= hi
    if not good:
        bad.append(("drawn", sorted(seen)[:5]))
    if spread and not .07 < np.mean(spread) < .105:  # clipping takes some of 0.1 away
        bad.append(("spread", np.mean(spread)))
    check(name + " as NumPy does it", not bad, bad[:5])
P
[ $? = 0 ] || no "the oracle ran"

n=$(seg-augment -n 400 hflip@0.25 < alone.seg > p.seg; $PYTHON -c '
import segpy; print(sum(len(e["json"]["transforms"]) for _, e in segpy.read("p.seg")[1]))')
[ "$n" -ge 75 ] && [ "$n" -le 125 ] && ok "probability" || no "probability" "$n of 400, want about 100"

says "no transform" 2 "which transforms" seg-augment
says "unknown" 2 "'shear' is not a transform" seg-augment shear
says "arguments missing" 2 'gamma\(lo,hi\)' seg-augment gamma
says "arguments too many" 2 "write flip;" seg-augment 'flip(1)'
says "argument out of range" 2 "0.01 to 100" seg-augment 'gamma(0,2)'
says "arguments exchanged" 2 "2 is above 1" seg-augment 'gamma(2,1)'
says "probability out of range" 2 "probability" seg-augment 'flip@1.5'
says "left over" 2 "left over" seg-augment 'flip@0.5x'
says "predictions refused" 1 "sample a: pred.npy.*augment before" sh -c 'seg-augment flip < pred.seg'
says "NaN refused" 1 "sample a: gamma.*not finite at y 0 x 0" sh -c "seg-augment 'gamma(1,2)' < nan.seg"
says "epochs of epochs refused" 1 "already" sh -c 'seg-augment --epochs 2 flip < epochs.seg'
says "empty input" 3 "seg-augment" sh -c 'seg-augment flip < /dev/null'
size=$(stat -c %s in.seg)
head -c $((size - 100)) in.seg > cut.seg
says "truncated input" 3 "seg-augment: <stdin>" sh -c 'seg-augment --epochs 2 flip < cut.seg > cut-out.seg'
says "and then no END" 3 "seg-augment: <stdin>" sh -c 'seg-augment flip < cut-out.seg'
status "full disk" 1 sh -c 'seg-augment flip < in.seg > /dev/full'
match "--list" "$(seg-augment --list)" '^gamma\(lo,hi\) +1 +0.01..100'
finish
