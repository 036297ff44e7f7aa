"""Damaged files are found, and never answer."""

import random
import shutil

import numpy as np
import pytest

from plr_edge.bundle import FILES, open_bundle
from plr_edge.errors import BundleError, StateError
from plr_edge.store import Label, Store


def small_state(path):
    with Store(path) as store:
        for i in range(4):
            record, taps = np.full(24, i, np.uint8), np.full(4, i, np.float16)
            store.teach([Label(name=f"c{i}", predicted="x", source=f"f{i}", time_ns=i,
                               record=record, taps=taps)])  # fmt: skip
        for value in (1, 2):
            store.publish({"n": value}, {"w": {"x": np.full(4, value, np.float32)}}, in_use=[1, 2])


def contents(path):
    with Store(path) as store:
        labels = [
            (x.seq, x.name, x.predicted, x.source, x.status, x.record.tobytes(), x.taps.tobytes())
            for x in store.with_latents(list(store.labels()))
        ]
        damage = store.damage()
        state = store.read()
        weights = None if state is None else (state.facts, state.arrays["w"]["x"].tolist())
        return labels, damage, weights, store.last_seq


def check_flips(tmp_path, positions):
    """Flip a bit at positions of each file: noticed, or without any effect."""
    pristine = tmp_path / "pristine"
    small_state(pristine)
    expected = contents(pristine)
    older = ({"n": 1, "upto": 4, "in_use": [1, 2]}, [1.0] * 4)
    files = [p.relative_to(pristine) for p in pristine.rglob("*") if p.is_file()]
    assert len(files) == 6  # the database, the lock, and two files for each generation
    silent, n = [], 0
    for file in files:
        if file.name == "lock":
            continue
        data = (pristine / file).read_bytes()
        for at in positions(len(data)):
            n += 1
            work = tmp_path / "work"
            shutil.copytree(pristine, work)
            flipped = data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]
            (work / file).write_bytes(flipped)
            try:
                found = contents(work)
            except StateError:
                pass
            else:
                noticed = bool(found[1]) and found[2] in (expected[2], older)
                if found != expected and not (noticed and found[0] == expected[0]):
                    silent.append((str(file), at))
            shutil.rmtree(work)
    assert silent == []
    return n


def test_flipped_bits_of_a_state_are_never_silent(tmp_path):
    rng = random.Random(0)
    check_flips(tmp_path, lambda size: sorted(rng.sample(range(size), min(size, 400))))


@pytest.mark.long
def test_every_flipped_byte_of_a_state_is_never_silent(tmp_path):
    assert check_flips(tmp_path, range) > 25_000


def test_flipped_bytes_of_a_bundle_are_found(bundle_path, tmp_path):
    copy, rng = tmp_path / "b", random.Random(0)
    shutil.copytree(bundle_path, copy)
    for name in FILES:
        data = bytearray((copy / name).read_bytes())
        for at in rng.sample(range(len(data)), 60):
            data[at] ^= 1 << at % 8
            (copy / name).write_bytes(data)
            with pytest.raises(BundleError, match="sha256"):
                open_bundle(copy)
            data[at] ^= 1 << at % 8
        (copy / name).write_bytes(data)
    open_bundle(copy)
