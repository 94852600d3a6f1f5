"""Every program on broken input: cut and flipped streams and models, wrong numbers, full disks.
Expects in.seg, pred.seg and model.seg.  Prints ok and not ok lines."""
import concurrent.futures, os, pty, re, shlex, subprocess, tempfile, zlib

import numpy as np
import segpy

SLOW = "asan" in os.environ.get("B", "")
POOL = concurrent.futures.ThreadPoolExecutor(2)
DATA, PRED, MODEL = (open(f, "rb").read() for f in ("in.seg", "pred.seg", "model.seg"))
END = b"__seg__/end.json"
TRAIN = "seg-train -o out/m.seg --channels 2,3 --epochs 1 --batch 2"

# program on a stream, and what it reads
FILTERS = {
    "seg-info --hash": ("seg-info --hash", DATA), "seg-info": ("seg-info", PRED),
    "seg-augment": ("seg-augment flip rot90", DATA), "seg-split": ("seg-split --hold-out 0.5 out/v.seg", DATA),
    "seg-train": (TRAIN, DATA), "seg-predict": ("seg-predict -m model.seg", DATA),
    "seg-loss": ("seg-loss --ledger --explain -l @keras3.binary_crossentropy", PRED), "seg-iou": ("seg-iou", PRED),
    "seg-save": ("seg-save -o out", PRED),
}
MODELS = {"seg-predict": "seg-predict -m broken.seg", "seg-train": TRAIN + " --from broken.seg",
          "seg-info": "seg-info broken.seg"}


def result(name, bad):
    print("not ok" if bad else "ok", name)
    for b in bad[:5]:
        print("#  ", b)


def run(cmd, stdin=b"", files={}):
    """Status, stdout, lines of stderr, files left in out/."""
    with tempfile.TemporaryDirectory(dir=".") as d:
        os.mkdir(d + "/out")
        for f in ("model.seg", "in.seg", "pred.seg"):
            os.symlink("../" + f, f"{d}/{f}")
        for f, data in files.items():
            open(f"{d}/{f}", "wb").write(data)
        shell = bool(re.search("[|<>&] *[^ ]*$", cmd))
        p = subprocess.run(cmd if shell else shlex.split(cmd), shell=shell, cwd=d, input=stdin, capture_output=True, timeout=60)
        return p.returncode, p.stdout, p.stderr.decode(errors="replace").splitlines(), sorted(os.listdir(d + "/out"))


def complaint(cmd, got, status, pattern=""):
    """None, or what is wrong with how the program failed."""
    rc, out, err, left = got
    prog = cmd.split()[0]
    last = err[-1] if err else ""
    if rc != status:
        return f"status {rc}, want {status}: {last}"
    if not last.startswith(prog + ": ") or (len(err) != 1 and prog != "seg-train"):
        return f"not one line of {prog}: {err}"
    if not re.search(pattern, last):
        return f"'{last}' does not match '{pattern}'"
    if END in out or (prog in ("seg-train", "seg-split") and left):
        return f"left behind: {left}"


def plain(data):
    """The tar inside, which shows whether END was written."""
    out = b""
    while data:
        z = zlib.decompressobj(31)
        try:
            out += z.decompress(data)
        except zlib.error:
            break
        data = z.unused_data
    return out


def spread(n, count):
    return sorted({round(i * (n - 1) / (count - 1)) for i in range(count)}) if n > count else range(n)


def damage(name, cmd, data, count, as_file):
    """Cut at many bytes and flip bits at many: refused with 3, or the same result as undamaged."""
    give = lambda d: run(cmd, DATA if as_file else d, {"broken.seg": d} if as_file else {})
    whole = give(data)
    if whole[0]:
        return result(f"{name}: runs undamaged", [str(whole[2])])
    count = count // 8 if SLOW else count

    def one(job):
        kind, at = job
        bad = data[:at] if kind == "cut" else data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1:]
        got = give(bad)
        if kind == "flip" and got[0] == 0 and got[:2] == whole[:2]:
            return "same", None
        why = complaint(cmd, (got[0], plain(got[1]), got[2], got[3]), 3)
        return "refused", why and f"{kind} at byte {at} of {len(data)}: {why}"

    jobs = [(k, at) for k in ("cut", "flip") for at in spread(len(data), count)]
    what = list(POOL.map(one, jobs))
    same = sum(w[0] == "same" for w in what)
    result(f"{name}: {len(jobs)} cuts and flips, {len(jobs) - same} refused, {same} with the same result",
           [w[1] for w in what if w[1]])


# Every byte for one program; for the others, which share the reader, as many as shows who forgets to look.
for name, (cmd, data) in FILTERS.items():
    damage(name, cmd, data, len(data) if name == "seg-info --hash" else 40, False)
for name, cmd in MODELS.items():
    damage(name + " of a model", cmd, MODEL, 40, True)


# ---- one broken thing each: what, command, stdin, status, words

head, records = segpy.read("in.seg")
classes = head["classes"]


def stream(records, names=classes, task="multiclass", **more):
    segpy.write("x.seg", segpy.header(names, task, **more), records)
    return open("x.seg", "rb").read()


image = np.zeros((16, 16, 3), "u1")
label = np.zeros((16, 16), "u1")
soft = np.zeros((16, 16, 5), "f4")
hole = soft.copy(); hole[3, 4, 2] = np.nan
far = label.copy(); far[5, 6] = 9
p = np.full((16, 16, 5), 0.2, "f4")
nan_p = p.copy(); nan_p[1, 2, 3] = np.nan
float_image = np.zeros((16, 16, 3), "f4"); float_image[7, 8, 1] = np.inf
S = lambda **e: [("a", {k.replace("_", "."): v for k, v in e.items()})]
T = lambda **e: stream(S(**{k + "_npy": v for k, v in e.items()}))
four = stream(S(image_npy=image, label_npy=label), classes[:4])
nan_mask = stream(S(image_npy=image, mask_npy=hole), task="multilabel")
nan_mask_pred = stream(S(image_npy=image, mask_npy=hole, pred_npy=p), task="multilabel", head="sigmoid")
odd = T(image=image[:12], label=label[:12])
bad_pred = stream(S(image_npy=image, label_npy=label, pred_npy=nan_p), head="softmax")
far_pred = stream(S(image_npy=image, label_npy=far, pred_npy=p), head="softmax")
L = "seg-loss -l "

CASES = [
    ("empty stdin", cmd, b"", 3, "empty") for cmd, _ in FILTERS.values()] + [
    ("no stream at all", cmd, b"hello, world\n" * 9, 3, "gzip") for cmd, _ in FILTERS.values()] + [
    ("validation of another class count", TRAIN + " --val val.seg", DATA, 1, "val.seg: 4 classes, but .* 5"),
    ("a model of another class count", TRAIN.replace("--channels 2,3 ", "") + " --from model.seg", four, 1, "4 classes, but model.seg has 5"),
    ("classes differ in a concatenation", "seg-info", DATA + four, 1, "4 classes follow 5"),
    ("NaN in a mask", TRAIN, nan_mask, 1, "a: mask.npy is NaN at y 3 x 4, class (2|water)"),
    ("NaN in a mask", "seg-loss", nan_mask_pred, 1, "mask.npy is NaN at y 3 x 4"),
    ("NaN in a mask", "seg-iou", nan_mask_pred, 1, "mask.npy is NaN at y 3 x 4"),
    ("NaN in a prediction", "seg-loss", bad_pred, 1, "pred.npy is NaN at y 1 x 2"),
    ("NaN in a prediction", "seg-iou", bad_pred, 1, "pred.npy is NaN at y 1 x 2"),
    ("infinite image", TRAIN, T(image=float_image, label=label), 1, "sample a: image is infinite at y 7 x 8"),
    ("another type of image", "seg-predict -m model.seg", T(image=float_image, label=label), 1, "sample a: image is <f4, .* u1"),
    ("label out of range", TRAIN, T(image=image, label=far), 1, "label.npy is 9 at y 5 x 6"),
    ("label out of range", "seg-loss", far_pred, 1, "label.npy is 9 at y 5 x 6"),
    ("size no multiple", "seg-train -o out/m.seg", odd, 1, "12x16|16x12.* 16"),
    ("size no multiple", "seg-train -o out/m.seg --channels 2,3,4,5", odd, 1, "multiple"),
    ("truth of another size", TRAIN, T(image=image, label=label[:8]), 1, "8x16|16x8"),
    ("no truth", TRAIN, T(image=image), 1, "no truth"),
    ("no predictions", "seg-loss", DATA, 1, "predict"),
    ("no predictions", "seg-iou", DATA, 1, "predict"),
    ("not a scalar", L + "bce", PRED, 2, "column 1.*axes \\[n,y,x,k\\].*mean\\[n,y,x,k\\]"),
    ("does not parse", L + "mean[n,y,x,k](bce", PRED, 2, "column 18.*expected"),
    ("no such name", L + "mean[n,y,x,k](bec)", PRED, 2, "column 15.*bec.*bce"),
    ("no such recipe", L + "@keras.bce", PRED, 2, "keras"),
    ("too few weights", L + "mean[n,y,x,k]([1,2,3]*bce)", PRED, 2, "column 15.*3.*5"),
    ("a weight of no class", L + "mean[n,y,x,k]([nocrack=3]*bce)", PRED, 2, "column 1[56].*nocrack"),
    ("weights as a dict", L + "'@post.weighted_loss(weights={0:1, 1: 1,2:1,3:1,4:1000})'", PRED, 2, "column 29.*\\[1,1,1,1,1000\\]"),
    ("weights as a dict", L + "'mean[n,y,x,k]({crack:2}*bce)'", PRED, 2, "column 15.*crack=1000"),
    ("axes in the wrong order", L + "mean[y,x](mean[n](mean[k](bce)))", PRED, 2, "column"),
    ("loss in training", TRAIN + " -l bce", DATA, 2, "column 1"),
    ("unknown option", "seg-info --hsah", b"", 2, "no such option: --hsah; try 'seg-info --help'"),
    ("unknown option", TRAIN + " -z", b"", 2, "no such option: -z"),
    ("option without argument", "seg-train -o", b"", 2, "needs an argument"),
    ("not a number", TRAIN + " --lr fast", b"", 2, "--lr: 'fast'"),
    ("not whole", TRAIN + " --batch 1.5", b"", 2, "--batch: '1.5'"),
    ("zero batch", TRAIN + " --batch 0", b"", 2, "--batch: '0'"),
    ("nan", TRAIN + " --lr nan", b"", 2, "--lr: 'nan'"),
    ("negative", TRAIN + " --lr -1", b"", 2, "--lr: '-1'"),
    ("no output", "seg-train", DATA, 2, "-o"),
    ("no such file", "seg-train -i none.seg -o out/m.seg", b"", 1, "none.seg: No such file"),
    ("no such model", "seg-predict -m none.seg", DATA, 1, "none.seg: No such file"),
    ("a stream as model", "seg-predict -m in.seg", DATA, 1, "in.seg.*model"),
    ("a model as stream", "seg-loss model.seg", b"", 1, "model"),
    ("a directory as stream", "seg-train -i . -o out/m.seg", b"", 1, "[Dd]irectory"),
    ("no directory to write in", TRAIN.replace("out/m", "none/m"), DATA, 1, "none/m.seg: .*No such file"),
    ("no directory to write in", "seg-split --hold-out 0.5 none/v.seg", DATA, 1, "none/v.seg.*No such file"),
    ("no directory to write in", "seg-save -o none/deep/out", PRED, 1, "none/deep/out.*No such file"),
    ("a log that cannot be written", TRAIN + " --log none/x", DATA, 1, "none/x: No such file"),
    ("a full disk", TRAIN + " --log /dev/full", DATA, 1, "/dev/full: .*No space left"),
    ("a full disk", "seg-train -o /dev/full --channels 2,3 --epochs 1", DATA, 1, "/dev/full: .*No space left"),
    ("a full disk", "seg-loss --report /dev/full -l @keras3.binary_crossentropy", PRED, 1, "/dev/full: .*No space left"),
    ("a full disk", "seg-split --hold-out 0.5 /dev/full", DATA, 1, "/dev/full: .*No space left"),
] + [("a full disk", cmd + " >/dev/full", data, 1, "No space left") for n, (cmd, data) in FILTERS.items() if n not in ("seg-train", "seg-save")] + [
    ("a full disk", "seg-synth -n 1 --size 16 >/dev/full", b"", 1, "No space left"),
] + [("closed stdout", cmd + " >&-", data, 1, "Bad file descriptor") for n, (cmd, data) in FILTERS.items() if n not in ("seg-train", "seg-save")] + [
    ("closed stdin", cmd + " <&-", b"", 1, "Bad file descriptor") for cmd, _ in FILTERS.values()]


def case(c):
    what, cmd, data, status, pattern = c
    got = run(cmd, data, {"val.seg": four})
    return what, cmd, complaint(cmd, got, status, pattern)


by_what = {}
for what, cmd, why in POOL.map(case, CASES):
    by_what.setdefault(what, []).append(why and f"{cmd}: {why}")
for what, whys in by_what.items():
    result(f"{what} ({len(whys)})", [w for w in whys if w])

# ---- a reader that goes away; a terminal

bad = []
for name, cmd in (("seg-synth", "seg-synth -n 50"), ("seg-augment", "seg-augment -n 50 flip < in.seg"),
                  ("seg-predict", "seg-synth -n 20 | seg-predict -m model.seg")):
    p = subprocess.run(["bash", "-c", f"{cmd} | head -c 100 >/dev/null; echo ${{PIPESTATUS[*]}}"], capture_output=True, text=True)
    if p.stderr or "141" not in p.stdout:
        bad.append(f"{name}: {p.stdout}{p.stderr}")
result("SIGPIPE ends a filter quietly", bad)

bad = []
for cmd, data in (("seg-synth -n 1", "/dev/null"), ("seg-augment flip", "in.seg"), ("seg-predict -m model.seg", "in.seg"),
                  ("seg-split --hold-out 0.5 v.seg", "in.seg")):
    master, slave = pty.openpty()
    p = subprocess.run(cmd.split(), stdin=open(data), stdout=slave, stderr=subprocess.PIPE, text=True)
    os.close(slave), os.close(master)
    if p.returncode != 2 or "terminal" not in p.stderr:
        bad.append(f"{cmd}: status {p.returncode}: {p.stderr}")
result("binary is not written to a terminal", bad)
