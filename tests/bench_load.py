"""TIFF files into arrays: bench_load.py Pillow|tifffile IMAGES LABELS.  Answers a line with seconds."""
import os, sys, time
import bench_side
import numpy as np

if sys.argv[1] == "Pillow":
    import PIL
    from PIL import Image
    version, read = PIL.__version__, lambda path: np.asarray(Image.open(path))
else:
    import tifffile
    version, read = tifffile.__version__, tifffile.imread

paths = [os.path.join(d, name) for d in sys.argv[2:] for name in sorted(os.listdir(d))]
assert read(paths[0]).shape == (256, 256, 3)
bench_side.say(at="ready", version=version)
for _ in sys.stdin:
    t = time.perf_counter()
    for path in paths:
        read(path)
    print(time.perf_counter() - t, flush=True)
