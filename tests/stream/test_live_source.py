import threading
import time

import numpy as np
import pytest
from PIL import Image

from plr_edge.errors import MissingExtraError, StreamError
from plr_edge.stream.live_source import open_live


def collected(source, n):
    frames = []
    for frame in source:
        frames.append((time.monotonic(), frame))
        if len(frames) == n:
            break
    return frames


def test_a_film_is_played_at_its_rate_without_its_labels():
    stop = threading.Event()
    frames = collected(open_live("demo", stop, rate=50.0), 11)
    passed = frames[-1][0] - frames[0][0]
    assert 0.19 < passed < 1.0  # ten periods of 20 ms; a busy machine is late, never early
    assert all(frame.label is None for _, frame in frames)
    stamps = [frame.stamp_ns for _, frame in frames]
    assert stamps == sorted(stamps) and abs(stamps[0] / 1e9 - time.time()) < 60


def test_a_film_that_is_stopped_ends():
    stop = threading.Event()
    source = open_live("demo", stop, rate=1.0)
    next(source)
    stop.set()
    assert list(source) == []


def test_images_that_appear_in_a_folder_are_taken_once_and_only_whole(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "old.png")
    stop, frames = threading.Event(), []
    source = open_live(str(tmp_path), stop)
    thread = threading.Thread(target=lambda: frames.extend(source))
    thread.start()
    time.sleep(0.3)
    for name in ("b.png", "a.png"):
        Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(tmp_path / name)
    (tmp_path / "damaged.png").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("x")
    time.sleep(1.2)
    stop.set()
    thread.join(5)
    assert sorted(frame.source for frame in frames) == ["a.png", "b.png"]


@pytest.mark.parametrize("source", ["99", "/dev/video99", "rtsp://127.0.0.1:1/x"])
def test_a_camera_that_is_not_there_is_named(source, monkeypatch):
    if source.startswith("rtsp"):
        pytest.importorskip("cv2")
    with pytest.raises((StreamError, MissingExtraError), match=r"camera|OpenCV"):
        open_live(source, threading.Event())


def test_a_source_that_is_none_is_refused(tmp_path):
    with pytest.raises(StreamError, match="there is no"):
        next(open_live(str(tmp_path / "nothing"), threading.Event()))
