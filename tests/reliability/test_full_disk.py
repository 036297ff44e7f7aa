"""A full disk stops teaching, and nothing else; a restart on it works; space ends it."""

import os
import subprocess

import numpy as np
import pytest

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.errors import StateError
from plr_edge.runtime.session import Session
from plr_edge.store import UNDONE, Label, Store, repair


def label(i):
    rng = np.random.default_rng(i)
    return Label(
        name="a", predicted="b", source="f", time_ns=i,
        record=rng.integers(0, 256, 4000, dtype=np.uint8), taps=np.zeros(100, np.float16),
    )  # fmt: skip


@pytest.fixture(params=["tmpfs", "ext4"])
def small_disk(request, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    if request.param == "tmpfs":
        mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs"]
    else:
        image = tmp_path / "image"
        image.write_bytes(bytes(6 << 20))
        if subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=False).returncode:
            pytest.skip("mkfs.ext4 is not here")
        mount = ["mount", "-o", "loop", str(image)]
    mounted(*mount, str(disk))
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def mounted(*command):
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this container may not mount")


def fill(disk):
    """Take every byte that is left."""
    with open(disk / "filler", "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1 << 9, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                pass


def test_a_full_disk_loses_nothing_and_teaching_resumes_by_itself(small_disk):
    state = small_disk / "s"
    store = Store(state)
    taught = [store.teach([label(i)])[0] for i in range(20)]
    number = store.commit_generation({}, {"w": {"x": np.ones(9, np.float32)}}, in_use=[3])
    fill(small_disk)
    with pytest.raises(StateError, match="free some space"):
        for i in range(20, 400):
            taught.append(store.teach([label(i)])[0])
    with pytest.raises(StateError, match="free some space"):
        store.commit_generation({}, {"w": {"x": np.ones(9_000, np.float32)}})
    assert store.generations.read().generation == number  # it still answers
    store.close()
    with Store(state) as store:  # the restart, on the full disk
        held = store.labels.with_latents(list(store.labels))
        assert [x.seq for x in held] == taught
        np.testing.assert_array_equal(held[-1].record, label(len(taught) - 1).record)
        assert store.generations.read().generation == number
        (small_disk / "filler").unlink()
        assert store.teach([label(999)]) == [len(taught) + 1]
        assert store.commit_generation({}, {}) == number + 1


def test_on_a_full_disk_labels_are_taken_back_or_refused_and_a_repair_changes_nothing(small_disk):
    state = small_disk / "s"
    with Store(state) as store:
        for i in range(30):
            store.teach([label(i)])
    fill(small_disk)
    with Store(state) as store:
        try:
            assert store.mark([7], UNDONE, "test") == [7]
        except StateError as error:
            assert "free some space" in str(error)
        statuses = [x.status for x in store.labels]
        assert statuses.count(UNDONE) in (0, 1) and len(statuses) == 30
    data = bytearray((state / "store.db").read_bytes())
    data[2] ^= 1
    with open(state / "store.db", "r+b") as file:
        file.write(data[:16])
    with pytest.raises(StateError, match="plr-edge repair"):
        Store(state)
    try:
        repair(state)
    except StateError as error:
        assert "free some space" in str(error)
        assert not (state / "repairing.db").exists()
    (small_disk / "filler").unlink()
    assert repair(state).labels == 30
    with Store(state) as store:
        assert len(store.labels.with_latents(list(store.labels))) == 30


def test_a_disk_without_an_inode_left_refuses_generations_and_keeps_labels(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted("mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=12", "tmpfs", str(disk))
    try:
        with Store(disk / "s") as store:
            store.teach([label(1)])
            number = store.commit_generation({}, {"w": {"x": np.ones(9, np.float32)}})
            for i in range(20):
                try:
                    (disk / f"filler{i}").touch()
                except OSError:
                    break
            with pytest.raises(StateError, match="free some space"):
                store.commit_generation({}, {"w": {"x": np.ones(9, np.float32)}})
            assert store.generations.read().generation == number
            assert store.teach([label(2)]) == [2]
        with Store(disk / "s") as store:
            assert len(list(store.labels)) == 2
            assert store.generations.read().generation == number
            (disk / "filler0").unlink()
            (disk / "filler1").unlink()
            assert store.commit_generation({}, {}) == number + 1
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("small_disk", ["ext4"], indirect=True)
def test_a_disk_that_turned_read_only_still_answers(small_disk, bundle_path, demo_frames):
    """At the start after a kernel remounted it because of an error; before, EROFS is injected."""
    bundle, state = open_bundle(bundle_path), small_disk / "s"
    with Session(bundle, state, LearningConfig(train_ratio=0.0)) as session:
        session.observe_many(demo_frames[:24])
        before = [p.top for p in session.perception.predict_many(demo_frames[:24])]
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with Session(bundle, state, LearningConfig(train_ratio=0.0)) as session:
        again = session.perception.predict_many(demo_frames[:24])
        assert [p.top[0][0] for p in again] == [top[0][0] for top in before]
        with pytest.raises(StateError, match="cannot be written"):
            session.observe_many(demo_frames[24:30])
        assert session.store.last_seq == 24
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    with Session(bundle, state, LearningConfig(train_ratio=0.0)) as session:
        session.observe_many(demo_frames[24:30])
        assert session.store.last_seq == 30
