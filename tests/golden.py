"""Every case of golden/ through the programs; prints ok / not ok lines.

Tolerances are those of the oracle's notes: prediction 1e-6, loss 1e-6 relative to max(1,|loss|),
gradient 1e-5 relative L2 per tensor, weights after five Adam steps 1e-5."""
import glob, json, os, subprocess, sys

import numpy as np

import segpy

G = sys.argv[1]
BAD = 0
CLASSES = list("abcde")
WEIGHTS = np.load(f"{G}/weights.npy")
SAMPLE = np.load(f"{G}/sample_index.npy")
LAYOUT = []
for line in open(f"{G}/layout.txt"):
    if not line.startswith("#") and line.strip():
        w = line.split()
        LAYOUT.append((w[1], int(w[2]), int(w[3]), [int(d) for d in w[5:]]))

BCE = "@keras2.binary_crossentropy"
LOSS = {
    "loss_and_grad_bce": BCE,
    "loss_and_grad_bce_dice_kaggle": "@kaggle.bce_dice",
    "loss_and_grad_bce_plus_1_minus_dice": "@kaggle.bce_plus_dice",
    "loss_and_grad_seed_weighted_dict_keys": "@post.weighted_loss(weights=[0,1,2,3,4])",
    "loss_and_grad_seed_weighted_values": "@post.weighted_loss(weights=[1,1,1,1,1000])",
    "loss_and_grad_cce_softmax": "@keras2.categorical_crossentropy",
}


def check(name, got, want, tol):
    global BAD
    if got <= tol if want is None else abs(got - want) <= tol * max(1, abs(want)):
        print(f"ok {name}")
    else:
        BAD = 1
        print(f"not ok {name}\n#   got {got!r}, want {want!r}, tolerance {tol}")


def run(*args, stdin=None):
    p = subprocess.run(args, stdin=open(stdin) if stdin else subprocess.DEVNULL, capture_output=True)
    if p.returncode:
        print(f"not ok {' '.join(args)}\n#   status {p.returncode}: {p.stderr.decode()[-500:]}")
        sys.exit(1)
    return p.stdout


def samples(x, y, softmax=False):
    rec = []
    for i in range(len(x)):
        e = {"image.npy": x[i].astype("<f4")}
        if softmax:
            e["label.npy"] = y[i].argmax(-1).astype("u1")
        else:
            e["mask.npy"] = y[i].astype("u1")
        rec.append((f"s{i:02d}", e))
    return rec


def data(path, case, softmax=False):
    m = json.load(open(f"{G}/{case}/manifest.json"))
    x, y = (np.load(f"{G}/{case}/{m['files'][f]['file']}") for f in ("x", "y"))
    segpy.write(path, segpy.header(CLASSES, "multiclass" if softmax else "multilabel"), samples(x, y, softmax))
    return m


def model(path, stream, softmax=False):
    """The golden weights in a model file: header from our own trainer, tensors from the oracle."""
    run("seg-train", "-i", stream, "-o", "init.seg", "--max-steps", "1", "--range", "255")
    head, records = segpy.read("init.seg")
    assert [k for k, _ in records] == [n for n, *_ in LAYOUT], "layout"
    assert [list(e["npy"].shape) for _, e in records] == [d for *_, d in LAYOUT], "shapes"
    head.pop("framing", None)
    segpy.write(path, head, [(n, {"npy": WEIGHTS[o:o + c].reshape(d)}) for n, o, c, d in LAYOUT])


def flat(path):
    _, records = segpy.read(path)
    return np.concatenate([e["npy"].ravel() for _, e in records])


def log(path, event):
    return [j for j in map(json.loads, open(path)) if j.get("event") == event]


def train(stream, *args):
    run("seg-train", "-i", stream, "--from", "golden.seg", "-o", "out.seg", "--no-shuffle", "--log", "log.jsonl", *args)
    return flat("out.seg")


def per_tensor(name, got, want, index=None):
    worst, where = 0, ""
    for n, o, c, _ in LAYOUT:
        i = slice(o, o + c) if index is None else (index >= o) & (index < o + c)
        a, b = got[i].astype(float), want[i].astype(float)
        e = np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-12)
        if e > worst:
            worst, where = e, n
    check(f"{name} (worst {worst:.1e} in {where})", worst, None, 1e-5)


def net_case(case):
    softmax = "softmax" in case
    m = data("in.seg", case, softmax)
    model("golden.seg", "in.seg", softmax)
    open("p.seg", "wb").write(run("seg-predict", "-m", "golden.seg", stdin="in.seg"))
    _, records = segpy.read("p.seg")
    pred = np.stack([e["pred.npy"] for _, e in records])
    f = m["files"]["pred"]["file"] if "pred" in m["files"] else None
    if f and os.path.exists(f"{G}/{case}/{f}"):
        check(f"{case[:2]} prediction", float(np.abs(pred - np.load(f"{G}/{case}/{f}")).max()), None, 1e-6)
    loss = LOSS[case.split("_", 3)[3]]
    got = json.loads(run("seg-loss", "-l", loss, "--json", stdin="p.seg"))["loss"]
    check(f"{case[:2]} loss {got:.9f}", got, m["scalars"]["loss"], 1e-6)
    # Keras clips the probability: the gradient is that of the recipe, as training takes it
    lr = 2.0 ** 19
    after = train("in.seg", "-l", loss, "--optimizer", "sgd", "--lr", str(int(lr)), "--batch", str(len(pred)), "--max-steps", "1")
    grad = (WEIGHTS.astype(float) - after) / lr
    if os.path.exists(f"{G}/{case}/grad.npy"):
        per_tensor(f"{case[:2]} gradient, all of it", grad, np.load(f"{G}/{case}/grad.npy"))
    per_tensor(f"{case[:2]} gradient", grad[SAMPLE], np.load(f"{G}/{case}/grad_sampled.npy"), SAMPLE)


def adam_case(case, optimizer):
    m = data("in.seg", case)
    model("golden.seg", "in.seg")
    for step in range(1, 6):
        w = train("in.seg", "-l", "@kaggle.bce_plus_dice", "--optimizer", optimizer,
                  *(["--epsilon", "1e-7"] if optimizer == "adam-torch" else []),
                  "--batch", "4", "--max-steps", str(step))
        want = np.load(f"{G}/{case}/weights_after_step{step}_sampled.npy")
        check(f"{case[:2]} weights after step {step}", float(np.abs(w[SAMPLE] - want).max()), None, 1e-5)
    for i, j in enumerate(log("log.jsonl", "step")):
        check(f"{case[:2]} loss at step {i + 1}", j["loss"], m["scalars"]["loss_at_step"][i], 1e-6)


def fit_case(case):
    m = data("in.seg", case)
    s = m["scalars"]
    model("golden.seg", "in.seg")
    w = train("in.seg", "-l", BCE, "--optimizer", "sgd", "--lr", "0.05", "--batch", "4", "--epochs", "2", "--val", "in.seg")
    for i, j in enumerate(log("log.jsonl", "epoch")):
        check(f"5a epoch {i + 1} running mean", j["train"]["loss_running"], s["history_loss"][i], 1e-6)
        check(f"5a epoch {i + 1} validation", j["val"]["loss_running"], s["history_val_loss"][i], 1e-6)
    for i, j in enumerate(log("log.jsonl", "step")):
        check(f"5a loss of batch {i + 1}", j["loss"], s["batch_losses_replayed"][i], 1e-6)
    want = np.load(f"{G}/{case}/weights_after_fit_sampled.npy")
    check("5a weights after fit", float(np.abs(w[SAMPLE] - want).max()), None, 1e-5)


for case in sorted(os.path.basename(c) for c in glob.glob(f"{G}/[0-9]*")):
    if case[0] in "12":
        net_case(case)
    elif case[:2] in ("4a", "4b"):
        adam_case(case, "adam-torch" if case[1] == "a" else "adam")
    elif case[:2] == "5a":
        fit_case(case)
sys.exit(BAD)
