"""Streams read and written with Python's tarfile, gzip and NumPy alone: the oracle from outside.

write(path, header, records): records are (key, {suffix: array or bytes or dict}).
read(path) -> header, [(key, {suffix: array or dict})]."""
import gzip, io, json, tarfile, zlib

import numpy as np


def header(classes, task="multilabel", **more):
    h = {"format": "seg", "version": 1, "kind": "stream", "classes": list(classes), "task": task, "provenance": []}
    h.update(more)
    return h


def tar_entry(name, data):
    t = tarfile.TarInfo(name)
    t.size = len(data)
    return t.tobuf(tarfile.USTAR_FORMAT) + data + b"\0" * (-len(data) % 512)


def payload(value):
    if isinstance(value, bytes):
        return value
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    f = io.BytesIO()
    np.save(f, np.ascontiguousarray(value))
    return f.getvalue()


def write(path, head, records, end=True):
    crc, n = 0, 0
    out = [tar_entry("__seg__/header.json", json.dumps(head).encode())]
    for key, entries in records:
        raw = b"".join(tar_entry(f"{key}.{s}", payload(v)) for s, v in entries.items())
        crc = zlib.crc32(raw, crc)
        out.append(raw)
        n += 1
    if end:
        out.append(tar_entry("__seg__/end.json", json.dumps({"samples": n, "crc32": crc}).encode()))
    with open(path, "wb") as f:
        f.write(b"".join(gzip.compress(o, 1, mtime=0) for o in out))


def read(path):
    head, records = None, []
    with tarfile.open(path, "r:gz") as t:
        for m in t:
            data = t.extractfile(m).read()
            if m.name == "__seg__/header.json":
                head = json.loads(data)
            elif not m.name.startswith("__seg__/"):
                key, suffix = m.name.split(".", 1)
                value = json.loads(data) if suffix == "json" else np.load(io.BytesIO(data))
                if not records or records[-1][0] != key:
                    records.append((key, {}))
                records[-1][1][suffix] = value
    return head, records
