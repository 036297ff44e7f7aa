import re
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

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


@pytest.mark.alone
def test_a_film_is_played_at_its_rate_without_its_labels():
    stop = threading.Event()
    frames = collected(open_live("demo", stop, rate=50.0), 11)
    passed = frames[-1][0] - frames[0][0]
    assert 0.19 < passed < 5.0  # ten periods of 20 ms; a busy machine is late, never early
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


class FakeCamera:
    """An OpenCV whose cameras give what a test says: images, None for a failure, or an error."""

    CAP_ANY, CAP_FFMPEG, CAP_GSTREAMER = 0, 1900, 1800
    CAP_PROP_OPEN_TIMEOUT_MSEC, CAP_PROP_READ_TIMEOUT_MSEC = 53, 54
    __version__ = "5.0.0"

    def __init__(self, monkeypatch, *scripts, gstreamer="YES"):
        self.scripts, self.opened, self.n_released = list(scripts), [], 0
        self.gstreamer = gstreamer
        monkeypatch.setitem(sys.modules, "cv2", self)
        monkeypatch.setattr("plr_edge.stream.live_source._PAUSES_S", (0.01,))
        monkeypatch.setattr("plr_edge.stream.live_source._FAILING_S", 0.05)

    def getBuildInformation(self):
        return f"Video I/O:\n    FFMPEG:   YES\n    GStreamer:    {self.gstreamer}\n"

    def VideoCapture(self, *arguments):
        self.opened.append(arguments)
        script = self.scripts.pop(0) if self.scripts else None
        images = iter(script or [])

        def release():
            self.n_released += 1

        def read():
            image = next(images, None)
            return image is not None, image

        return SimpleNamespace(isOpened=lambda: script is not None, read=read, release=release)


BGR = np.array([[[10, 20, 30]]], np.uint8)


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        ("0", (0, 0)),
        ("/dev/video0", ("/dev/video0", 0)),
        ("/dev/v4l/by-id/usb-cam", ("/dev/v4l/by-id/usb-cam", 0)),
        ("v4l2src ! appsink", ("v4l2src ! appsink", 1800)),
        ("rtsp://cam/1", ("rtsp://cam/1", 1900, [53, 5000, 54, 5000])),
        ("http://cam/x.mjpg", ("http://cam/x.mjpg", 1900, [53, 5000, 54, 5000])),
    ],
)
def test_every_kind_of_camera_is_opened_as_opencv_wants_it(source, arguments, monkeypatch):
    fake = FakeCamera(monkeypatch, [BGR, BGR[..., 0], np.dstack([BGR, BGR[..., :1]])])
    stop = threading.Event()
    camera = open_live(source, stop)
    frames = [next(camera) for _ in range(3)]
    assert fake.opened == [arguments] and camera.kind == "camera"
    assert [frame.image.tolist() for frame in frames] == [
        [[[30, 20, 10]]],  # BGR
        [[[10, 10, 10]]],  # grey
        [[[30, 20, 10]]],  # with alpha
    ]
    assert [frame.source for frame in frames] == ["camera#0", "camera#1", "camera#2"]
    assert abs(frames[0].stamp_ns / 1e9 - time.time()) < 60
    stop.set()
    assert list(camera) == [] and fake.n_released == 1


def test_a_camera_that_fails_is_opened_again_and_says_so_meanwhile(monkeypatch):
    fake = FakeCamera(monkeypatch, [BGR, None, BGR], None, None, [BGR])
    camera = open_live("0", threading.Event())
    assert [next(camera).index for _ in range(2)] == [0, 1]  # one failure is none
    troubles, took = [], []

    def opened_again(*arguments, real=fake.VideoCapture):
        troubles.append(camera.trouble)
        return real(*arguments)

    monkeypatch.setattr(fake, "VideoCapture", opened_again)
    took.append(next(camera))
    assert took[0].index == 2 and camera.trouble == ""
    assert len(troubles) == 3 and all("delivers no frames" in text for text in troubles)
    assert fake.n_released == 1
    assert camera.calls.since_s is None


@pytest.mark.parametrize(("gstreamer", "built"), [("YES (1.20.3)", "with"), ("NO", "without")])
def test_a_camera_that_is_not_there_is_named_with_what_opencv_can(gstreamer, built, monkeypatch):
    FakeCamera(monkeypatch, gstreamer=gstreamer)
    for source in ("99", "/dev/video99", "rtsp://127.0.0.1:1/x", "http://127.0.0.1:1/x"):
        stop = threading.Event()
        camera = open_live(source, stop)  # it may be connected later
        thread = threading.Thread(target=lambda c=camera: list(c))
        thread.start()
        wait_for(lambda c=camera: c.trouble)
        stop.set()
        thread.join(5)
        assert re.search(f"cannot open the camera.*built {built} GStreamer", camera.trouble)


@pytest.mark.parametrize("pipeline", ["nvarguscamerasrc ! appsink", "videotestsrc ! appsink"])
def test_a_pipeline_needs_an_opencv_with_gstreamer(pipeline, monkeypatch):
    FakeCamera(monkeypatch, [BGR], gstreamer="NO")
    with pytest.raises(StreamError, match=r"needs an OpenCV with GStreamer.*python3-opencv") as no:
        open_live(pipeline, threading.Event())
    assert not no.value.can_pass
    FakeCamera(monkeypatch, [BGR], gstreamer="YES (1.20.3)")
    assert next(open_live(pipeline, threading.Event())).index == 0


def test_without_opencv_a_camera_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"plr-edge\[video\]"):
        open_live("0", threading.Event())


def test_a_folder_that_goes_away_and_comes_back(tmp_path):
    folder, stop, frames = tmp_path / "in", threading.Event(), []
    folder.mkdir()
    source = open_live(str(folder), stop)
    thread = threading.Thread(target=lambda: frames.extend(source))
    thread.start()
    folder.rename(tmp_path / "gone")
    wait_for(lambda: "cannot read" in source.trouble)
    folder.mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "new.png")
    wait_for(lambda: frames)
    stop.set()
    thread.join(5)
    assert (source.kind, source.trouble, frames[0].source) == ("folder", "", "new.png")


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_source_that_is_none_is_refused(tmp_path):
    with pytest.raises(StreamError, match=r"there is no .*nothing") as missing:
        next(open_live(str(tmp_path / "nothing"), threading.Event()))
    assert missing.value.can_pass  # what it is on may be mounted later
    for wrong in ("ftp://camera/1", "htp://camera/1", str(Path(__file__))):
        with pytest.raises(StreamError) as error:
            open_live(wrong, threading.Event())
        assert not error.value.can_pass
    for source in ("0", "rtsp://camera/1"):
        with pytest.raises(StreamError, match="a camera has neither"):
            open_live(source, threading.Event(), rate=5.0)


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://admin:hunter2@cam:554/s", "rtsp://***@cam:554/s"),
        (
            "http://cam/video?user=me&password=hunter2&w=3",
            "http://cam/video?user=***&password=***&w=3",
        ),
        ("rtspsrc location=rtsp://a:hunter2@c user-pw=hunter2 ! appsink", "hunter2 never"),
    ],
)
def test_the_name_of_a_camera_holds_no_password(source, shown, monkeypatch):
    FakeCamera(monkeypatch)
    camera = open_live(source, threading.Event())
    assert "hunter2" not in camera.name
    assert shown == "hunter2 never" or shown in camera.name
