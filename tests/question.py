"""The situation of the question as a stream: 16 scenes of 256x256 pixels (or SIDE), five masks.
Classes 0-3 have 24,000 true pixels each, of which 98 % are found, with false positives that make IoU
0.96; class 4 has 500, 25.4 % are found, IoU 0.23.  Found is p = 0.999, all else 0.001.
usage: question.py FILE [SIDE]"""
import sys

import numpy as np
import segpy


def build(side):
    n, scale = 16 * side * side, (side / 256) ** 2
    t, p = np.zeros((n, 5), "u1"), np.full((n, 5), 0.001, "f4")
    true = [round(24000 * scale)] * 4 + [round(500 * scale)]
    at, wrong = 0, sum(true)  # false positives lie where no class is
    for k, (m, recall, iou) in enumerate(zip(true, [.98] * 4 + [.254], [.96] * 4 + [.23])):
        found = round(recall * m)
        extra = round(found / iou - m)
        t[at:at + m, k] = 1
        p[at:at + found, k] = 0.999
        p[wrong:wrong + extra, k] = 0.999
        at, wrong = at + m, wrong + extra
    # spread over the scenes: pixel i of all goes to scene i mod 16
    shape = (16, side, side, 5)
    return [a.reshape(side * side, 16, 5).transpose(1, 0, 2).reshape(shape) for a in (t, p)]


def write(path, side=256):
    t, p = build(side)
    names = ["class 0", "class 1", "class 2", "class 3", "class 4"]
    image = np.zeros((side, side, 1), "u1")
    segpy.write(path, segpy.header(names, head="sigmoid"),
                [(f"{i:02}", {"image.npy": image, "mask.npy": t[i], "pred.npy": p[i]}) for i in range(16)])


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 256)
