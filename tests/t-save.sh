# seg-save: what it writes, read by others and by seg-load; names, georeferencing, refusals.
. "$SEG_TESTS/lib.sh"
export PYTHONPATH=$SEG_TESTS SEG_LEVEL=1 PYTHONDONTWRITEBYTECODE=1
for py in "$PYTHON" /usr/bin/python3; do $py -c 'import numpy, tifffile' 2>/dev/null && break; done
$py -c 'import numpy, tifffile' 2>/dev/null || { skip "seg-save" "no python3-tifffile"; finish; }

$py - <<'P'
import os, subprocess
import numpy as np
import segpy, tiffpy, tifffile

def is_(name, good, *why):
    print("ok" if good else "not ok", name, *([] if good else ["\n#  ", *why]))

def save(stream, *a):
    return subprocess.run(["seg-save", *a, stream], capture_output=True, text=True)

def stream(name, task, head, recs, **more):
    if head:
        more["head"] = head
    segpy.write(name, segpy.header(["rock", "oxide", "crack"], task, range="u1", **more), recs)

rng = np.random.default_rng(7)
H, W, K = 40, 33, 3
z = rng.normal(size=(H, W, K)).astype(np.float32) * 3
z[0, 0] = [1, 1, 0]; z[0, 1] = [0, 2, 2] # ties: the first
e = np.exp(z.astype(np.float64)); soft = (e / e.sum(2, keepdims=True)).astype(np.float32)
sig = (1 / (1 + np.exp(-z.astype(np.float64)))).astype(np.float32)
im = rng.integers(0, 256, (H, W, 3)).astype(np.uint8)
lab = rng.integers(0, K, (H, W)).astype(np.uint8); lab[5:9, 5:9] = 255
mask = rng.integers(0, 2, (H, W, K)).astype(np.uint8); mask[3:5, 3:5] = 200
tags = {"XResolution": 300, "YResolution": 300, "ResolutionUnit": 2, "ModelPixelScale": [2, 2, 0],
        "ModelTiepoint": [0, 0, 0, 5e5, 4.5e6, 0], "GeoKeyDirectory": [1, 1, 0, 0], "GeoAsciiParams": "WGS|", "GDAL_NODATA": "-9999"}
j = {"id": "a/one", "source": "a/one.tif", "tags": tags}
stream("p.seg", "multiclass", "softmax", [("a/one", {"image.npy": im, "label.npy": lab, "json": j, "pred.npy": soft}),
                                        ("a/one_p2", {"image.npy": im, "label.npy": lab, "pred.npy": soft})], ignore=255)
stream("z.seg", "multiclass", "softmax", [("x", {"image.npy": im, "logit.npy": z})])
stream("s.seg", "multilabel", "sigmoid", [("x", {"image.npy": im, "mask.npy": mask, "logit.npy": z})], ignore=200)

r = save("p.seg", "-o", "d")
is_("labels are the default", r.returncode == 0 and sorted(os.listdir("d")) == ["a_one.tif", "a_one_p2.tif"], r, os.path.isdir("d") and os.listdir("d"))
with tifffile.TiffFile("d/a_one.tif") as t:
    p = t.pages[0]
    is_("labels: first maximum", np.array_equal(p.asarray(), soft.argmax(2)) and p.dtype == np.uint8)
    is_("labels: a palette", p.photometric == tifffile.PHOTOMETRIC.PALETTE and (p.colormap[:, 1] >> 8).tolist() == [230, 159, 0] and
        (p.colormap[:, 255] >> 8).tolist() == [128, 128, 128], p.colormap[:, :4])
    g = {k: p.tags[k].value for k in (33550, 33922, 34735, 34737, 42113, 282, 296)}
    is_("georeferencing is written back", g[33550] == (2, 2, 0) and g[33922] == (0, 0, 0, 5e5, 4.5e6, 0) and g[34735] == (1, 1, 0, 0) and
        g[34737].startswith("WGS|") and g[42113].startswith("-9999") and g[282] == (300, 1) and g[296] == 2, g)
    is_("the rule is in the file", "first maximum" in p.description, p.description)
r = save("p.seg", "-o", "m", "--labels", "--masks", "--probabilities", "--image", "--truth", "--overlay")
is_("several kinds have directories", r.returncode == 0 and sorted(os.listdir("m")) ==
    ["image", "labels", "masks", "overlay", "probabilities", "truth"], r)
pr = tifffile.imread("m/probabilities/a_one.tif")
is_("probabilities", np.array_equal(np.moveaxis(pr, 0, 2) if pr.shape[0] == K else pr, soft), pr.shape)
is_("masks: p > 0.5", np.array_equal(np.moveaxis(tifffile.imread("m/masks/a_one.tif"), 0, 2), (soft > 0.5) * 255))
is_("image", np.array_equal(tifffile.imread("m/image/a_one.tif"), im))
is_("truth", np.array_equal(tifffile.imread("m/truth/a_one.tif"), lab))
o = tifffile.imread("m/overlay/a_one.tif")
is_("overlay is RGB with a legend below", o.dtype == np.uint8 and o.shape[2] == 3 and o.shape[1] == W and o.shape[0] > H, o.shape)
edge = np.zeros((H, W), bool)
for k in range(1, K):
    q = np.pad(lab == k, 1, mode="edge")
    edge |= (lab == k) & ~(q[:-2, 1:-1] & q[2:, 1:-1] & q[1:-1, :-2] & q[1:-1, 2:])
okabe = np.array([[0, 0, 0], [230, 159, 0], [86, 180, 233]], np.uint8)
is_("overlay draws the truth", np.array_equal(o[:H][edge], okabe[np.where(edge, lab, 0)][edge]))
guess = soft.argmax(2)
calm = ~edge & (guess == 0) & (lab != 255)
is_("overlay leaves the background", np.array_equal(o[:H][calm], im[calm]))
paint = ~edge & (guess > 0)
is_("overlay paints the prediction", np.array_equal(o[:H][paint], ((im[paint].astype(int) * 11 + okabe[guess[paint]].astype(int) * 9) // 20)))
r = save("p.seg", "-o", "n", "--overlay", "--side-by-side")
n = tifffile.imread("n/a_one.tif")
is_("--side-by-side", n.shape[1] == 3 * W + 8 and np.array_equal(n[11:11 + H, :W], im), r, n.shape)
save("z.seg", "-o", "z")
is_("labels from logits", np.array_equal(tifffile.imread("z/x.tif"), z.argmax(2)))
save("z.seg", "-o", "zp", "--probabilities")
is_("softmax of logits", np.abs(tifffile.imread("zp/x.tif").reshape(K, H, W).transpose(1, 2, 0) - soft).max() < 1e-6)
r = save("s.seg", "-o", "s", "--verbose")
is_("multilabel: masks are the default", np.array_equal(np.moveaxis(tifffile.imread("s/x.tif"), 0, 2), (sig > 0.5) * 255))
is_("the rule is said", "p > 0.5" in r.stderr, r.stderr)
save("s.seg", "-o", "st", "--truth")
is_("truth as masks, 128 where ignored", np.array_equal(np.moveaxis(tifffile.imread("st/x.tif"), 0, 2), np.where(mask == 200, 128, mask * 255)))
# there and back
for name, kind, a in (("p.seg", "label", ("--labels", "--ignore", "255")), ("s.seg", "mask", ("--masks", "--ignore", "128"))):
    save(name, "-o", "r" + kind, "--image", "--truth")
    r = subprocess.run(["seg-load", "--images", f"r{kind}/image", a[0], f"r{kind}/truth", *a[1:], "--classes", "rock,oxide,crack"],
                       stdout=open("back.seg", "wb"), stderr=subprocess.PIPE)
    b, w = (segpy.read("back.seg")[1][0][1], segpy.read(name)[1][0][1]) if r.returncode == 0 else ({}, {})
    t = b.get(kind + ".npy")
    is_(f"{kind}s there and back", r.returncode == 0 and np.array_equal(np.where(t == 128, 200, t) if kind == "mask" else t, w[kind + ".npy"]) and
        np.array_equal(b["image.npy"], w["image.npy"]), r.stderr)
# tags do not fit a window or a turned picture
stream("w.seg", "multiclass", None, [("a_y8x0", {"image.npy": im, "json": dict(j, id="a", window=[8, 0])}),
                                     ("b_c2", {"image.npy": im, "json": dict(j, id="b", transforms=["rot90"])})])
save("w.seg", "-o", "w", "--image")
is_("windows and turned pictures: named, not georeferenced", sorted(os.listdir("w")) == ["a_y8x0.tif", "b_c2.tif"] and not any(
    33550 in tifffile.TiffFile("w/" + f).pages[0].tags for f in os.listdir("w")), os.listdir("w"))
for d, s in ((np.uint16, 3), (np.float32, 1), (np.uint16, 1), (np.float32, 2)):
    a = (rng.random((9, 300, s)) * 1000).astype(d)
    stream("i.seg", "multiclass", None, [("i", {"image.npy": a})])
    save("i.seg", "-o", "i", "--image")
    is_(f"image of {s} {np.dtype(d).name}", np.array_equal(tifffile.imread("i/i.tif").reshape(a.shape), a))
bad = soft.copy(); bad[4, 7, 1] = np.nan
stream("nan.seg", "multiclass", "softmax", [("x", {"image.npy": im, "pred.npy": bad})])
stream("twice.seg", "multiclass", None, [("a/b", {"image.npy": im}), ("a_b", {"image.npy": im})])
stream("size.seg", "multiclass", "softmax", [("x", {"image.npy": im, "pred.npy": soft[:8]})])
stream("evil.seg", "multiclass", None, [("x", {"image.npy": im, "json": {"id": "../../x"}})])
P
[ -e evil.seg ] || no "the pictures" "the script above stopped"

says "NaN" 1 'sample x: prediction of class 1 is NaN at y 4 x 7' seg-save -o e nan.seg
says "two samples, one name" 1 'a_b.tif' seg-save -o e -@ 1 --image twice.seg
says "sizes differ" 1 'pred.npy is 8x33, but image.npy is 40x33' seg-save -o e --overlay size.seg
says "no prediction" 1 'no prediction in this sample; seg-predict' seg-save -o e w.seg
says "no truth" 1 'no truth' seg-save -o e --truth w.seg
says "nothing to draw" 1 'neither truth nor prediction' seg-save -o e --overlay w.seg
says "unknown background" 2 "no class is called 'sky'" seg-save -o e --overlay --background sky p.seg
says "no directory can be made" 1 'none/e: cannot make' seg-save -o none/e --image w.seg
says "no -o" 2 'DIR is missing' seg-save w.seg
head -c 2000 p.seg >cut.seg
says "truncated stream" 3 'cut.seg' seg-save -o e --image cut.seg
seg-save -o evil --image evil.seg; is "a name stays in the directory" "$(ls -A evil)" "x.tif"
mkdir full; ln -s /dev/full full/a_y8x0.tif
says "full disk" 1 'No space left' seg-save -o full --image -@ 1 w.seg
is "nothing half done" "$(ls e full | grep -c tmp)" "0"
finish
