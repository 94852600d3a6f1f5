"""Random cases in which each recipe must give the framework's own number and gradient.
usage: conformance.py [CASES]   (of each row; `make conformance` makes the environment)

The loss agrees to 1e-6 relative to max(1,|loss|), the gradient to 1e-5 relative to its length (or to
1e-6 of 1 where it is that short).  Prints a table and ends with `N passed, N failed`."""
import json, os, subprocess, sys, tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
import numpy as np
import segpy

CASES = int(sys.argv[1]) if len(sys.argv) > 1 else 24
ROWS = []


def row(name):
    """A generator of one case: it returns the recipe with its arguments, the case, and a function that
    gives the framework's loss (and gradient with respect to case.x, or None)."""
    def add(f):
        ROWS.append((name, f))
        return f
    return add


class Case:
    """truth t [N,H,W,K] (or class numbers c [N,H,W]), predictions x [N,H,W,K] of a head."""

    def __init__(self, rng, head, kind):
        self.rng, self.head, self.kind = rng, head, kind
        self.n, self.h, self.w, self.k = (int(rng.integers(*r)) for r in ((1, 4), (1, 6), (1, 6), (2, 6)))
        shape = (self.n, self.h, self.w)
        self.c = rng.integers(0, self.k, shape)
        if rng.random() < 0.3:  # an empty class
            self.c[self.c == self.k - 1] = 0
        self.t = np.eye(self.k)[self.c] if kind == "labels" else (rng.random(shape + (self.k,)) < 0.3).astype("f8")
        self.valid = np.ones(shape, bool)
        self.s, self.wt = None, None
        z = rng.normal(size=shape + (self.k,)) * rng.choice([0.5, 3, 12])
        self.x = z.astype("f4")

    def probabilities(self, saturated=False):
        e = np.exp(self.x.astype("f8") - self.x.max(-1, keepdims=True))
        p = e / e.sum(-1, keepdims=True) if self.kind == "labels" else 1 / (1 + np.exp(-self.x.astype("f8")))
        self.x = p.astype("f4")
        if saturated:
            self.x[self.rng.random(self.x.shape) < 0.1] = 0
            self.x[self.rng.random(self.x.shape) < 0.1] = 1
        self.x = np.clip(self.x, 0, 1)
        if self.kind == "labels":  # a sum to divide by
            self.x[self.x.sum(-1) == 0] = 1 / self.k
        return self

    def ignore(self, share=0.2):
        self.valid = self.rng.random(self.valid.shape) >= share
        self.valid.flat[0] = True
        self.t = self.t * self.valid[..., None]
        return self

    def write(self, path):
        records = []
        for i in range(self.n):
            e = {"image.npy": np.zeros((self.h, self.w, 1), "u1"), "logit.npy": self.x[i]}
            if self.kind == "labels":
                e["label.npy"] = np.where(self.valid[i], self.c[i], 255).astype("u1")
            else:
                e["mask.npy"] = np.where(self.valid[i][..., None], self.t[i], 255).astype("u1")
            if self.wt is not None:
                e["weight.npy"] = self.wt[i].astype("f4")
            if self.s is not None:
                e["json"] = {"sample_weight": float(self.s[i])}
            records.append((f"s{i}", e))
        segpy.write(path, segpy.header([f"c{k}" for k in range(self.k)], "multiclass" if self.kind == "labels" else "multilabel",
                                       head=self.head, ignore=255), records)


def ours(case, text):
    with tempfile.TemporaryDirectory() as d:
        case.write(d + "/c.seg")
        p = subprocess.run(["seg-loss", "--gradient", "--json", "--report", d + "/r.json", "-l", text, d + "/c.seg"],
                           stdout=open(d + "/g.seg", "wb"), stderr=subprocess.PIPE, text=True, timeout=60)
        if p.returncode:
            raise RuntimeError(p.stderr.strip())
        _, records = segpy.read(d + "/g.seg")
        return json.load(open(d + "/r.json"))["loss"], np.stack([e["grad.npy"] for _, e in records])


def args(**a):
    a = {k: v for k, v in a.items() if v is not None}
    one = lambda v: "[" + ",".join(map(repr, map(float, v))) + "]" if np.ndim(v) else repr(int(v) if isinstance(v, (bool, np.bool_)) else v)
    return "(" + ", ".join(f"{k}={one(v)}" for k, v in a.items()) + ")" if a else ""


VERSION = {}

# ---- Keras 3 on TensorFlow, and tf.keras (Keras 2)
try:
    import keras, tensorflow as tf
    from keras.src.backend.common.masking import set_keras_mask
    VERSION["keras3"] = f"keras {keras.__version__}, tensorflow {tf.__version__}"

    def with_tape(f, case):
        x = tf.Variable(case.x)
        with tf.GradientTape() as tape:
            y = f(x)
        g = tape.gradient(y, x)
        return float(y), np.zeros_like(case.x) if g is None else g.numpy()

    def keras3(name, make, kind, logits=(0, 1), saturated=True):
        @row(f"@keras3.{name}")
        def f(rng):
            from_logits = int(rng.choice(logits))
            case = Case(rng, "none", kind)
            if not saturated:
                case.x = np.clip(case.x, -8, 8)
            if not from_logits:
                case.probabilities(saturated)
            mode = int(rng.integers(4))
            if mode == 1:
                case.s = rng.choice([0, 0.5, 1, 3], case.n).astype("f4") + np.float32(0.25)
            if mode == 2:
                case.wt = rng.choice([0, 0.5, 2], (case.n, case.h, case.w)).astype("f4")
                case.wt.flat[0] = 1
            if mode == 3:
                case.ignore()
            reduction = int(rng.integers(3))
            o, extra, truth = make(rng, case, from_logits)
            loss = o(reduction=["sum_over_batch_size", "mean_with_sample_weight", "sum"][reduction])
            y = tf.constant(truth)

            def value(x):
                if mode == 3 and name != "sparse_categorical_crossentropy":
                    x = tf.identity(x)
                    set_keras_mask(x, tf.constant(case.valid))
                return loss(y, x, sample_weight=case.s[:, None, None] * np.ones((1, case.h, case.w), "f4") if case.s is not None else case.wt)
            return f"@keras3.{name}" + args(reduction=reduction, **extra), case, lambda: with_tape(value, case)

    L = keras.losses
    smooth = lambda rng: float(rng.choice([0, 0.1]))

    def k_bce(rng, case, fl):
        ls = smooth(rng)
        return (lambda **r: L.BinaryCrossentropy(from_logits=bool(fl), label_smoothing=ls, **r)), dict(from_logits=fl, label_smoothing=ls), case.t.astype("f4")

    def k_cce(rng, case, fl):
        ls = smooth(rng)
        return (lambda **r: L.CategoricalCrossentropy(from_logits=bool(fl), label_smoothing=ls, **r)), dict(from_logits=fl, label_smoothing=ls), case.t.astype("f4")

    def k_sparse(rng, case, fl):
        return (lambda **r: L.SparseCategoricalCrossentropy(from_logits=bool(fl), ignore_class=255, **r)), dict(from_logits=fl), np.where(case.valid, case.c, 255)

    def k_bfocal(rng, case, fl):
        o = dict(apply_class_balancing=bool(rng.integers(2)), alpha=float(rng.choice([.25, .7])), gamma=float(rng.choice([1., 2., 3.])), label_smoothing=smooth(rng))
        return (lambda **r: L.BinaryFocalCrossentropy(from_logits=bool(fl), **o, **r)), dict(from_logits=fl, **o), case.t.astype("f4")

    def k_cfocal(rng, case, fl):
        o = dict(alpha=float(rng.choice([.25, 1.])), gamma=float(rng.choice([1., 2., 3.])), label_smoothing=smooth(rng))
        return (lambda **r: L.CategoricalFocalCrossentropy(from_logits=bool(fl), **o, **r)), dict(from_logits=fl, **o), case.t.astype("f4")

    def k_mse(rng, case, fl):
        return (lambda **r: L.MeanSquaredError(**r)), {}, case.t.astype("f4")

    keras3("binary_crossentropy", k_bce, "masks")
    keras3("categorical_crossentropy", k_cce, "labels")
    keras3("sparse_categorical_crossentropy", k_sparse, "labels", saturated=False)
    keras3("binary_focal_crossentropy", k_bfocal, "masks", saturated=False)
    keras3("categorical_focal_crossentropy", k_cfocal, "labels", saturated=False)
    keras3("mean_squared_error", k_mse, "masks", logits=(0,))

    def scored(name, make):
        @row(f"@keras3.{name}")
        def f(rng):
            case = Case(rng, "none", "masks").probabilities()
            axis, text = [(None, ""), ((1, 2), "[y,x]"), ((1, 2, 3), "[y,x,k]")][rng.integers(3)]
            if axis and rng.random() < 0.5:
                case.s = rng.choice([0.5, 1, 3], case.n).astype("f4")
            o, extra = make(rng)
            loss = o(axis=axis)
            w = None if case.s is None else case.s[:, None] * np.ones((1, case.k), "f4") if axis == (1, 2) else case.s
            return f"@keras3.{name}{text}" + args(**extra), case, lambda: with_tape(lambda x: tf.reduce_sum(loss(case.t.astype("f4"), x, sample_weight=w)), case)

    scored("dice", lambda rng: ((lambda **a: L.Dice(**a)), {}))

    # From some version on alpha and beta are exchanged, against the documentation: which one is this?
    exchanged = float(L.Tversky(alpha=0.0, beta=1.0)(np.ones((1, 2), "f4"), np.array([[1, 0]], "f4"))) < 0.25

    def k_tversky(rng):
        o = dict(alpha=float(rng.choice([.2, .5])), beta=float(rng.choice([.8, .5])))
        return (lambda **a: L.Tversky(**(dict(alpha=o["beta"], beta=o["alpha"]) if exchanged else o), **a)), o
    scored("tversky", k_tversky)

    @row("@keras3.mean_iou")
    def f(rng):
        case = Case(rng, "none", "labels").ignore()
        m = keras.metrics.MeanIoU(case.k, ignore_class=255)
        m.update_state(np.where(case.valid, case.c, 255), case.x.argmax(-1))
        return "@keras3.mean_iou", case, lambda: (float(m.result()), None)

    @row("@keras3.binary_iou")
    def f(rng):
        case = Case(rng, "none", "masks").probabilities()
        th = float(rng.choice([0.3, 0.5]))
        m = keras.metrics.BinaryIoU(threshold=th)
        m.update_state(case.t, case.x)
        return f"@keras3.binary_iou(threshold={th})", case, lambda: (float(m.result()), None)
except ImportError as e:
    VERSION["keras3"] = f"not here: {e}"

# ---- Keras 2.1.6 and kernels of its time: no longer on PyPI for this Python; their lines, run by TensorFlow
if "tensorflow" in VERSION.get("keras3", ""):
    VERSION["keras2"] = VERSION["kaggle"] = VERSION["post"] = f"the source's lines on tensorflow {tf.__version__}"
    tf1 = tf.compat.v1

    def keras2_bce(t, p):  # backend/tensorflow_backend.py binary_crossentropy, losses.py
        p = tf.clip_by_value(p, 1e-7, 1 - 1e-7)
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=t, logits=tf.math.log(p / (1 - p))), -1)

    def keras2_weighted(score, s):  # engine/training.py _weighted_masked_objective
        score = tf.reduce_mean(score, [1, 2]) * s
        return tf.reduce_mean(score / tf.reduce_mean(tf.cast(tf.not_equal(s, 0), "float32")))

    def dice_coef(t, p, smooth):
        t, p = tf.reshape(t, [-1]), tf.reshape(p, [-1])
        return (2 * tf.reduce_sum(t * p) + smooth) / (tf.reduce_sum(t) + tf.reduce_sum(p) + smooth)

    def posted(t, p, weights, sign):  # the post's weighted_loss, its sum over classes of weight * (argmax == class)
        w = tf.reduce_sum(tf.constant(weights, "float32") * tf.one_hot(tf.argmax(t, -1), t.shape[-1]), -1)
        return w * (keras2_bce(t, p) + (1 - dice_coef(t, p, 1.0) if sign > 0 else -(1 + dice_coef(t, p, 1.0))))

    def era(name, make):
        @row(f"@{name}")
        def f(rng):
            case = Case(rng, "none", "masks").probabilities(True)
            t = tf.constant(case.t.astype("f4"))
            extra, loss = make(rng, case)
            return f"@{name}" + args(**extra), case, lambda: with_tape(lambda x: tf.reduce_mean(loss(t, tf.convert_to_tensor(x))), case)

    def k2_bce(rng, case):
        case.s = rng.choice([0, 0.5, 1, 3], case.n).astype("f4")
        case.s[0] = 2
        return {}, lambda t, x: keras2_weighted(keras2_bce(t, x), tf.constant(case.s))

    def k2_post(rng, case):
        w = rng.choice([0, 1, 2, 3, 1000], case.k).astype(float)
        sign = int(rng.choice([-1, 1]))
        return dict(weights=w, sign=sign), lambda t, x: posted(t, x, w, sign)
    smooth1 = lambda rng: float(rng.choice([1, 0.5, 100]))
    era("keras2.binary_crossentropy", k2_bce)
    era("post.weighted_loss", k2_post)
    era("kaggle.dice_coef", lambda rng, case: (lambda m: (dict(smooth=m), lambda t, x: dice_coef(t, x, m)))(smooth1(rng)))
    era("kaggle.bce_dice", lambda rng, case: (lambda m: (dict(smooth=m), lambda t, x: 0.5 * keras2_bce(t, x) - dice_coef(t, x, m)))(smooth1(rng)))
    era("kaggle.bce_plus_dice", lambda rng, case: (lambda m: (dict(smooth=m), lambda t, x: keras2_bce(t, x) + 1 - dice_coef(t, x, m)))(smooth1(rng)))

    @row("@kaggle.mean_iou")
    def f(rng):
        case = Case(rng, "none", "masks").probabilities(False)

        def theirs():
            with tf.Graph().as_default(), tf1.Session() as sess:
                prec = []
                for t in np.arange(0.5, 1.0, 0.05):
                    score, up = tf1.metrics.mean_iou(tf.constant(case.t.astype("i4")), tf.cast(tf.constant(case.x) > t, tf.int32), 2)
                    sess.run(tf1.local_variables_initializer())
                    sess.run(up)
                    prec.append(sess.run(score))
                return float(np.mean(prec)), None
        return "@kaggle.mean_iou", case, theirs

try:
    import tf_keras
    VERSION["tfkeras"] = f"tf_keras {tf_keras.__version__}"

    def tfkeras(name, make, kind):
        @row(f"@tfkeras.{name}")
        def f(rng):
            fl = int(rng.integers(2))
            case = Case(rng, "none", kind)
            if not fl:
                case.probabilities(True)
            if rng.random() < 0.5:
                case.wt = rng.choice([0, 0.5, 2], (case.n, case.h, case.w)).astype("f4")
            loss = make(from_logits=bool(fl))
            return f"@tfkeras.{name}" + args(from_logits=fl), case, lambda: with_tape(lambda x: loss(tf.constant(case.t.astype("f4")), x, sample_weight=case.wt), case)
    tfkeras("binary_crossentropy", tf_keras.losses.BinaryCrossentropy, "masks")
    tfkeras("categorical_crossentropy", tf_keras.losses.CategoricalCrossentropy, "labels")
except ImportError as e:
    VERSION["tfkeras"] = f"not here: {e}"

# ---- PyTorch and what is built on it; channels first
try:
    import torch, torch.nn.functional as F
    VERSION["torch"] = f"torch {torch.__version__}"

    def with_grad(f, case):
        x = torch.tensor(case.x).permute(0, 3, 1, 2).contiguous().requires_grad_()
        y = f(x)
        y.backward()
        return float(y.detach()), x.grad.permute(0, 2, 3, 1).numpy()

    nchw = lambda a: torch.tensor(np.ascontiguousarray(np.moveaxis(a, 3, 1)).astype("f4"))
    numbers = lambda case, ignore: torch.tensor(np.where(case.valid, case.c, ignore))
    per_class = lambda rng, case: rng.choice([0.5, 1, 4, 100], case.k) if rng.random() < 0.6 else None

    @row("@torch.cross_entropy")
    def f(rng):
        case = Case(rng, "softmax", "labels").ignore(rng.choice([0, 0.3]))
        w, ls, red = per_class(rng, case), smooth_t(rng), int(rng.integers(2))
        return "@torch.cross_entropy" + args(weight=w, label_smoothing=ls, reduction=red), case, lambda: with_grad(lambda x: F.cross_entropy(
            x, numbers(case, -100), weight=None if w is None else torch.tensor(w, dtype=torch.float32), label_smoothing=ls, reduction=["mean", "sum"][red]), case)
    smooth_t = lambda rng: float(rng.choice([0, 0.1]))

    @row("@torch.cross_entropy_probabilities")
    def f(rng):
        case = Case(rng, "softmax", "labels")
        w, ls = per_class(rng, case), smooth_t(rng)
        return "@torch.cross_entropy_probabilities" + args(weight=w, label_smoothing=ls), case, lambda: with_grad(lambda x: F.cross_entropy(
            x, nchw(case.t), weight=None if w is None else torch.tensor(w, dtype=torch.float32), label_smoothing=ls), case)

    column = lambda w: None if w is None else torch.tensor(w, dtype=torch.float32)[:, None, None]

    @row("@torch.binary_cross_entropy")
    def f(rng):
        case = Case(rng, "none", "masks").probabilities(True)
        w, red = per_class(rng, case), int(rng.integers(2))
        return "@torch.binary_cross_entropy" + args(weight=w, reduction=red), case, lambda: with_grad(
            lambda x: F.binary_cross_entropy(x, nchw(case.t), weight=column(w), reduction=["mean", "sum"][red]), case)

    @row("@torch.binary_cross_entropy_with_logits")
    def f(rng):
        case = Case(rng, "sigmoid", "masks")
        w, pw, red = per_class(rng, case), per_class(rng, case), int(rng.integers(2))
        return "@torch.binary_cross_entropy_with_logits" + args(weight=w, pos_weight=pw, reduction=red), case, lambda: with_grad(
            lambda x: F.binary_cross_entropy_with_logits(x, nchw(case.t), weight=column(w), pos_weight=column(pw), reduction=["mean", "sum"][red]), case)
except ImportError as e:
    VERSION["torch"] = f"not here: {e}"

try: # its losses need nothing but torch; the package itself wants more
    import importlib.metadata, importlib.util
    where = importlib.util.find_spec("segmentation_models_pytorch").submodule_search_locations[0]
    sys.path.insert(0, where)
    import losses as S
    VERSION["smp"] = f"segmentation_models_pytorch {importlib.metadata.version('segmentation_models_pytorch')}"

    def smp(name, make):
        @row(f"@smp.{name}")
        def f(rng):
            mode = ["multiclass", "multilabel"][rng.integers(2)]
            case = Case(rng, "softmax" if mode == "multiclass" else "sigmoid", "labels" if mode == "multiclass" else "masks")
            loss, extra = make(rng, case, mode)
            y = torch.tensor(np.where(case.valid, case.c, 255)) if mode == "multiclass" else nchw(np.where(case.valid[..., None], case.t, 255))
            return f"@smp.{name}" + args(**extra), case, lambda: with_grad(lambda x: loss(x, y), case)

    def chosen(rng, case, mode):
        if mode == "multilabel" or rng.random() < 0.5:
            return {}, {}
        k = sorted(rng.choice(case.k, 2, replace=False).tolist())
        return dict(classes=k), dict(classes=[int(i in k) for i in range(case.k)])

    def s_dice(rng, case, mode):
        case.ignore(rng.choice([0, 0.2]))
        sel, ours_sel = chosen(rng, case, mode)
        o = dict(log_loss=bool(rng.integers(2)), smooth=float(rng.choice([0, 1])))
        return S.DiceLoss(mode, ignore_index=255, **sel, **o), dict(o, **ours_sel)

    def s_jaccard(rng, case, mode):
        sel, ours_sel = chosen(rng, case, mode)
        o = dict(log_loss=bool(rng.integers(2)), smooth=float(rng.choice([0, 1])))
        return S.JaccardLoss(mode, **sel, **o), dict(o, **ours_sel)

    def s_tversky(rng, case, mode):
        o = dict(alpha=float(rng.choice([.3, .5])), beta=float(rng.choice([.7, .5])), gamma=float(rng.choice([1., 2.])), smooth=float(rng.choice([0, 1])))
        return S.TverskyLoss(mode, **o), o

    def s_focal(rng, case, mode):
        case.ignore(rng.choice([0, 0.2]))
        o = dict(alpha=[None, .25][rng.integers(2)], gamma=float(rng.choice([1., 2.])), normalized=bool(rng.integers(2)))
        return S.FocalLoss(mode, ignore_index=255, **o), o

    def s_lovasz(rng, case, mode):
        case.ignore(rng.choice([0, 0.2]))
        return S.LovaszLoss(mode, per_image=True, ignore_index=255), {}
    smp("dice_loss", s_dice), smp("jaccard_loss", s_jaccard), smp("tversky_loss", s_tversky), smp("focal_loss", s_focal)
    smp("lovasz_loss", s_lovasz)

    @row("@smp.soft_bce_with_logits_loss")
    def f(rng):
        case = Case(rng, "sigmoid", "masks").ignore(0.2)
        sf, w, pw = smooth_t(rng), per_class(rng, case), per_class(rng, case)
        loss = S.SoftBCEWithLogitsLoss(weight=column(w), ignore_index=255, smooth_factor=sf or None, pos_weight=column(pw))
        return "@smp.soft_bce_with_logits_loss" + args(smooth_factor=sf, weight=w, pos_weight=pw), case, lambda: with_grad(
            lambda x: loss(x, nchw(np.where(case.valid[..., None], case.t, 255))), case)

    @row("@smp.soft_cross_entropy_loss")
    def f(rng):
        case = Case(rng, "softmax", "labels").ignore(0.2)
        sf = float(rng.choice([0, 0.1]))
        loss = S.SoftCrossEntropyLoss(smooth_factor=sf, ignore_index=255)
        return "@smp.soft_cross_entropy_loss" + args(smooth_factor=sf), case, lambda: with_grad(lambda x: loss(x, numbers(case, 255)), case)

    import losses._functional as SF

    def soft(name, *given):
        @row(f"@smp.{name}")
        def f(rng):
            case = Case(rng, "none", "masks").probabilities()
            o = dict({k: float(rng.choice([.3, .7])) for k in given}, smooth=float(rng.choice([0, 1])))
            return f"@smp.{name}" + args(**o), case, lambda: with_grad(lambda x: getattr(SF, name)(x, nchw(case.t), **o), case)
    soft("soft_dice_score"), soft("soft_jaccard_score"), soft("soft_tversky_score", "alpha", "beta")

    spec = importlib.util.spec_from_file_location("smp_metrics", where + "/metrics/functional.py")
    SM = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(SM)

    @row("@smp.iou_score")
    def f(rng):
        multi = rng.random() < 0.5
        case = Case(rng, "softmax" if multi else "sigmoid", "labels" if multi else "masks")
        if multi:
            case.ignore(rng.choice([0, 0.2]))
            stats = lambda: SM.get_stats(torch.tensor(case.x.argmax(-1)), numbers(case, 255), "multiclass", ignore_index=255, num_classes=case.k)
        else:
            stats = lambda: SM.get_stats(torch.sigmoid(nchw(case.x)), nchw(case.t).long(), "multilabel", threshold=0.5)
        return "@smp.iou_score", case, lambda: (float(SM.iou_score(*stats(), reduction="macro", zero_division=1.0)), None)

    @row("@smp.mcc_loss")
    def f(rng):
        case = Case(rng, "none", "masks").probabilities()
        case.k, case.t, case.x = 1, case.t[..., :1], case.x[..., :1]
        loss = S.MCCLoss()
        return "@smp.mcc_loss", case, lambda: with_grad(lambda x: loss(x, nchw(case.t)), case)
except (ImportError, AttributeError) as e:
    VERSION["smp"] = f"not here: {e}"

try:
    import monai, monai.losses as M, monai.metrics
    VERSION["monai"] = f"monai {monai.__version__}"

    def monai_loss(name, make):
        @row(f"@monai.{name}")
        def f(rng):
            soft = bool(rng.integers(2))
            case = Case(rng, "softmax" if soft else "sigmoid", "labels" if soft else "masks")
            loss, extra = make(rng, case, dict(softmax=soft, sigmoid=not soft))
            return f"@monai.{name}" + args(**extra), case, lambda: with_grad(lambda x: loss(x, nchw(case.t)), case)

    options = lambda rng: dict(include_background=bool(rng.integers(2)), batch=bool(rng.integers(2)), smooth_nr=float(rng.choice([1e-5, 1])), smooth_dr=float(rng.choice([1e-5, 1])))
    reduction = lambda rng: int(rng.integers(2))
    word = ["mean", "sum"]

    def m_dice(rng, case, act):
        o, red = dict(options(rng), jaccard=bool(rng.integers(2)), squared_pred=bool(rng.integers(2))), reduction(rng)
        w = per_class(rng, case)
        theirs = None if w is None else torch.tensor(w[0 if o["include_background"] else 1:], dtype=torch.float32)
        return M.DiceLoss(reduction=word[red], weight=theirs, **act, **o), dict(o, reduction=red, weight=w)

    def m_tversky(rng, case, act):
        o, red = dict(options(rng), alpha=float(rng.choice([.3, .5])), beta=float(rng.choice([.7, .5]))), reduction(rng)
        return M.TverskyLoss(reduction=word[red], **act, **o), dict(o, reduction=red)

    def m_gdice(rng, case, act):
        o, red, w = options(rng), reduction(rng), int(rng.integers(3))
        o["batch"] = False if red else o["batch"]
        return M.GeneralizedDiceLoss(reduction=word[red], w_type=["square", "simple", "uniform"][w], **act, **o), dict(o, reduction=red, w_type=w)

    def m_focal(rng, case, act):
        o = dict(gamma=float(rng.choice([1., 2.])), alpha=[None, .8][rng.integers(2)], use_softmax=act["softmax"])
        o["include_background"] = True if act["softmax"] else bool(rng.integers(2))
        w = per_class(rng, case)
        theirs = None if w is None else w[0 if o["include_background"] else 1:]
        return M.FocalLoss(weight=theirs, **o), dict(o, weight=w)

    def m_dice_ce(rng, case, act):
        o = dict(options(rng), lambda_dice=float(rng.choice([1., .5])), lambda_ce=float(rng.choice([1., 2.])))
        return M.DiceCELoss(**act, **o), o
    monai_loss("dice_loss", m_dice), monai_loss("tversky_loss", m_tversky), monai_loss("generalized_dice_loss", m_gdice), monai_loss("focal_loss", m_focal)

    @row("@monai.dice_ce_loss")
    def f(rng):
        case = Case(rng, "softmax", "labels")
        loss, extra = m_dice_ce(rng, case, dict(softmax=True))
        return "@monai.dice_ce_loss" + args(**extra), case, lambda: with_grad(lambda x: loss(x, nchw(case.t)), case)

    def monai_metric(name, make):
        @row(f"@monai.{name}")
        def f(rng):
            case = Case(rng, "sigmoid", "masks")
            o = dict(include_background=bool(rng.integers(2)), ignore_empty=bool(rng.integers(2)))
            m = make(**o)
            m((nchw(case.x) > 0).float(), nchw(case.t))
            return f"@monai.{name}" + args(**o), case, lambda: (float(m.aggregate()), None)
    monai_metric("mean_iou", monai.metrics.MeanIoU), monai_metric("dice_metric", monai.metrics.DiceMetric)
except Exception as e: # it loads much that has nothing to do with this
    VERSION["monai"] = f"not here: {e}"

try:
    from nnunetv2.training.loss import compound_losses as nn
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss, SoftDiceLoss
    VERSION["nnunet"] = f"nnunetv2 {importlib.metadata.version('nnunetv2')}"

    @row("@nnunet.dc_and_ce_loss")
    def f(rng):
        case = Case(rng, "softmax", "labels").ignore(rng.choice([0, 0.2]))
        some = bool((~case.valid).any())
        o = dict(batch_dice=bool(rng.integers(2)), smooth=float(rng.choice([1e-5, 1])), do_bg=bool(rng.integers(2)))
        w = dict(weight_ce=float(rng.choice([1, 2])), weight_dice=float(rng.choice([1, .5])))
        loss = nn.DC_and_CE_loss(dict(o, ddp=False), {}, ignore_label=255 if some else None, dice_class=[SoftDiceLoss, MemoryEfficientSoftDiceLoss][rng.integers(2)], **w)
        return "@nnunet.dc_and_ce_loss" + args(**o, **w), case, lambda: with_grad(lambda x: loss(x, numbers(case, 255)[:, None].float()), case)

    @row("@nnunet.dc_and_bce_loss")
    def f(rng):
        case = Case(rng, "sigmoid", "masks").ignore(rng.choice([0, 0.2]))
        some = bool((~case.valid).any())
        o = dict(batch_dice=bool(rng.integers(2)), smooth=float(rng.choice([1e-5, 1])), do_bg=bool(rng.integers(2)))
        loss = nn.DC_and_BCE_loss({}, dict(o, ddp=False), use_ignore_label=some)
        y = np.concatenate([np.where(case.valid[..., None], case.t, 0), ~case.valid[..., None]], -1) if some else case.t
        return "@nnunet.dc_and_bce_loss" + args(use_ignore_label=some, **o), case, lambda: with_grad(lambda x: loss(x, nchw(y)), case)
except Exception as e:
    VERSION["nnunet"] = f"not here: {e}"

try:
    import torchmetrics, torchmetrics.functional.classification as T
    VERSION["torchmetrics"] = f"torchmetrics {torchmetrics.__version__}"

    @row("@torchmetrics.multiclass_jaccard_index")
    def f(rng):
        case = Case(rng, "softmax", "labels").ignore(rng.choice([0, 0.2]))
        return "@torchmetrics.multiclass_jaccard_index", case, lambda: (float(T.multiclass_jaccard_index(
            nchw(case.x), numbers(case, 255), case.k, ignore_index=255)), None)

    @row("@torchmetrics.multilabel_jaccard_index")
    def f(rng):
        case = Case(rng, "sigmoid", "masks")
        return "@torchmetrics.multilabel_jaccard_index", case, lambda: (float(T.multilabel_jaccard_index(
            torch.sigmoid(nchw(case.x)), nchw(case.t).int(), case.k)), None)

    @row("@torchmetrics.binary_jaccard_index")
    def f(rng):
        case = Case(rng, "sigmoid", "masks")
        return "@torchmetrics.binary_jaccard_index", case, lambda: (float(T.binary_jaccard_index(
            torch.sigmoid(nchw(case.x)).flatten(), nchw(case.t).int().flatten())), None)
except ImportError as e:
    VERSION["torchmetrics"] = f"not here: {e}"

# ---- run

passed = failed = 0
print(f"{'recipe':42} {'cases':>5} {'loss off':>9} {'gradient off':>12}  oracle")
for number, (name, make) in enumerate(ROWS):
    worst, worst_g, why, gradients = 0.0, 0.0, [], 0
    for i in range(CASES):
        rng = np.random.default_rng([7, i] + [ord(c) for c in name])
        text, case, theirs = make(rng)
        want, grad = theirs()
        try:
            got, g = ours(case, text)
        except RuntimeError as e:
            why.append(f"{text}: {e}")
            continue
        off = abs(got - want) / max(1, abs(want))
        off_g = 0.0
        if grad is not None:
            length = np.linalg.norm(grad.astype("f8"))
            off_g = np.linalg.norm(g.astype("f8") - grad) / max(length, 0.1)
        if not (off <= 1e-6 and off_g <= 1e-5):
            why.append(f"case {i}: {text}: {got!r}, want {want!r}; gradient off by {off_g:.1e}")
        worst, worst_g, gradients = max(worst, off), max(worst_g, off_g), gradients + (grad is not None)
    passed, failed = passed + CASES - len(why), failed + len(why)
    print(f"{name:42} {CASES:5d} {worst:9.1e} {worst_g if gradients else float('nan'):12.1e}  {VERSION[name[1:].split('.')[0]]}" + (f"  {len(why)} FAILED" if why else ""), flush=True)
    for w in why[:4]:
        print("    " + w)
listed = subprocess.run(["seg-loss", "--list"], capture_output=True, text=True, check=True).stdout.split()
for name in sorted({w.split("(")[0].split("[")[0] for w in listed if w.startswith("@")} - {name for name, _ in ROWS}):
    here = [what for what, f in (("golden cases", "golden.py"), ("vectors of its own tests", "vectors.py"))
            if name in open(os.path.join(os.path.dirname(__file__), f)).read()]
    print(f"{name:42} {'-':>5} {'-':>9} {'-':>12}  {', '.join(here) or 'no oracle'}")
for k, v in VERSION.items():
    if v.startswith("not here"):
        print(f"{k}: {v}")
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
