"""Every file of ../shared/data/wild through seg-load: right numbers or one clear line and status 1.

Numbers are those of the manifest (minimum, maximum and mean of the samples as stored, by GDAL)."""
import csv, os, subprocess, sys

import numpy as np
import segpy

# Rows we disagree with, and why.
OTHER = {
    "bad__deflate_bomb.tif": "the stream inflates to zeros; GDAL and Pillow show memory libtiff has not written",
    "exiftool__DNG.dng": "its only page says it is a thumbnail",
    "gen__tf_shaped_3d_volume.tif": "GDAL shows the first slice of a volume",
    "pillow__tiff_wrong_bits_per_sample.tiff": "libtiff warns that it guesses the byte counts",
    "pillow__tiff_wrong_bits_per_sample_3.tiff": "libtiff warns that the samples are not those of RGB",
}
CMYK = ("gen__gdal_cmyk", "gen__pil_cmyk", "imagetiff__cmyk", "imagetiff__flower-separated", "twelvemonkeys__cmyk")  # GDAL: RGB
top = sys.argv[1]
env = dict(os.environ, SEG_LEVEL="0")
for r in csv.DictReader(open(top + "/manifest.tsv"), delimiter="\t"):
    name, expected = r["file"], r["expected"]
    for how in (["--raw", "--page", "1"], []):
        p = subprocess.run(["timeout", "-k", "5", "20", "seg-load", *how, top + "/" + name], stdout=open("w.seg", "wb"),
                           stderr=subprocess.PIPE, env=env)
        err = p.stderr.decode(errors="replace")
        if p.returncode not in (0, 1) or len(err.splitlines()) != p.returncode:
            print(name, how, "status", p.returncode, err)
        if p.returncode == 0 and expected.startswith("must"):
            print(name, how, "was read")
        if p.returncode == 1 and expected == "reads" and how and name not in OTHER:
            print(name, how, "was refused:", err)
        if p.returncode == 0 and how and r["gdal_band_min_max_mean"] and name not in OTHER and not name.startswith(CMYK):
            a = segpy.read("w.seg")[1][0][1]["image.npy"].astype(float)
            want = [[float(x) for x in b.split(",")] for b in r["gdal_band_min_max_mean"].split(";") if b]
            got = [[np.nanmin(c), np.nanmax(c), np.nanmean(c)] for c in np.moveaxis(a, 2, 0)][:len(want)]
            lossy = 2 if "jpeg" in r["what_is_special"] or "webp" in r["what_is_special"] else 1e-5
            if not np.allclose(got, want, rtol=2e-5, atol=lossy):
                print(name, "differs", got, want)
