"""Kills a process that teaches and trains, at random instants, again and again on one state.

    kills.py BUNDLE STATE N SEED

torch is imported once; each teacher is forked from here before any store is open.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
from pathlib import Path

import numpy as np

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.runtime.checkpoint import Recovery  # noqa: F401  (imported before the fork)
from plr_edge.runtime.session import Session
from plr_edge.store import Store
from plr_edge.stream import open_stream

_CHUNK = 4
_CONFIG = LearningConfig(train_ratio=0.5, label_bytes=2_000_000)


def main() -> None:
    bundle, state, n, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    opened, rng = open_bundle(bundle), random.Random(seed)
    frames = list(open_stream("demo", limit_per_class=20))
    acknowledged, cycle_s, lost, opened_s = 0, 2.0, 0, []
    for i in range(n):
        order = np.random.default_rng([seed, i]).permutation(len(frames))
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            teach(opened, state, [frames[j] for j in order], writer)
        os.close(writer)
        start, first, data = time.monotonic(), None, b""
        until = start + rng.uniform(0, 1.1 * cycle_s)
        while (left := until - time.monotonic()) > 0:
            if not select.select([reader], [], [], left)[0]:
                break
            data += (chunk := os.read(reader, 4096))
            first = first or time.monotonic() - start
            if not chunk:
                break
        os.kill(pid, signal.SIGKILL)
        while chunk := os.read(reader, 4096):
            data += chunk
        os.close(reader)
        status = os.waitpid(pid, 0)[1]
        assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0, status
        opened_s += [first] if first else []
        # four times what a start takes; twice as long while none came so far, on a busy machine
        cycle_s = 4 * float(np.median(opened_s)) if opened_s else 2 * cycle_s
        acknowledged = max([acknowledged, *map(int, data.split(b"\n")[:-1])])
        with Store(state) as store:
            lost += max(0, acknowledged - store.last_seq)
            acknowledged = store.last_seq
            assert not store.notes, store.notes
    with Session(opened, state, _CONFIG) as session:
        answers = session.perception.predict_many(frames)
        right = np.mean([bool(a.top) and a.top[0][0] == f.label
                         for a, f in zip(answers, frames, strict=True)])  # fmt: skip
    facts = {
        "kills": n, "acknowledged": acknowledged, "lost": lost, "right": float(right),
        "first_ack_s": float(np.median(opened_s)),
    }  # fmt: skip
    print(json.dumps(facts))


def teach(bundle, state: Path, frames: list, writer: int) -> None:
    try:
        with Session(bundle, state, _CONFIG) as session:
            for start in range(0, len(frames), _CHUNK):
                session.observe_many(frames[start : start + _CHUNK])
                os.write(writer, f"{session.store.last_seq}\n".encode())
                if start % 32 == 0:
                    session.publish()
                    session.save("test")
            session.finish()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
