# seg-load: every depth, layout and meaning against files written by Python; pairing; truth;
# refusals; the sample data three ways; files from everywhere.
. "$SEG_TESTS/lib.sh"
export PYTHONPATH=$SEG_TESTS SEG_LEVEL=1 PYTHONDONTWRITEBYTECODE=1

$PYTHON - <<'P'
import itertools, os, subprocess
import numpy as np
import segpy, tiffpy

def load(*a):
    r = subprocess.run(["seg-load", *a], stdout=open("x.seg", "wb"), stderr=subprocess.PIPE)
    if r.returncode:
        return r.stderr.decode().strip()
    return segpy.read("x.seg")

def check(name, got, want):
    if isinstance(got, str):
        print("not ok", name, "\n#  ", got); return
    a = got[1][0][1]["image.npy"] if isinstance(got, tuple) else got
    want = want if want.ndim != 2 or a.ndim == 2 else want[:, :, None]
    if a.dtype == want.dtype and a.shape == want.shape and np.array_equal(a, want, equal_nan=a.dtype.kind == "f"):
        print("ok", name)
    else:
        print("not ok", name, "\n#  ", a.dtype, a.shape, want.dtype, want.shape, a.ravel()[:8], want.ravel()[:8])

rng = np.random.default_rng(5)
H, W = 37, 45
# layouts: every one of them for three depths
for endian, big, tile, planar, comp, (s, d) in itertools.product("<>", (0, 1), (None, (16, 32)), (0, 1), (1, 8, 32773),
        ((3, np.uint8), (1, np.uint16), (5, np.float32))):
    a = (rng.random((H, W, s)) * 200).astype(d)
    tiffpy.write("a.tif", [dict(a=a, tile=tile, planar=planar, compression=comp)], big, endian)
    g = load("a.tif")
    if isinstance(g, str) or not np.array_equal(g[1][0][1]["image.npy"], a):
        print("not ok layout", endian, big, tile, planar, comp, s, d.__name__, "\n#  ", g if isinstance(g, str) else "pixels"); break
else:
    print("ok 144 layouts")
# depths
for bits in range(1, 17):
    a = rng.integers(0, 1 << bits, (H, W, 3)).astype(np.uint8 if bits <= 8 else np.uint16)
    tiffpy.write("a.tif", [dict(a=a, bits=bits)])
    full = 255 if bits <= 8 else 65535
    want = ((a.astype(np.int64) * full * 2 + (1 << bits) - 1) // (2 * ((1 << bits) - 1))).astype(a.dtype)
    check(f"{bits} bits, stretched", load("a.tif"), want)
    check(f"{bits} bits, --raw", load("--raw", "a.tif"), a)
for d in (np.uint32, np.uint64, np.int8, np.int16, np.int32, np.int64, np.float16, np.float32, np.float64):
    a = (rng.random((H, W)) * 100 - (0 if d().dtype.kind == "u" else 50)).astype(d)
    if d().dtype.kind == "f":
        a[0, :5] = [0, -0.0, np.nan, np.inf, np.finfo(d).tiny / 2]
    tiffpy.write("a.tif", [dict(a=a)], endian=">")
    check(f"{np.dtype(d).name} as float32", load("a.tif"), a.astype(np.float32))
    tiffpy.write("a.tif", [dict(a=a)])
    check(f"{np.dtype(d).name} little-endian", load("a.tif"), a.astype(np.float32))
# meanings
a = rng.integers(0, 256, (H, W)).astype(np.uint8)
tiffpy.write("a.tif", [dict(a=a, photo=0)])
check("min-is-white is inverted", load("a.tif"), 255 - a)
check("min-is-white --raw", load("--raw", "a.tif"), a)
pal = rng.integers(0, 65536, (256, 3)); pal[0] = 300
tiffpy.write("a.tif", [dict(a=a, photo=3, palette=pal)])
check("palette image has colours", load("a.tif"), (pal[a] >> 8).astype(np.uint8))
check("palette --raw", load("--raw", "a.tif"), a)
tiffpy.write("a.tif", [dict(a=a, photo=3, palette=pal % 256)])
check("palette of 8 bit colours", load("a.tif"), (pal % 256)[a].astype(np.uint8))
a = rng.integers(0, 256, (H, W, 5)).astype(np.uint8)
tiffpy.write("a.tif", [dict(a=a, photo=2, extra=[2, 0])])
check("alpha is dropped, other samples stay", load("a.tif"), a[:, :, [0, 1, 2, 4]])
check("alpha --raw", load("--raw", "a.tif"), a)
turn = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1), 7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1], 8: lambda a: np.rot90(a)}
for o in turn: # Exif: 6 needs a quarter turn clockwise, 8 one counterclockwise
    tiffpy.write("a.tif", [dict(a=a, tags={274: (3, [o])})])
    check(f"orientation {o}", load("a.tif"), turn[o](a))
check("orientation --raw", load("--raw", "a.tif"), a)
# deflate data that go on behind the strip: libtiff with libdeflate leaves its end unwritten
rows = np.repeat(np.array([1, 2, 3, 4, 9], np.uint8)[:, None], 300, 1)
import zlib
real = zlib.compress
zlib.compress = lambda d: real(d if len(d) == 1200 else d * 4)
tiffpy.write("a.tif", [dict(a=rows, rps=4, compression=8)])
zlib.compress = real
check("deflate data longer than the strip", load("a.tif"), rows)
# pages, overviews, keys, json
b = a[:, :, :3]
tags = {33550: (12, [2.0, 2.0, 0.0]), 33922: (12, [0.0] * 3 + [5e5, 4.5e6, 0.0]), 34735: (3, [1, 1, 0, 0]), 34737: (2, "WGS|"), 42113: (2, "-9999")}
tiffpy.write("d.ir.tif", [dict(a=b, tags=tags), dict(a=b[::2, ::2], tags={254: (4, [1])}), dict(a=255 - b)])
g = load("./d.ir.tif")
print("ok pages" if [k for k, _ in g[1]] == ["d.ir_p1", "d.ir_p3"] or len({k for k, _ in g[1]}) == 2 and
      np.array_equal(g[1][1][1]["image.npy"], 255 - b) and g[1][1][0].endswith("_p3") else f"not ok pages\n#   {[k for k, _ in g[1]]}")
j = g[1][0][1]["json"]
ok = j["source"] == "./d.ir.tif" and j["page"] == 1 and j["size"] == [H, W] and j["tags"] == {"ModelPixelScale": [2, 2, 0],
      "ModelTiepoint": [0, 0, 0, 5e5, 4.5e6, 0], "GeoKeyDirectory": [1, 1, 0, 0], "GeoAsciiParams": "WGS|", "GDAL_NODATA": "-9999"}
print("ok json" if ok else f"not ok json\n#   {j}")
check("--page", load("--page", "3", "d.ir.tif"), 255 - b)
# truth: one set of scenes, stored in all ways
os.makedirs("img"); K = 4
for d in ("lab", "pal", "pages", "samples", "dirs/c0", "dirs/c1", "dirs/c2", "dirs/c3", "suffix", "lab16", "labf"):
    os.makedirs(d)
names = ["b", "a.x", "\u00e4 1"]
want = {}
for n in names:
    h, w = rng.integers(20, 50, 2)
    im, l = rng.integers(0, 256, (h, w, 3)).astype(np.uint8), rng.integers(0, K, (h, w)).astype(np.uint8)
    m = np.stack([l == k for k in range(K)], 2)
    want[n] = im, l, m
    tiffpy.write(f"img/{n}.tif", [dict(a=im)])
    tiffpy.write(f"lab/{n}.TIFF", [dict(a=l)])
    tiffpy.write(f"lab16/{n}.tif", [dict(a=l.astype(np.uint16) * 1000)])
    tiffpy.write(f"labf/{n}.tif", [dict(a=l.astype(np.float32))])
    tiffpy.write(f"pal/{n}.tif", [dict(a=l, photo=3, bits=4, palette=rng.integers(0, 65536, (16, 3)))])
    tiffpy.write(f"pages/{n}.tif", [dict(a=m[:, :, k].astype(np.uint8), bits=1) for k in range(K)])
    tiffpy.write(f"samples/{n}.tif", [dict(a=m.astype(np.uint8) * 255, planar=True)])
    for k in range(K):
        tiffpy.write(f"dirs/c{k}/{n}.tif", [dict(a=m[:, :, k].astype(np.uint16) * 65535)])
        tiffpy.write(f"suffix/{n}_c{k}.tif", [dict(a=1 - m[:, :, k].astype(np.uint8), bits=1, photo=0)])
open("lab/notes.txt", "w").write("not a picture\n"); open("lab/.hidden.tif", "w").write("")
def truth(name, kind, *a):
    g = load("--images", "img", *a)
    if isinstance(g, str):
        print("not ok", name, "\n#  ", g); return
    order = sorted(names, key=lambda n: (n + ".tif").encode())
    bad = [n for n, (k, e) in zip(order, g[1]) if not np.array_equal(e["image.npy"], want[n][0]) or
           not np.array_equal(e[kind + ".npy"], want[n][1 if kind == "label" else 2]) or e["json"]["id"] != n]
    head = g[0]
    good = not bad and len(g[1]) == 3 and len(head["classes"]) == K and head["range"] == "u1" and \
        head["task"] == ("multiclass" if kind == "label" else "multilabel")
    print("ok" if good else f"not ok {name} {bad} {head}\n#  ", name)
truth("labels, classes named", "label", "--labels", "lab", "--classes", "p,q,r,s")
truth("labels, classes numbered", "label", "--labels", "lab", "--classes", "4")
truth("labels, classes counted", "label", "--labels", "lab")
truth("labels of a palette", "label", "--labels", "pal", "-@", "3")
truth("labels of floats", "label", "--labels", "labf")
truth("labels mapped", "label", "--labels", "lab16", "--map", "1000=1,2000=2,3000=3", "--classes", "4")
truth("masks as pages", "mask", "--masks", "pages")
truth("masks as samples", "mask", "--masks", "samples")
truth("masks as directories", "mask", "--masks", "dirs")
truth("masks with suffixes", "mask", "--masks", "suffix", "--classes", "c0,c1,c2,c3")
g = load("--images", "img", "--labels", "lab", "--map", "3=ignore,*=0", "--classes", "only")
l = sorted(want.items(), key=lambda x: (x[0] + ".tif").encode())[0][1][1]
print("ok ignore" if g[0]["ignore"] == 255 and np.array_equal(g[1][0][1]["label.npy"], np.where(l == 3, 255, 0)) else "not ok ignore")
for x in "14":
    load("--images", "img", "--labels", "lab", "-@", x); os.rename("x.seg", x + ".seg")
print("ok threads do not show" if open("1.seg", "rb").read() == open("4.seg", "rb").read() else "not ok threads show")
# material for the refusals below
os.makedirs("odd"); os.makedirs("unpaired"); os.makedirs("size"); os.makedirs("value"); os.makedirs("empty"); os.makedirs("turned"); os.makedirs("both")
for n in names:
    im, l, m = want[n]
    tiffpy.write(f"odd/{n}.tif", [dict(a=im if n == "b" else im[:, :, 0])])
    if n != "b":
        tiffpy.write(f"unpaired/{n}.tif", [dict(a=l)])
    tiffpy.write(f"size/{n}.tif", [dict(a=l[:-1])])
    l = l.copy(); l[3, 5] = 9
    tiffpy.write(f"value/{n}.tif", [dict(a=l)])
    tiffpy.write(f"turned/{n}.tif", [dict(a=l, tags={274: (3, [3])})])
    l[:] = 0; l[0, :3] = [0, 1, 255]
    tiffpy.write(f"both/{n}.tif", [dict(a=l)])
tiffpy.write("big.tif", [dict(a=np.zeros((100, 100), np.uint8))])
tiffpy.write("f64.tif", [dict(a=np.full((4, 4), 1e300))])
tiffpy.write("warn.tif", [dict(a=np.zeros((9, 9, 4), np.uint8), photo=2, extra=None)])
open("cut.tif", "wb").write(open("img/b.tif", "rb").read()[:-200])
tiffpy.write("strip.tif", [dict(a=rng.integers(0, 256, (40, 40)).astype(np.uint8), compression=8)])
t = bytearray(open("strip.tif", "rb").read()); t[8 + 900] ^= 0x55; open("strip.tif", "wb").write(t)
open("empty.tif", "w"); open("text.tif", "w").write("hello, world\n"); open("lfs.tif", "w").write("version https://...\n")
P
[ -e lfs.tif ] || no "the files" "the script above stopped"

l() { timeout 60 seg-load "$@" >x.seg; }
says "unpaired image" 1 'img/b.tif: no partner in unpaired' l --images img --labels unpaired
says "unpaired truth" 1 "lab/b.TIFF: no image in unpaired has the stem 'b'" l --images unpaired --labels lab
says "size" 1 'size/.*: page 1: .* pixels, but the image img/.* has' l --images img --labels size
says "unknown value" 1 'value/a.x.tif: page 1: at y 3 x 5: value 9 is not a class from 0 to 3; --map' l --images img --labels value --classes 4
says "gap in the numbers" 1 'up to 9 but 4 does not occur; --classes' l --images img --labels value
says "orientation of one only" 1 'Orientation 3, but 1 in the image' l --images img --labels turned --classes 10
says "masks with 1 and 255" 1 'has both 1 and 255' l --images img --masks both
says "one kind of image" 1 'odd/b.tif: page 1: 3 channels of \|u1, but odd/a.x.tif has 1' l --images odd
says "wrong number of masks" 1 'pages/.*: 4 pages of 1 samples; 3 classes' l --images img --masks pages --classes a,b,c
says "labels are no colours" 1 'a colour picture of 3 samples' l --images img --labels img
says "no TIFF in a directory" 1 'empty: no TIFF file' l --images empty
says "no directory" 1 'none: No such file' l --images none
says "too many pixels" 1 '100x100 pixels are more than the limit of 9999' l --max-pixels 9999 big.tif
says "too large for float32" 1 'at y 0 x 0: 1e\+300 is too large' l f64.tif
says "damaged strip" 1 'strip.tif: page 1, strip [0-9]*: ZIPDecode' l strip.tif
says "truncated" 1 '^seg-load: cut.tif: ' l cut.tif
says "a warning is an error" 1 'warn.tif: .*; a warning of libtiff, which --tolerant accepts' l warn.tif
status "--tolerant" 0 l --tolerant warn.tif
says "empty file" 1 'empty.tif: the file is empty' l empty.tif
says "no TIFF" 1 'text.tif: Not a TIFF' l text.tif
says "git-lfs pointer" 1 'git lfs pull' l lfs.tif
says "directory as file" 1 'img: a directory; --images img' l img
mkfifo fifo; says "a FIFO does not hang" 1 'not a regular file' l fifo
says "usage: map" 2 "'0=x' is not VALUE=CLASS" l --images img --labels lab --map 0=x
says "usage: ignore is a class" 2 'is the number of a class' l --images img --labels lab --ignore 2 --classes 4
says "usage: no images" 2 'no images' l
says "closed output" 1 'write: No space|No space' sh -c 'seg-load --images img >/dev/full'
l --images img --labels unpaired --keep-going 2>err; is "--keep-going" "$? $(wc -l <err) $(zcat x.seg | tar t | grep -c label)" "4 1 2"
cp -r img some; cp text.tif some/z.tif; cp cut.tif some/0.tif
l --images some --keep-going 2>err; is "--keep-going, unreadable" "$? $(wc -l <err) $(zcat x.seg | tar t | grep -c image)" "4 2 3"
match "--verbose" "$(l --images img --labels lab --verbose 2>&1)" 'notes.txt is not a TIFF file'

# tiles of one picture
mkdir tiles; for i in 0 1 2 3; do cp img/$(ls img | grep tif | head -n 1) tiles/t$i.tif; done
printf '# tile\tpicture\nt0\tA\tx\nt1.tif\tA\nt2\tB\r\nt3\tA\nelsewhere\tC\n' >table
l --images tiles --sources table
is "--sources" "$(zcat x.seg | tar xO --wildcards '*.json' 2>/dev/null | grep -o '"source":"[^"]*"' | tr -d '\n')" \
	'"source":"A""source":"A""source":"B""source":"A"'
printf 't0 A\n' >table; says "--sources: no tab" 1 'table: line 1: no tab' l --images tiles --sources table
printf 't0\tA\n' >table; says "--sources: an image is missing" 1 'table: no line for the image t1.tif' l --images tiles --sources table
printf 't0\tA\nt0.tif\tB\n' >table; says "--sources: two of one" 1 't0 has two sources: ' l --images tiles --sources table
says "--sources: no such file" 1 'none: No such file' l --images tiles --sources none

if data sem/masks5-sample; then
	S=$SEG_DATA/sem/masks5-sample
	l --images $S/images --masks $S/masks5; mv x.seg m.seg
	l --images $S/images --masks $S/masks5-1bit; is "8 and 1 bit masks are one stream" "$(cmp x.seg m.seg 2>&1)" ""
	l --images $S/images --labels $S/labels --classes 5; mv x.seg l.seg
	why=$($PYTHON -c 'import segpy, numpy as np
a, b = segpy.read("l.seg")[1], segpy.read("m.seg")[1]
for (k, x), (n, y) in zip(a, b):
    assert k == n and np.array_equal(x["image.npy"], y["image.npy"]), k
    assert np.array_equal((x["label.npy"][:, :, None] == np.arange(5)).astype("u1"), y["mask.npy"]), k
assert len(a) == len(b) == 12' 2>&1); is "labels and masks say the same" "$why" ""
fi
if data wild; then
	why=$($PYTHON "$SEG_TESTS/wild.py" "$SEG_DATA/wild" 2>&1); is "files from everywhere" "$why" ""
fi
finish
