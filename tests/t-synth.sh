# seg-synth: the classes and their frequencies, and scenes that depend on their number alone.
. "$SEG_TESTS/lib.sh"
export PYTHONPATH=$SEG_TESTS

seg-synth -n 50 > fifty.seg
seg-synth -n 8 -@ 1 > a.seg
seg-synth -n 8 -@ 3 > b.seg
seg-synth -n 2 --start 6 > six.seg
seg-synth -n 2 --masks > masks.seg
seg-synth -n 2 -s 1 > other.seg
seg-synth -n 6 --size 64x32 > small.seg
is "the same bits from every compiler and machine" "$(seg-synth -n 4 | seg-info --hash)" "69214bdf7f1b1e086949094fca8db61ca3395571de47ebb7d80863aa62a78234  -"
is "threads change nothing" "$(cmp a.seg b.seg 2>&1)" ""

$PYTHON - <<'P'
import numpy as np
import segpy


def check(what, good, *why):
    print("ok" if good else "not ok", what, *([] if good else why))


head, fifty = segpy.read("fifty.seg")
read = lambda f: dict(segpy.read(f)[1])
label = np.stack([e["label.npy"] for _, e in fifty])
image = np.stack([e["image.npy"] for _, e in fifty])
share = np.bincount(label.ravel(), minlength=5) / label.size
check("five classes by name", head["classes"] == ["ground", "field", "water", "roof", "crack"], head)
check("shapes", image.shape == (50, 256, 256, 3) and label.shape == (50, 256, 256) and image.dtype == label.dtype == np.uint8)
check("crack is 0.1 to 0.4 %", .001 <= share[4] <= .004, share)
check("each other class is above 4 %", (share[:4] > .04).all() and len(share) == 5, share)
hit = (label == 4).any((1, 2)).mean()
check("crack in most scenes, not in all", .5 < hit < .95, hit)
# the rare class has a look of its own: far darker than what surrounds it
grey = image.mean(-1)
check("crack is dark", grey[label == 4].mean() < .6 * grey[(label == 0)].mean(), grey[label == 4].mean(), grey[label == 0].mean())
means = np.array([[image[i][label[i] == k].mean(0) for k in (0, 2)] for i in range(50) if (label[i] == 2).any()])
check("water is bluer than ground", ((means[:, 1, 2] - means[:, 1, 0]) > (means[:, 0, 2] - means[:, 0, 0])).mean() > .95)
check("scenes differ", len({e["image.npy"].tobytes() for _, e in fifty}) == 50)
check("no value is clipped much", ((image == 0) | (image == 255)).mean() < .01)

fifty = dict(fifty)
same = lambda a, b: all(np.array_equal(a[s], b[s]) for s in ("image.npy", "label.npy"))
check("scene 7 of 8 is scene 7 of 50", same(read("a.seg")["0007"], fifty["0007"]))
check("scene 7 after --start 6 is scene 7 of 50", same(read("six.seg")["0007"], fifty["0007"]))
check("another seed, another scene", not np.array_equal(read("other.seg")["0000"]["image.npy"], fifty["0000"]["image.npy"]))
m = read("masks.seg")["0001"]
check("masks are the labels", np.array_equal(m["mask.npy"], fifty["0001"]["label.npy"][..., None] == np.arange(5))
      and segpy.read("masks.seg")[0]["task"] == "multilabel")
s = read("small.seg")
check("size is rows x columns", all(e["image.npy"].shape == (64, 32, 3) for e in s.values()))
check("json names the scene", fifty["0007"]["json"]["id"] == "0007" and "source" in fifty["0007"]["json"])
P
[ $? = 0 ] || no "the oracle ran"

# as files, read back by the loader
seg-synth -n 3 --size 64 --tiff t
seg-synth -n 3 --size 64 > s.seg
seg-synth -n 3 --size 64 --masks > sm.seg
is "files" "$(ls t t/* | tr "\n" " " | sed "s/ \+/ /g;s/^t: //")" "images labels masks t/images: 0000.tif 0001.tif 0002.tif t/labels: 0000.tif 0001.tif 0002.tif t/masks: 0000.tif 0001.tif 0002.tif "
if [ -x "$BIN/seg-load" ]; then
	names=ground,field,water,roof,crack
	seg-load --images t/images --labels t/labels --classes $names > l.seg
	seg-load --images t/images --masks t/masks --classes $names > lm.seg
	$PYTHON -c '
import numpy as np, segpy
for a, b in ("s.seg", "l.seg"), ("sm.seg", "lm.seg"):
    x, y = segpy.read(a)[1], segpy.read(b)[1]
    good = [k for k, _ in x] == [k for k, _ in y] and all(
        np.array_equal(e[s], f[s]) for (_, e), (_, f) in zip(x, y) for s in e if s != "json")
    print("ok" if good else "not ok", a, "equals what seg-load makes of the files", [k for k, _ in y])
'
fi

says "no number of scenes" 2 "give -n N" seg-synth
says "no scenes" 2 "whole number from 1" seg-synth -n 0
says "size" 2 "'64x'|''" seg-synth -n 1 --size 64x
says "nowhere to write" 1 "no/such/dir" seg-synth -n 1 --size 16 --tiff no/such/dir
status "full disk" 1 sh -c 'seg-synth -n 1 --size 16 > /dev/full'
finish
