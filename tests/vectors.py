"""Test cases out of other projects' own test suites, through the programs' recipes.
usage: vectors.py vectors.json.  Prints ok and not ok lines.

A case is an array of truth, an array of predictions, options and the expected number or array.  Here
stands only how each project lays out its arrays and what its options are called; every formula is in
the recipes."""
import json, subprocess, sys

import numpy as np
import segpy


NAMES = {"MCCLoss": "mcc_loss", "DiceCELoss": "dice_ce_loss", "SoftBCEWithLogitsLoss": "soft_bce_with_logits_loss"}


def snake(name):
    return NAMES[name] if name in NAMES else "".join("_" + c.lower() if c.isupper() and (i and not name[i - 1].isupper()) else c.lower() for i, c in enumerate(name))


def args_text(args):
    def one(v):
        return str(int(v)) if isinstance(v, bool) else "[" + ",".join(map(str, v)) + "]" if isinstance(v, list) else repr(v)
    return "(" + ", ".join(f"{k}={one(v)}" for k, v in args.items()) + ")" if args else ""


AXES = {0: "n", 1: "y", 2: "x", 3: "k"}


def last(a):
    """Channels last, up to four axes: [N,..,K] -> [N,H,W,K]."""
    a = np.asarray(a, dtype="f8")
    if a.ndim == 1:
        a = a[:, None]
    while a.ndim < 4:
        a = a[:, None]
    return a


def first(a):
    """Channels first: [N,C,..] -> [N,H,W,K]."""
    a = np.asarray(a, dtype="f8")
    while a.ndim < 4:
        a = a[:, :, None] if a.ndim > 1 else a[:, None]
    return a.transpose(0, 2, 3, 1)


def stream(t, p, head="none", ignore=None, weights=None, what="logit.npy", labels=False):
    """t [N,H,W,K], or class numbers [N,H,W,1] with labels; p [N,H,W,K]."""
    more = {} if ignore is None else {"ignore": ignore}
    records = []
    for i in range(len(p)):
        e = {"image.npy": np.zeros(p.shape[1:3] + (1,), "u1"), what: p[i].astype("f4")}
        if labels:
            e["label.npy"] = t[i, :, :, 0].astype("u1")
        elif ((t == 0) | (t == 1) | (t == ignore)).all():
            e["mask.npy"] = t[i].astype("u1")
        else:
            e["mask.npy"] = t[i].astype("f4")
        if weights is not None:
            e["json"] = {"sample_weight": float(weights[i])}
        records.append((f"s{i}", e))
    segpy.write("v.seg", segpy.header([f"c{k}" for k in range(p.shape[3])], "multiclass" if labels else "multilabel", head=head, **more), records)


def field(text):
    p = subprocess.run(["seg-loss", "--field", "-l", text, "v.seg"], capture_output=True, text=True, timeout=60)
    if p.returncode:
        raise RuntimeError(f"{text}: {p.stderr.strip()}")
    return np.array(json.loads(p.stdout)["values"]), text


def ignored(t, value):
    """Class numbers with `value` as 255."""
    t = np.array(t, dtype="f8")
    if value is not None:
        t[t == value] = 255
    return t


def keras(name, c):
    a = dict(c["args"])
    reduction = {"none": 3, "sum": 2, "sum_over_batch_size": 0}[a.pop("reduction", "sum_over_batch_size") or "none"]
    w, n = c["sample_weight"], len(c["y_true"])
    weights = None if w is None else np.broadcast_to(np.ravel(w) if np.ndim(w) else w, n)
    axis, mask = a.pop("axis", None), a.pop("mask", None)
    p, ignore = last(c["y_pred"]), None
    if name == "SparseCategoricalCrossentropy":
        t, ignore = ignored(c["y_true"], a.pop("ignore_class", None)), 255
        t = t.reshape(p.shape[:3] + (1,))
        labels = True
    else:
        t, labels = last(c["y_true"]), False
        if mask is not None:
            t, ignore = np.where(np.reshape(mask, t.shape) == 0, 255, t), 255
    stream(t, p, "none", ignore, weights, labels=labels)
    if reduction:
        a["reduction"] = reduction
    axes = "[" + ",".join(AXES[i] for i in axis) + "]" if axis else ""
    return field(f"@keras3.{name if name.islower() else snake(name)}{axes}{args_text(a)}")


def smp(name, c):
    a = dict(c["args"])
    if name.startswith("soft_"):
        t, p = (np.atleast_2d(np.asarray(c[k], "f8"))[:, :, None, None] for k in ("y_true", "y_pred"))
        stream(t, p)
        dims, then = a.pop("dims", None), a.pop("then", None)
        text = f"@smp.{name}{'[y,x,k]' if dims == [1] else ''}{args_text(a)}"
        return field(f"{then}[n]({text})" if then else text)
    if name == "SoftCrossEntropyLoss":
        p = last(c["y_pred"])
        t = ignored(c["y_true"], a.pop("ignore_index")).reshape(p.shape[:3] + (1,))
        stream(t, p, "softmax", 255, labels=True)
    elif name == "SoftBCEWithLogitsLoss":
        stream(last(ignored(c["y_true"], a.pop("ignore_index"))), last(c["y_pred"]), "sigmoid", 255)
    else:
        mode = a.pop("mode", "binary")
        p, t = first(c["y_pred"]), np.asarray(c["y_true"], "f8")
        a.pop("from_logits", None)
        if name == "MCCLoss":
            t, p = (np.asarray(c[k], "f8")[..., None] for k in ("y_true", "y_pred"))
        elif mode == "multiclass":
            t = t.reshape(p.shape[:3] + (1,))
        else:
            t = first(t)
        stream(t, p, labels=mode == "multiclass")
    return field(f"@smp.{snake(name)}{args_text(a)}")


def monai(name, c):
    a = dict(c["args"])
    head = "softmax" if a.pop("softmax", False) else "sigmoid" if a.pop("sigmoid", False) else "none"
    p, labels = first(c["y_pred"]), a.pop("to_onehot_y", False)
    act, reduction = a.pop("other_act", None), a.pop("reduction", "mean")
    if act:
        a["other_act"] = {"tanh": 1, "log_softmax": 2}[act]
    if reduction != "mean":
        a["reduction"] = {"sum": 1, "none": 2}[reduction]
    stream(first(c["y_true"]), p, head, labels=labels)
    return field(f"@monai.{snake(name)}{args_text(a)}")


def run(c):
    project, _, name = c["fn"].partition(".")
    name = name.rpartition(".")[2]
    if c["fn"].startswith("keras.Loss("):
        return keras("mean_squared_error", c)
    if project == "keras" and ".losses." in c["fn"]:
        return keras(name, c)
    if project == "smp":
        return smp(name, c)
    if project == "monai" and ".losses." in c["fn"]:
        return monai(name, c)
    return metric(project, name, c)


def flat(t, p, weights=None, ignore=255, labels=True):
    """One sample of as many pixels: t and p [pixels,K], or t class numbers [pixels]."""
    t, p = np.asarray(t, "f8").reshape(1, len(p), -1), np.asarray(p, "f8").reshape(1, len(p), -1)
    stream(t[None], p[None], "none", ignore, labels=labels)
    if weights is not None:
        head, records = segpy.read("v.seg")
        records[0][1]["weight.npy"] = np.asarray(weights, "f4").reshape(1, -1)
        segpy.write("v.seg", head, records)


def numbers(c, nclass):
    """Class numbers of truth and prediction as labels and one-hot; what is no class is ignored."""
    t, p = (np.ravel(np.asarray(c[k], "f8")) for k in ("y_true", "y_pred"))
    if not len(t):
        t, p = np.array([-1.0]), np.array([-1.0])
    lost = (t < 0) | (t >= nclass) | (p < 0) | (p >= nclass) | (t == c["args"].get("ignore_class", -9))
    flat(np.where(lost, 255, t), np.eye(nclass)[np.where(lost, 0, p).astype(int)],
         None if c["sample_weight"] is None else np.ravel(c["sample_weight"]))


def metric(project, name, c):
    a, w = c["args"], c["sample_weight"]
    if project == "monai":
        t, p = (np.asarray(c[k], "f8").transpose(0, 2, 3, 1) for k in ("y_true", "y_pred"))
        stream(t, p, "sigmoid", what="pred.npy")
        o = {k: a[k] for k in ("include_background", "ignore_empty") if k in a}
        o["reduction"] = {"mean": 0, "mean_batch": 1, "sum_batch": 2, "none": 3}[a.get("reduction", "none")]
        recipe = "mean_iou" if "io" in name.lower() else "dice_metric"
        got, text = field(f"@monai.{recipe}{args_text(o)}")
        return got[:, 1:] if got.ndim == 2 and not a.get("include_background", True) else got, text
    if name == "binary_jaccard_index" or name == "BinaryIoU":
        flat(np.reshape(c["y_true"], (-1, 1)), np.reshape(c["y_pred"], (-1, 1)), w, labels=False)
        return field(f"@keras3.binary_iou(threshold={a['threshold']})" if name == "BinaryIoU" else f"@torchmetrics.{name}(threshold={a['threshold']})")
    if name == "multilabel_jaccard_index":
        flat(c["y_true"], c["y_pred"], labels=False)
        return field(f"@torchmetrics.{name}(threshold={a['threshold']})")
    if name.startswith("OneHot"):
        flat(np.argmax(c["y_true"], -1), c["y_pred"], w)
    else:
        numbers(c, a["num_classes"])
    if project == "torchmetrics":
        return field(f"@torchmetrics.{name}")
    ids = a.get("target_class_ids")
    return field("@keras3.mean_iou" if ids is None else f"@keras3.iou(target={[int(k in ids) for k in range(a['num_classes'])]})")


for c in json.load(open(sys.argv[1])):
    try:
        got, text = run(c)
    except (RuntimeError, NotImplementedError, KeyError, ValueError) as e:
        print(f"not ok {c['id']} {c['fn']}\n#   {type(e).__name__}: {e}")
        continue
    want = np.array(c["expected"], dtype="f8")
    off = np.abs(np.ravel(got.astype("f8")) - np.ravel(want)) if got.size == want.size else np.array([np.inf])
    fits = (off <= c["tol"] + c.get("rtol", 0) * np.abs(np.ravel(want))).all()
    print(f"{'ok' if fits else 'not ok'} {c['id']} {text}")
    if not fits:
        print(f"#   got {np.ravel(got)}, want {np.ravel(want)}, tolerance {c['tol']}; {c['source']}")
