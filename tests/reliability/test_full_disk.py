"""A full disk stops teaching, and nothing else; a restart on it works; space ends it."""

import os
import subprocess

import numpy as np
import pytest

from plr_edge.errors import StateError
from plr_edge.store import Label, Store


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
        mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    else:
        image = tmp_path / "image"
        image.write_bytes(bytes(6 << 20))
        if subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=False).returncode:
            pytest.skip("mkfs.ext4 is not here")
        mount = ["mount", "-o", "loop", str(image), str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this container may not mount")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


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
    number = store.publish({}, {"w": {"x": np.ones(9, np.float32)}}, in_use=[3])
    fill(small_disk)
    with pytest.raises(StateError, match="free some space"):
        for i in range(20, 400):
            taught.append(store.teach([label(i)])[0])
    with pytest.raises(StateError, match="free some space"):
        store.publish({}, {"w": {"x": np.ones(9_000, np.float32)}})
    assert store.read().generation == number  # it still answers
    store.close()
    with Store(state) as store:  # the restart, on the full disk
        held = store.with_latents(list(store.labels()))
        assert [x.seq for x in held] == taught
        np.testing.assert_array_equal(held[-1].record, label(len(taught) - 1).record)
        assert store.read().generation == number
        (small_disk / "filler").unlink()
        assert store.teach([label(999)]) == [len(taught) + 1]
        assert store.publish({}, {}) == number + 1
