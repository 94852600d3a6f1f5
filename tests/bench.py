"""`make bench`: seg beside PyTorch, Keras, gzip, pigz, Pillow and tifffile on this machine, in these minutes.
usage: bench.py ROUNDS   (in an environment that bench.sh makes)

In each round every contestant has its turn, so that what slows the machine slows all of them.  What trains is a
process that is asked for one more step through a pipe.  A number is the best of all rounds, and the median beside
it; where all processors are busy, their time is given, too, which other programs on the machine disturb less.
Of the variants of a framework all are printed; the best one counts.  What is missing is said."""
import json, os, platform, resource, shutil, statistics, subprocess, sys, time

ROUNDS = int(sys.argv[1])
BIN, OUT, PY = "build/bin", "build/bench", "build/venv/bin/python"
DATA = os.environ.get("SEG_DATA", "../shared/data") + "/sem/train"
LOSS = "mean[n,y,x,k](bce) + 1 - dice[n,y,x,k]"
BATCH, CPUS = 16, min(2, len(os.sched_getaffinity(0)))
# Multiplications and additions of the direct algorithm, a batch of 16 at 256x256: 767 million multiply-adds forward,
# 2287 million with the way back
GFLOP = {"forward": BATCH * 2 * 0.767, "step": BATCH * 2 * 2.287}
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "8000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000", "MALLOC_TOP_PAD_": "1000000000"}

# key: title, unit, factor, is more better
MEASURES = {
    "peak1": ("multiply-adds, one thread", "GFLOP/s", 1, True),
    "peak": (f"multiply-adds, {CPUS} threads", "GFLOP/s", 1, True),
    "copy": ("memory copied, read and written", "GB/s", 1, True),
    "step": (f"training step, batch {BATCH}, {CPUS} threads", "ms", 1e3, False),
    "forward": (f"forward, batch {BATCH}, {CPUS} threads", "ms", 1e3, False),
    "step_cpu": ("training step, processor time", "ms", 1e3, False),
    "forward_cpu": ("forward, processor time", "ms", 1e3, False),
    "memory": ("peak memory after 3 steps", "MB", 1.024e-3, False),
    "help": ("start: --help; import", "ms", 1e3, False),
    "begin": ("start: until training begins", "ms", 1e3, False),
    "first": ("start: until the first batch is done", "ms", 1e3, False),
    "scale": ("seg: a step on 1 and 2 threads, 1 and 2 ranks", "ms", 1e3, False),
    "pack": ("deflate at level 1, one thread", "MB/s", 1e-6, True),
    "unpack": ("inflate, one thread", "MB/s", 1e-6, True),
    "load": ("TIFF files read, pictures and truth, one thread", "images/s", 1, True),
    "chain": ("seg-load, seg-augment and seg-train in a pipe", "images/s", 1, True),
    "chain_cpu": ("seg-load, seg-augment, seg-train, processor time", "ms/image", 1e3, False),
}
results = {m: {} for m in MEASURES}
best_of = {m: max if d[3] else min for m, d in MEASURES.items()}
skipped, versions = [], {}


def note(measure, who, value):
    results[measure].setdefault(who, []).append(value)


def skip(what, why):
    skipped.append(f"{what}: {why}")
    print(f"skipped: {what}: {why}", file=sys.stderr, flush=True)


def tell(what):
    print(f"bench: {what}", file=sys.stderr, flush=True)


def run(*argv, env={}, **more):
    """Seconds of a command that must succeed."""
    more.setdefault("stdout", subprocess.DEVNULL)
    t = time.perf_counter()
    subprocess.run(argv, check=True, env=os.environ | env, **more)
    return time.perf_counter() - t


def processors():
    """Seconds of all programs run so far."""
    u = resource.getrusage(resource.RUSAGE_CHILDREN)
    return u.ru_utime + u.ru_stime


class Worker:
    """A process that says where it is in JSON lines and then answers a word with a number."""

    def __init__(self, name, argv, env={}):
        self.name, self.at = name, {}
        self.log = f"{OUT}/{name.replace(' ', '_')}.err"
        self.start = time.perf_counter()
        with open(self.log, "w") as log:
            self.p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | env)

    def wait(self, where):
        """Seconds from the start until it is there."""
        while where not in self.at:
            line = self.read()
            if line.startswith("{"):
                said = json.loads(line)
                self.at[said.pop("at")] = said | {"seconds": time.perf_counter() - self.start}
        return self.at[where]["seconds"]

    def read(self):
        line = self.p.stdout.readline()
        if not line:
            last = [l for l in open(self.log) if l.strip()][-1:] or ["ended without a word"]
            raise RuntimeError(last[0].strip()[:200])
        return line

    def ask(self, word):
        self.p.stdin.write(word + "\n")
        self.p.stdin.flush()
        return [float(x) for x in self.read().split()]

    def stop(self):
        self.p.terminate()
        self.p.wait()


def worker(name, argv, env={}, until="ready"):
    """Or None, and why."""
    w = Worker(name, argv, env)
    try:
        w.wait(until)
        return w
    except RuntimeError as e:
        if argv[0] == "build/tests/bench-work":
            raise
        skip(name, e)
        w.stop()


def seg(threads=CPUS, ranks=1):
    launch = ["mpirun", "-q", "-np", str(ranks)] if ranks > 1 else []
    return launch + ["build/tests/bench-work", f"{OUT}/data.seg", f"{OUT}/init.seg", str(threads), LOSS]


def torch(*words):
    return [PY, "-W", "ignore", "tests/bench_torch.py", f"{OUT}/data.npz", str(CPUS), *words]


def keras(*words):
    return [PY, "-W", "ignore", "tests/bench_keras.py", f"{OUT}/data.npz", str(CPUS), *words]


CONTESTANTS = [
    ("seg", seg(), {}),
    ("PyTorch", torch(), {}), ("PyTorch malloc", torch(), MALLOC), ("PyTorch channels_last", torch("channels_last"), {}),
    ("PyTorch channels_last malloc", torch("channels_last"), MALLOC),
    ("PyTorch channels_last compile malloc", torch("channels_last", "compile"), MALLOC),
    ("Keras", keras(), {}), ("Keras malloc", keras(), MALLOC), ("Keras xla", keras("xla"), {}),
]


def prepare():
    """The same pictures, truth and first weights for all."""
    os.makedirs(OUT, exist_ok=True)
    with open(f"{OUT}/data.seg", "w") as f:
        run(f"{BIN}/seg-synth", "-n", str(BATCH), "--masks", stdout=f)
    run(f"{BIN}/seg-train", "-i", f"{OUT}/data.seg", "-o", f"{OUT}/init.seg", "--lr", "0", "--max-steps", "1", stderr=subprocess.DEVNULL)
    run(PY, "tests/bench_side.py", f"{OUT}/data.seg", f"{OUT}/init.seg", f"{OUT}/data.npz")


def training():
    workers = []
    for name, argv, env in CONTESTANTS:
        tell(f"starting {name}")
        w = worker(name, argv, env)
        if w:
            workers.append(w)
            versions[name.split()[0]] = w.at["start"].get("version", "")
            note("memory", name, w.at["ready"]["memory"])
    loss = {w.name: w.at["first"]["loss"] for w in workers}
    for name, l in loss.items():
        assert abs(l - loss["seg"]) < 1e-4, f"not the same network, loss or data: {loss}"
    tell(f"the first loss of all is {loss['seg']:.6f} (within {max(abs(l - loss['seg']) for l in loss.values()):.0e})")
    for r in range(ROUNDS):
        tell(f"training, round {r + 1} of {ROUNDS}")
        for measure in ("peak", "copy"):
            note(measure, "this machine", workers[0].ask(measure)[0])
        for w in workers[r % len(workers):] + workers[:r % len(workers)]:
            for measure in ("step", "forward"):
                for _ in range(3):
                    seconds, busy = w.ask(measure)
                    note(measure, w.name, seconds)
                    note(measure + "_cpu", w.name, busy)
    for w in workers:
        w.stop()


def starting():
    def begin(argv):
        """Until seg-train says what it will do."""
        t = time.perf_counter()
        p = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        p.stderr.readline()
        t = time.perf_counter() - t
        p.stderr.read()
        p.wait()
        return t

    once = [f"{BIN}/seg-train", "-i", f"{OUT}/data.seg", "-o", f"{OUT}/once.seg", "-l", LOSS, "--max-steps", "1"]
    for r in range(ROUNDS):
        tell(f"starting, round {r + 1} of {ROUNDS}")
        note("help", "seg", run(f"{BIN}/seg-train", "--help"))
        note("begin", "seg", begin(once))
        note("first", "seg", run(*once, stderr=subprocess.DEVNULL)) # and the model is written
        for name, argv, env in CONTESTANTS[1:]:
            w = worker(name, argv, env, "first") if name in ("PyTorch", "Keras") and name in results["step"] else None
            if w:
                note("help", name, w.at["start"]["seconds"])
                note("first", name, w.at["first"]["seconds"])
                w.stop()


def scaling():
    workers = [worker(f"{t} thread{'s' * (t > 1)}", seg(t)) for t in range(1, CPUS + 1)]
    if CPUS < 2:
        skip("2 threads, 2 ranks", "one processor")
    elif os.environ.get("MPI") == "no" or not shutil.which("mpirun"):
        skip("2 ranks", "built without MPI, or no mpirun")
    else:
        workers.append(worker("2 ranks", seg(1, 2)))
    for r in range(ROUNDS):
        tell(f"scaling, round {r + 1} of {ROUNDS}")
        note("peak1", "this machine", workers[0].ask("peak")[0])
        for w in filter(None, workers):
            for _ in range(2):
                note("scale", w.name, w.ask("step")[0])
    for w in filter(None, workers):
        w.stop()


def tiles():
    """Directory of TIFF files, and what seg-load is told of them."""
    where = DATA
    if not os.path.isdir(where):
        skip("micrographs", f"no {where}; scenes of seg-synth instead")
        where = f"{OUT}/tiles"
        run(f"{BIN}/seg-synth", "-n", "264", "--tiff", where)
    return [f"{BIN}/seg-load", "--images", f"{where}/images", "--labels", f"{where}/labels", "--classes", "5"]


def codec(load):
    packed, tar, gz = f"{OUT}/tiles.seg", f"{OUT}/tiles.tar", f"{OUT}/tiles.tar.gz"
    for path, argv in (packed, load), (tar, ["zcat", packed]), (gz, ["gzip", "-1c", tar]):
        with open(path, "w") as f:
            run(*argv, stdout=f)
    size = os.path.getsize(tar)
    versions["tiles"] = f"of {size / 1e6:.0f} MB, deflated {size / os.path.getsize(packed):.2f} times smaller by seg, {size / os.path.getsize(gz):.2f} by gzip -1"
    w = worker("seg codec", seg(1))
    commands = [("gzip -1", ["gzip", "-1c"]), ("pigz -1", ["pigz", "-1", "-c", "-p", "1"])]
    for name, argv in commands[:]:
        if not shutil.which(argv[0]):
            skip(argv[0], "not installed")
            commands.remove((name, argv))
    for r in range(ROUNDS):
        tell(f"codec, round {r + 1} of {ROUNDS}")
        for measure in ("pack", "unpack"):
            note(measure, "seg", size / w.ask(f"{measure} {packed}")[0])
        note("unpack", "seg-info, the whole program", size / run(f"{BIN}/seg-info", "-q", "-@", "1", packed))
        for name, argv in commands:
            note("pack", name, size / run(*argv, tar))
            note("unpack", name, size / run(argv[0], "-dc", gz))
    w.stop()


def loading(load):
    images, labels = load[2], load[4]
    n = len(os.listdir(images))
    sides = [worker(name, [PY, "-W", "ignore", "tests/bench_load.py", name, images, labels]) for name in ("Pillow", "tifffile")]
    for r in range(ROUNDS):
        tell(f"loading, round {r + 1} of {ROUNDS}")
        for level in "0", "1":
            note("load", f"seg-load, level {level}", n / run(*load, "-@", "1", "--level", level))
        for w in filter(None, sides):
            note("load", w.name, n / w.ask("load")[0])
    for w in filter(None, sides):
        versions[w.name] = w.at["ready"]["version"]
        w.stop()


def chain(load):
    stored, n = f"{OUT}/stored.seg", len(os.listdir(load[2]))
    with open(stored, "w") as f:
        run(*load, "--level", "0", stdout=f)
    quiet = {"stderr": subprocess.DEVNULL}
    train = f"{BIN}/seg-train -o {OUT}/chain.seg"
    pipe = f"{' '.join(load)} | {BIN}/seg-augment --epochs 1 flip rot90 | {train}"
    ways = [("seg-train alone, from a stored file", f"{train} --epochs 1 -i {stored}", {}),
            ("SEG_LEVEL=0", pipe, {"SEG_LEVEL": "0"}), ("default level", pipe, {})]
    for r in range(ROUNDS):
        tell(f"chain, round {r + 1} of {ROUNDS}")
        for name, command, env in ways:
            was = processors()
            note("chain", name, n / run("sh", "-c", command, env=env, **quiet))
            note("chain_cpu", name, (processors() - was) / n)


def number(x):
    return f"{x:.0f}" if x >= 100 else f"{x:.3g}"


def first_of(measure):
    """Whom the others are compared with."""
    return next(iter(results[measure]))


def best(measure, who):
    return best_of[measure](results[measure][who])


def limit(measure, who):
    """Share of what the machine can do at most."""
    if measure in GFLOP and best("peak", "this machine"):
        return f"{100 * GFLOP[measure] / best(measure, who) / best('peak', 'this machine'):.0f} % of the multiply-adds"
    if measure in ("pack", "unpack"):
        return f"{100 * best(measure, who) * 1e-9 / best('copy', 'this machine'):.1f} % of copying"
    return ""


def ratio(measure, who):
    a, b = best(measure, first_of(measure)), best(measure, who)
    return a / b if MEASURES[measure][3] else b / a


def table():
    lines = []
    for m, (title, unit, factor, more) in MEASURES.items():
        if not results[m]:
            continue
        lines.append(f"{title:<52}{unit:>10}{'median':>10}" + ("" if m in ("peak1", "peak", "copy") else f"{'ratio':>10}"))
        for who, v in results[m].items():
            line = f"  {who + ' ' + versions.get(who, ''):<50}{number(best(m, who) * factor):>10}{number(statistics.median(v) * factor):>10}"
            lines.append((line + ("" if who == "this machine" else f"{ratio(m, who):>10.2f}   {limit(m, who)}")).rstrip())
    return "\n".join(lines)


def markdown():
    """One line for each measure; of the variants of a framework the best."""
    lines = ["| | | median | compared with: times the first is better |", "|---|---|---|---|"]
    for m, (title, unit, factor, more) in MEASURES.items():
        if not results[m]:
            continue
        a, families = first_of(m), {}
        for who in list(results[m])[1:]:
            family = who.split()[0] if m in ("step", "step_cpu", "forward", "forward_cpu", "memory") else who
            families.setdefault(family, []).append(who)
        others = [min(f, key=lambda who: ratio(m, who)) for f in families.values()]
        said = ", ".join(f"{who} {number(best(m, who) * factor)}: {ratio(m, who):.3g}" for who in sorted(others, key=lambda who: ratio(m, who)))
        share = f", {limit(m, a)}" if m in GFLOP else ""
        name = "" if a in ("seg", "this machine") else f"{a}: "
        lines.append(f"| {title}, {unit} | {name}{number(best(m, a) * factor)}{share} | {number(statistics.median(results[m][a]) * factor)} | {said} |")
    return "\n".join(lines)


def cpu():
    return next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())


def main():
    prepare()
    load = tiles()
    for part in training, starting, scaling:
        part()
    for part in codec, loading, chain:
        part(load)
    date = time.strftime("%d %B %Y").lstrip("0")
    print(f"{date}, {cpu()}, {CPUS} processors, {ROUNDS} rounds; best, median, how many times the first is better")
    print(table())
    seen = "work is counted as that of direct convolutions; " + "; ".join(f"{who} {v}" for who, v in versions.items() if v)
    print(seen)
    for s in skipped:
        print(f"skipped: {s}")
    with open("build/bench.md", "w") as f:
        print(f"{date}, {cpu()}, {CPUS} processors, best of {ROUNDS} rounds:\n\n{markdown()}\n\n{seen}", file=f)
    with open("build/bench.json", "w") as f:
        json.dump({"date": date, "cpu": cpu(), "threads": CPUS, "rounds": ROUNDS, "versions": versions, "skipped": skipped,
                   "measures": {m: {"title": MEASURES[m][0], "unit": MEASURES[m][1], "more_is_better": MEASURES[m][3],
                                    "results": {who: {"best": best(m, who) * MEASURES[m][2],
                                                      "median": statistics.median(v) * MEASURES[m][2], "n": len(v)}
                                                for who, v in results[m].items()}} for m in MEASURES}}, f, indent=1)


main()
