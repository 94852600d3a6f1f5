"""TIFF files written with struct, zlib and NumPy alone: the oracle for what seg-load reads.

write(path, pages, big=False, endian="<"): pages are dicts; `a` is [H,W] or [H,W,S] of unsigned,
signed or float type, the rest has defaults.  tags: {number: (type, values)} are added or replace."""
import struct, zlib

import numpy as np

SIZE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 12: 8, 16: 8}


def pack_rows(a, bits, endian):
    """Rows of samples as bytes: [rows, n] of any type."""
    if bits in (8, 16, 32, 64):
        return np.ascontiguousarray(a.astype(a.dtype.newbyteorder(endian))).tobytes()
    out = b""
    for row in a:
        b = ((row[:, None].astype(np.uint32) >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8)
        out += np.packbits(b.reshape(-1)).tobytes()
    return out


def packbits(data):
    out = b""
    for i in range(0, len(data), 100):
        out += bytes([len(data[i:i + 100]) - 1]) + data[i:i + 100]
    return out


def blocks(a, bits, endian, rps, tile, planar):
    h, w, s = a.shape
    planes = [a[:, :, c:c + 1] for c in range(s)] if planar else [a]
    for p in planes:
        if tile:
            th, tw = tile
            for y in range(0, h, th):
                for x in range(0, w, tw):
                    t = np.zeros((th, tw, p.shape[2]), p.dtype)
                    q = p[y:y + th, x:x + tw]
                    t[:q.shape[0], :q.shape[1]] = q
                    yield pack_rows(t.reshape(th, -1), bits, endian)
        else:
            for y in range(0, h, rps):
                yield pack_rows(p[y:y + rps].reshape(len(p[y:y + rps]), -1), bits, endian)


def write(path, pages, big=False, endian="<"):
    q, head = ("Q", 16) if big else ("I", 8)
    body, at = [], head
    patch = None

    def add(data):
        nonlocal at
        data += b"\0" * (-len(data) % 8)
        body.append(data)
        at += len(data)
        return at - len(data)

    first = None
    for p in pages:
        a = p["a"] if p["a"].ndim == 3 else p["a"][:, :, None]
        h, w, s = a.shape
        bits = p.get("bits", a.dtype.itemsize * 8)
        tile, planar, rps = p.get("tile"), p.get("planar", False), p.get("rps", 7)
        comp = p.get("compression", 1)
        squeeze = {1: lambda d: d, 8: zlib.compress, 32773: packbits}[comp]
        off, n = [], []
        for d in blocks(a, bits, endian, rps, tile, planar):
            d = squeeze(d)
            off.append(add(d))
            n.append(len(d))
        photo = p.get("photo", 2 if s == 3 else 1)
        t = {256: (4, [w]), 257: (4, [h]), 258: (3, [bits] * s), 259: (3, [comp]), 262: (3, [photo]), 277: (3, [s]),
             284: (3, [2 if planar else 1]), 339: (3, [{"u": 1, "i": 2, "f": 3}[a.dtype.kind]] * s)}
        extra = s - {2: 3, 5: 4}.get(photo, 1)
        if extra > 0 and p.get("extra", 1):
            t[338] = (3, p.get("extra", [0] * extra))
        if tile:
            t.update({322: (4, [tile[1]]), 323: (4, [tile[0]]), 324: (16 if big else 4, off), 325: (4, n)})
        else:
            t.update({278: (4, [rps]), 273: (16 if big else 4, off), 279: (4, n)})
        if "palette" in p:
            t[320] = (3, np.asarray(p["palette"]).T.reshape(-1).tolist())
        t.update(p.get("tags", {}))
        entries = b""
        room = 8 if big else 4
        for tag in sorted(t):
            kind, v = t[tag]
            if kind == 2:
                v = v.encode() + b"\0"
                data = v
            else:
                data = struct.pack(endian + str(len(v)) + {1: "B", 3: "H", 4: "I", 12: "d", 16: "Q"}[kind], *v)
            if len(data) > room:
                data = struct.pack(endian + q, add(data))
            entries += struct.pack(endian + "HH" + q, tag, kind, len(v)) + data.ljust(room, b"\0")
        ifd = struct.pack(endian + ("Q" if big else "H"), len(t)) + entries
        where = add(ifd + b"\0" * (8 if big else 4))
        first = first or where
        if patch is not None:
            i, pos = patch
            body[i] = body[i][:pos] + struct.pack(endian + q, where) + body[i][pos + (8 if big else 4):]
        patch = (len(body) - 1, len(ifd))
    magic = struct.pack(endian + "2sHHHQ", b"II" if endian == "<" else b"MM", 43, 8, 0, first) if big else \
        struct.pack(endian + "2sHI", b"II" if endian == "<" else b"MM", 42, first)
    with open(path, "wb") as f:
        f.write(magic + b"".join(body))
