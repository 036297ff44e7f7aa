"""Damaged files are found, and never answer."""

import hashlib
import json
import os
import random
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from plr_edge.bundle.manifest import FILES, parse_manifest
from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.errors import BundleError, StateError
from plr_edge.runtime.perception import Perception
from plr_edge.runtime.session import Session
from plr_edge.store import Label, Store


def small_state(path):
    with Store(path) as store:
        for i in range(4):
            record, taps = np.full(24, i, np.uint8), np.full(4, i, np.float16)
            store.teach([Label(name=f"c{i}", predicted="x", source=f"f{i}", time_ns=i,
                               record=record, taps=taps)])  # fmt: skip
        for value in (1, 2):
            store.commit_generation(
                {"n": value}, {"w": {"x": np.full(4, value, np.float32)}}, in_use=[1, 2]
            )


def contents(path):
    with Store(path) as store:
        labels = [
            (x.seq, x.name, x.predicted, x.source, x.status, x.record.tobytes(), x.taps.tobytes())
            for x in store.labels.with_latents(list(store.labels))
        ]
        damage = store.generations.damage()
        state = store.generations.read()
        weights = None if state is None else (state.facts, state.arrays["w"]["x"].tolist())
        return labels, damage, weights, store.last_seq


def check_flips(quick_path, bits):
    """Flip bits of each byte of each file: noticed, or without any effect.

    Args:
        quick_path: where to work.
        bits: returns the bits of the byte at a position.
    """
    pristine = quick_path / "pristine"
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
        for at, bit in ((i, bit) for i in range(len(data)) for bit in bits(i)):
            n += 1
            work = quick_path / "work"
            shutil.copytree(pristine, work)
            flipped = data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]
            (work / file).write_bytes(flipped)
            try:
                found = contents(work)
            except StateError:
                pass
            else:
                noticed = bool(found[1]) and found[2] in (expected[2], older)
                if found != expected and not (noticed and found[0] == expected[0]):
                    silent.append((str(file), at, bit))
            shutil.rmtree(work)
    assert silent == []
    return n


@pytest.mark.parametrize("odd", [0, 1])  # in two, so that two processes may share them
def test_a_flip_in_any_byte_of_a_state_is_never_silent(quick_path, odd):
    assert check_flips(quick_path, lambda at: [at % 8] if at % 2 == odd else []) > 3_500


@pytest.mark.long
def test_every_flipped_bit_of_a_state_is_never_silent(quick_path):
    assert check_flips(quick_path, lambda at: range(8)) > 55_000


# a state as a robot has it: two generations of real weights


@pytest.fixture(scope="module")
def real_state(bundle_path, demo_frames):
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=base) as folder:
        path = Path(folder) / "s"
        with Session(open_bundle(bundle_path), path, LearningConfig(train_ratio=0.2)) as session:
            for start in range(0, len(demo_frames), 8):
                session.observe_many(demo_frames[start : start + 8])
                if start == 32:
                    session.save("test")
            session.finish()
        yield path


def digest_of(path):
    """What a state says of itself: labels, latents, damage, and the generation that answers."""
    with Store(path) as store:
        hashed = hashlib.blake2b()
        for x in store.labels.with_latents(list(store.labels)):
            hashed.update(repr((x.seq, x.name, x.predicted, x.source, x.status)).encode())
            hashed.update(x.record.tobytes() + x.taps.tobytes())
        damage = sorted(store.generations.damage())
        state = store.generations.read()
        arrays = hashlib.blake2b()
        for group in sorted(state.arrays) if state else []:
            for name, array in sorted(state.arrays[group].items()):
                arrays.update(f"{group} {name} {array.dtype} {array.shape}".encode())
                arrays.update(array.tobytes())
        return hashed.digest(), damage, state and state.generation, arrays.digest()


def harm(data: bytearray, others: list[bytes], rng: random.Random) -> bytearray:
    """Damage the bytes of a file as disks, cards and copies do."""
    at, kind = rng.randrange(len(data)), rng.randrange(7)
    block = at // 4096 * 4096
    if kind == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        for _ in range(rng.randint(2, 64)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif kind == 2:
        data[block : block + 4096] = bytes(len(data[block : block + 4096]))
    elif kind == 3:
        del data[at:]
    elif kind == 4:
        data += rng.randbytes(rng.randint(1, 5_000))
    elif kind == 5:  # an old block where a new one should be
        other = rng.randrange(len(data)) // 4096 * 4096
        data[block : block + 4096] = data[other : other + len(data[block : block + 4096])]
    else:  # a file of another generation, or of another part
        return bytearray(rng.choice(others))
    return data


def harmed(path, n, seed):
    """Damage one file after another in place; returns how many were noticed."""
    rng, silent, noticed = random.Random(seed), [], 0
    expected = digest_of(path)
    files = [p for p in sorted(path.rglob("*")) if p.is_file() and p.name != "lock"]
    contents = {file: file.read_bytes() for file in files}
    older = None
    for i in range(n):
        file = rng.choice(files)
        others = [contents[other] for other in files if other != file]
        changed = harm(bytearray(contents[file]), others, rng)
        file.write_bytes(changed)
        try:
            found = digest_of(path)
            if found != expected:
                older = older or found[3] if found[2] == expected[2] - 1 else older
                fallen_back = found[2] == expected[2] - 1 and found[3] == older
                still = found[2] == expected[2] and found[3] == expected[3]
                if found[0] != expected[0] or not found[1] or not (fallen_back or still):
                    silent.append((i, file.name))
                noticed += 1
        except StateError:
            noticed += 1
        for other, data in contents.items():
            if other == file or not other.exists():
                other.write_bytes(data)
    assert digest_of(path) == expected
    assert silent == []
    return noticed


def test_damage_to_a_real_state_is_never_silent(real_state):
    assert harmed(real_state, 80, 0) > 60


@pytest.mark.long
def test_ten_thousand_damages_to_a_real_state_are_never_silent(real_state):
    print(harmed(real_state, 10_000, 1))


def test_a_state_and_a_bundle_that_shrink_under_a_robot_do_not_kill_it(
    bundle_path, real_state, demo_frames, tmp_path
):
    """Nothing is mapped: a file that is cut under a map ends the process with SIGBUS."""
    shutil.copytree(bundle_path, tmp_path / "b")
    shutil.copytree(real_state, tmp_path / "s")
    perception = Perception.from_state(open_bundle(tmp_path / "b"), tmp_path / "s")
    before = [p.top for p in perception.predict_many(demo_frames[:8])]
    for file in [*(tmp_path / "b").rglob("*"), *(tmp_path / "s").rglob("*")]:
        if file.is_file():
            os.truncate(file, 0)
    assert [p.top for p in perception.predict_many(demo_frames[:8])] == before


# bundles


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


def test_every_flipped_byte_of_a_manifest_is_found_or_without_effect(bundle_path, tmp_path):
    """Unsigned, so that only its own digest can tell."""
    data = (bundle_path / "manifest.json").read_bytes()
    manifest, silent = json.loads(data), 0
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]
        try:
            assert parse_manifest(tmp_path, changed) == manifest  # it is only white space
            silent += 1
        except BundleError:
            pass
    assert silent < len(data) / 10


def test_a_member_that_is_swapped_after_the_check_is_not_used(bundle_path, tmp_path):
    shutil.copytree(bundle_path, tmp_path / "b")
    bundle = open_bundle(tmp_path / "b")
    for name in FILES:
        (tmp_path / "b" / name).write_bytes(b"another")
        with pytest.raises(BundleError, match="sha256"):
            bundle.read(name)


def test_a_bundle_is_written_whole_or_not_at_all(driven):
    facts = driven("bundle-cuts", 0.3, 0)
    assert facts["states"] > 10  # of three files and their folder
    assert facts["failures"] == []
    assert driven("bundle-cuts", 0.3, 0, "no sync of a bundle")["failures"]
