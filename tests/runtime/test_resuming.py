"""A stream that was interrupted, changed and given again: what was learned is not taught again.

The cases are random: a folder, a list or a film is interrupted at a random frame, edited, and given
again. `python tests/runtime/test_resuming.py N [SEED]` runs N of them in one process.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.errors import LabelError
from plr_edge.runtime.adapt import adapt
from plr_edge.runtime.session import Session
from plr_edge.store import LEARNED, QUARANTINED, Store
from plr_edge.stream import open_stream

BUNDLE = Path(__file__).parent / "golden" / "bundle"
CLASSES = ("apple", "ball", "cup", "Zange", "émeu")
EDITS = ("insert", "remove", "rename", "reorder", "replace", "relabel", "nothing")
KINDS = ("folder", "csv", "txt", "film")


def picture(number):
    """A picture of its own: a coarse pattern of its class would not make a difference here."""
    rng = np.random.default_rng(number)
    return np.kron(rng.integers(0, 255, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)


class Written:
    """A stream on disk, made of (picture number, label) in order."""

    def __init__(self, folder, kind, rng):
        self.folder, self.kind, self.rng = folder, kind, rng
        self.prefix, self.written = "", {}

    def write(self, items):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        return getattr(self, f"_{self.kind}")(items)

    def _save(self, number, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number)).save(path)

    def _folder(self, items):
        for i, (number, label) in enumerate(items):
            self._save(number, self.folder / label / f"{self.prefix}{i}.png")
        return self.folder

    def _listed(self, items, name, row):
        for i, (number, _) in enumerate(items):
            self._save(number, self.folder / f"{self.prefix}{i}.png")
        lines = [row.format(f"{self.prefix}{i}.png", label) for i, (_, label) in enumerate(items)]
        (self.folder / name).write_text("".join(lines), encoding="utf-8")
        return self.folder / name

    def _csv(self, items):
        path = self._listed(items, "list.csv", "{},{}\n")
        path.write_text("path,label\n" + path.read_text("utf-8"), encoding="utf-8")
        return path

    def _txt(self, items):
        return self._listed(items, "list.txt", "{}\t{}\n")

    def _film(self, items):
        cv2 = pytest.importorskip("cv2")
        path = self.folder / f"{self.prefix}film.avi"
        # every frame of MJPEG is coded by itself, so a frame keeps its pixels when others go
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 32))
        for number, _ in items:
            writer.write(picture(number))
        writer.release()
        spans = (f"{i / 10 - 0.03},{i / 10 + 0.03},{name}\n" for i, (_, name) in enumerate(items))
        sidecar = path.with_name(path.name + ".csv")
        sidecar.write_text("start_s,end_s,label\n" + "".join(spans), encoding="utf-8")
        return path


def edited(items, edit, rng, fresh):
    """Return the items after an edit, and those (number, old label) that have another label now."""
    items, moved = list(items), []
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(items)) if items else 0
        if edit == "insert" or len(items) < 2:
            items.insert(at, (next(fresh), rng.choice(CLASSES)))
        elif edit == "remove":
            del items[at]
        elif edit == "reorder":
            rng.shuffle(items)
        elif edit == "replace":
            items[at] = (next(fresh), items[at][1])
    if edit == "relabel":
        old = rng.choice(items)[1]
        new = rng.choice([name for name in (*CLASSES, "yak") if name != old])
        moved = [item for item in items if item[1] == old]
        items = [(number, new if label == old else label) for number, label in items]
    return items, moved


def in_log(state, number_of):
    """Count the acknowledged labels of a state by picture and label."""
    with Store(state) as store:
        labels = [x for x in store.labels.with_contents() if x.status in (LEARNED, QUARANTINED)]
    return Counter((number_of[label.content], label.name) for label in labels)


def run(bundle, state, path, config, stop_at=None, relabel=False):
    def on_chunk(position, summary):
        if stop_at is not None and position >= stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    with Session(bundle, state, config, EngineConfig()) as session:
        return adapt(session, open_stream(path), on_chunk=on_chunk, relabel=relabel)


def check_case(bundle, folder, seed):
    """Run one random case; returns what it was."""
    from plr_edge.stream.content import identified

    rng = random.Random(seed)
    kind, edit = rng.choice(KINDS), rng.choice(EDITS)
    fresh = iter(range(seed * 1000, seed * 1000 + 1000))
    config = LearningConfig(chunk=rng.choice((1, 3, 8)), train_ratio=0, label_bytes=1 << 20)
    items = [(next(fresh), rng.choice(CLASSES)) for _ in range(rng.randint(2, 14))]
    items += [rng.choice(items) for _ in range(rng.randint(0, 4))]  # a static film repeats frames
    rng.shuffle(items)
    stream, state, number_of = Written(folder / "stream", kind, rng), folder / "state", {}

    def written(items):
        path = stream.write(items)
        for i, entry in enumerate(open_stream(path).entries):
            stem = Path(entry.source).stem.removeprefix(stream.prefix)
            number_of[identified(entry).content] = items[i if kind == "film" else int(stem)][0]
        return path

    first = run(bundle, state, written(items), config, rng.randint(1, len(items)))
    assert first.n_taught + first.n_quarantined == first.n_frames > 0
    before = in_log(state, number_of)
    assert sum(before.values()) == first.n_frames
    final, moved = edited(items, edit, rng, fresh)
    if edit == "rename":
        stream.prefix = "again_"
    path = written(final)
    relabelled = before & Counter(moved)
    if relabelled:
        try:
            run(bundle, state, path, config)
        except LabelError as error:
            assert "--relabel" in str(error)
        else:
            raise AssertionError("a relabel was not asked about")
        assert in_log(state, number_of) == before
    expected = (before - relabelled) | Counter(final)
    if rng.random() < 0.3:
        run(bundle, state, path, config, rng.randint(1, len(final)), relabel=True)
    last = run(bundle, state, path, config, relabel=True)
    assert not last.interrupted
    assert in_log(state, number_of) == expected, (seed, kind, edit)
    again = run(bundle, state, path, config)
    assert (again.n_frames, again.n_known) == (0, len(final))
    return kind, edit


def check_cases(n, seed=0):
    bundle, seen = open_bundle(BUNDLE), Counter()
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    for i in range(n):
        with tempfile.TemporaryDirectory(dir=base) as folder:
            seen[check_case(bundle, Path(folder), seed + i)] += 1
    return seen


def test_a_changed_stream_is_learned_as_one_run_would_have():
    pytest.importorskip("cv2")
    assert sum(check_cases(100).values()) == 100


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for the network of the bundle
    for case, n in sorted(check_cases(*map(int, sys.argv[1:])).items()):
        print(*case, n)
    print("0 differences")
