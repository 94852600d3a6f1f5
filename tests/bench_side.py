"""What the workers of `make bench` written in Python share.
As a program: bench_side.py DATA.seg INIT.seg OUT.npz: pictures, masks and first weights as NumPy has them."""
import json, sys, time

BATCH, WARM = 16, 3


def say(**what):
    print(json.dumps(what), flush=True)


def load(path):
    """Pictures [N,H,W,C] from 0 to 1, masks [N,H,W,K], and the weights in the order of the network."""
    import numpy as np
    f = np.load(path)
    return (f["image"] / np.float32(255)).astype("f4"), f["mask"].astype("f4"), [f[f"p{i:02}"] for i in range(46)]


def serve(step, forward, parameters):
    """step() and forward() are done when they return; step returns the loss.  Says what bench-work says."""
    assert parameters == 485853, parameters
    say(at="first", loss=step(), parameters=parameters)
    for _ in range(WARM - 1):
        step()
    memory = next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM:"))
    forward()
    say(at="ready", memory=memory)
    for line in sys.stdin:
        work = {"step": step, "forward": forward}[line.strip()]
        t, cpu = time.perf_counter(), time.process_time()
        work()
        print(time.perf_counter() - t, time.process_time() - cpu, flush=True)


if __name__ == "__main__":
    import numpy as np
    import segpy
    records = segpy.read(sys.argv[1])[1][:BATCH]
    params = segpy.read(sys.argv[2])[1]
    np.savez(sys.argv[3], image=np.stack([r["image.npy"] for _, r in records]),
             mask=np.stack([r["mask.npy"] for _, r in records]), **{f"p{i:02}": r["npy"] for i, (_, r) in enumerate(params)})
