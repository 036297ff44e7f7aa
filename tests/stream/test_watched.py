"""A watched folder while other programs write into it, with inotify and by polling."""

import importlib.util
import io
import os
import threading
import time

import numpy as np
import pytest
from PIL import Image

from plr_edge.errors import StreamError
from plr_edge.stream import watched
from plr_edge.stream.live_source import open_live
from plr_edge.stream.watched import WatchedFolder


@pytest.fixture(params=["watchfiles", "polling"])
def frames(request, tmp_path, monkeypatch):
    """Frames of a folder as they come; `tmp_path` holds old.png from before."""
    found = importlib.util.find_spec
    if request.param == "polling":
        monkeypatch.setattr(
            watched.importlib.util, "find_spec",
            lambda name, *rest: None if name == "watchfiles" else found(name, *rest),
        )  # fmt: skip
    elif found("watchfiles") is None:
        pytest.skip("watchfiles is not installed")
    save(tmp_path / "old.png", 1)
    stop, taken = threading.Event(), Taken()
    source = open_live(str(tmp_path), stop)
    thread = threading.Thread(target=lambda: taken.extend_from(source))
    thread.start()
    time.sleep(0.3)
    yield taken
    stop.set()
    thread.join(5)
    assert not thread.is_alive()


class Taken(list):
    def extend_from(self, source):
        for frame in source:
            self.append((frame.source, int(frame.image[0, 0, 0])))

    def wait_for(self, expected, seconds=8.0):
        deadline = time.monotonic() + seconds
        while sorted(self) != sorted(expected) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)  # nothing more comes
        assert sorted(self) == sorted(expected)


def png(value, side=64):
    stream = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(stream, "PNG", compress_level=0)
    return stream.getvalue()


def save(path, value):
    path.write_bytes(png(value))


def test_an_upload_that_pauses_is_taken_when_it_is_complete(tmp_path, frames):
    data = png(7)
    with open(tmp_path / "slow.png", "wb") as file:
        for part in (data[:300], data[300:5000], data[5000:]):
            file.write(part)
            file.flush()
            time.sleep(0.7)
            assert frames == [] or part is not data[:300]
    frames.wait_for([("slow.png", 7)])


def test_a_file_that_is_written_again_is_taken_again(tmp_path, frames):
    save(tmp_path / "snapshot.png", 1)
    frames.wait_for([("snapshot.png", 1)])
    save(tmp_path / "snapshot.png", 2)  # of the same size
    frames.wait_for([("snapshot.png", 1), ("snapshot.png", 2)])
    save(tmp_path / "part", 3)
    os.replace(tmp_path / "part", tmp_path / "snapshot.png")
    frames.wait_for([("snapshot.png", 1), ("snapshot.png", 2), ("snapshot.png", 3)])
    save(tmp_path / "old.png", 4)  # that was there before
    frames.wait_for([("snapshot.png", n) for n in (1, 2, 3)] + [("old.png", 4)])


def test_only_regular_files_are_opened(tmp_path, frames):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "missing.png")
    (tmp_path / "folder.png").mkdir()
    save(tmp_path / "IMG_1.PNG", 5)
    save(tmp_path / "elsewhere.bin", 6)
    (tmp_path / "link.png").symlink_to(tmp_path / "elsewhere.bin")
    frames.wait_for([("IMG_1.PNG", 5), ("link.png", 6)])


def test_many_files_come_in_natural_order(tmp_path, frames):
    for n in (10, 9, 2, 1):
        save(tmp_path / f"part{n}", n)
    for n in (10, 9, 2, 1):
        os.replace(tmp_path / f"part{n}", tmp_path / f"f{n}.png")
    frames.wait_for([(f"f{n}.png", n) for n in (1, 2, 9, 10)])


def test_a_folder_that_comes_back_is_watched_again(tmp_path, frames):
    os.rename(tmp_path, tmp_path.with_name("away"))
    time.sleep(0.5)
    os.rename(tmp_path.with_name("away"), tmp_path)
    save(tmp_path / "new.png", 8)
    frames.wait_for([("new.png", 8)])


def test_what_stays_damaged_is_reported_once_and_read_when_it_changes(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(watched, "_LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(watched, "_LIST_EVERY_S", 0.05)
    monkeypatch.setattr(watched, "_WARN_AFTER_S", 0.2)
    monkeypatch.setattr(watched, "_MAX_BYTES", 100_000)
    folder, stop, names = WatchedFolder(tmp_path), threading.Event(), []
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "large.png").write_bytes(bytes(100_001))
    (tmp_path / "film.mp4").write_bytes(b"film")
    began = time.monotonic()
    for frame in folder.frames(stop):
        if frame is not None:
            names.append(frame.source)
            stop.set()
        elif time.monotonic() - began > 0.8 and not names:
            save(tmp_path / "bad.png", 9)
            began = float("inf")
    assert names == ["bad.png"]
    skipped = [r.getMessage() for r in caplog.records if "skipped" in r.getMessage()]
    assert len(skipped) == 2 and any("MB" in text for text in skipped)
    assert sum("film.mp4" in r.getMessage() for r in caplog.records) == 1


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path):
    with pytest.raises(StreamError, match="cannot read"):
        WatchedFolder(tmp_path / "missing")


def test_a_folder_of_class_folders_is_watched(tmp_path, frames):
    for n, name in enumerate(("mug", "cup", "a/b")):
        (tmp_path / name).mkdir(parents=True)
        save(tmp_path / name / "1.png", n)
    (tmp_path / ".hidden").mkdir()
    save(tmp_path / ".hidden" / "1.png", 7)
    (tmp_path / "elsewhere").symlink_to(tmp_path)  # a loop
    frames.wait_for([("mug/1.png", 0), ("cup/1.png", 1), ("a/b/1.png", 2)])
    save(tmp_path / "mug" / "10.png", 8)
    save(tmp_path / "mug" / "2.png", 9)
    frames.wait_for(
        [("mug/1.png", 0), ("cup/1.png", 1), ("a/b/1.png", 2), ("mug/2.png", 9), ("mug/10.png", 8)]
    )


def test_a_folder_that_holds_class_folders_from_the_start_is_no_film(tmp_path):
    (tmp_path / "mug").mkdir()
    save(tmp_path / "mug" / "old.png", 1)
    assert open_live(str(tmp_path), threading.Event()).kind == "folder"
    assert open_live(str(tmp_path), threading.Event(), rate=100.0).kind == "film"
