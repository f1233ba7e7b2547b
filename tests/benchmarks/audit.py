"""How long the audit's own model takes for one round of a large model, part by part.

Run with ``python tests/benchmarks/audit.py [parameters] [customers]``; seconds are of this process's CPU.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from app.audit import robust
from app.audit.blobs import Blobs, BlockDirectory, reference
from app.audit.copies import mark_copies
from app.audit.screening import Screened
from app.protocol.digest import BlobRef
from app.protocol.fixed_point import MODEL_DTYPE
from app.protocol.receipt import Receipt, SignedReceipt
from app.protocol.tensors import pack, unpack
from app.store.embedded import EmbeddedStore

WIDTH = np.dtype("<i2")


def main(parameters: int = 500_000, customers: int = 10) -> None:
    """Measure one round of honest updates."""
    source, layout = np.random.default_rng(0), (("weights", (parameters,)),)
    model = source.integers(-(10**6), 10**6, parameters)
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddedStore(Path(folder), fsync=False)
        vectors = [np.clip(source.normal(0, 300, parameters), -32768, 32767).astype(np.int64) for _ in range(customers)]
        refs = [store.put(pack(vector, layout, WIDTH)) for vector in vectors]
        blobs, marks = Blobs("", BlockDirectory(Path(folder))), [time.process_time()]
        updates = [unpack(blobs.get(ref, ref.size), layout, WIDTH) for ref in refs]
        marks.append(time.process_time())
        items = [
            Screened(_signed(ref), i, "accepted", update)
            for i, (ref, update) in enumerate(zip(refs, updates, strict=True))
        ]
        mark_copies(items, model, 1, 999_000, 1000)
        marks.append(time.process_time())
        judged = robust.judge(updates, [ref.sha256 for ref in refs], 1, "multi_krum", "outlier")
        assert judged is not None
        marks.append(time.process_time())
        step = robust.combine(updates, [500 * share for share in judged.shares], 1, "multi_krum")
        assert step is not None
        reference(pack(robust.next_model(model, step), layout, MODEL_DTYPE))
        marks.append(time.process_time())
    names = ("read and unpack", "copies", "scores and marks", "aggregate, pack, CID")
    for name, before, after in zip(names, marks, marks[1:], strict=False):
        print(f"{name:<22}{after - before:7.2f} s")
    print(f"{'a round':<22}{marks[-1] - marks[0]:7.2f} s  ({customers} customers, {parameters:,} parameters)")


def _signed(ref: BlobRef) -> SignedReceipt:
    nobody = "0x" + "0" * 40
    return SignedReceipt(Receipt(b"", 1, nobody, b"", ref.sha256, ref.size, ref.cid, "", 1, 0, 0, 1), b"")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))
