"""Whatever a camera, file, caller or client gives as a frame: an answer, or one clear line."""

import base64
import io
import json
import random
import resource
import threading

import numpy as np
import pytest
from PIL import Image
from reliability.mutations import mutated

from plr_edge.bundle.preprocessing import Preprocessing
from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.errors import StreamError
from plr_edge.runtime.session import Session
from plr_edge.stream.base import Frame
from plr_edge.stream.decode import decode_image


def peak_kb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# files


def pictures():
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    for kind in ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM"):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, kind)
        yield stream.getvalue()


def fuzz_files(n, seed):
    """Mutate image files; returns how many could be read."""
    rng, read = random.Random(seed), 0
    files = list(pictures())
    for _ in range(n):
        try:
            image = decode_image(mutated(rng.choice(files), rng), "fuzz")
            assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
            read += 1
        except StreamError as error:
            assert "\n" not in str(error)
    return read


def test_mutated_images_are_read_or_refused_in_bounded_memory():
    fuzz_files(500, 1)
    before = peak_kb()
    assert 0 < fuzz_files(10_000, 0) < 10_000
    assert peak_kb() - before < 400_000  # one image may have 89 million pixels, and is dropped


@pytest.mark.long
def test_a_hundred_thousand_mutated_images():
    print(fuzz_files(100_000, 2), peak_kb())


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n" + bytes(30), b"BM" + b"\xff" * 60,
     b"P6 20000 20000 255\n" + bytes(100), b"P6 0 0 255\n"],
    ids=["empty", "jpeg head", "png head", "bmp of ones", "huge header", "0x0"],
)  # fmt: skip
def test_images_that_are_none_are_refused(data):
    with pytest.raises(StreamError):
        decode_image(data, "x")


# arrays

DTYPES = [*["u1"] * 15, "i1", "?", "<u2", ">u2", "<i4", "<i8", "<f2", "<f4", "<f8", "<c8", "O",
          "U3", "S2", "V4", "M8[s]"]  # fmt: skip
SIDES = [0, 1, 2, 3, 5, 8, 17, 31, 50, 64]


def strange_array(rng: random.Random) -> object:
    """Return an array of any type, shape and memory, or something that is none."""
    if rng.random() < 0.05:
        return rng.choice([None, b"\xff\xd8", [[[1, 2, 3]]], 7, "photo.jpg", np.uint8(3), object()])
    shape = [rng.choice(SIDES), rng.choice(SIDES), rng.choice([3, 3, 3, 3, 3, 1, 4, 0])]
    shape = shape[: rng.choice([3, 3, 3, 3, 3, 3, 2, 1, 0])] + [2] * (rng.random() < 0.05)
    dtype = np.dtype(rng.choice(DTYPES))
    made = np.zeros(shape, dtype)
    if dtype.kind == "f" and made.size:
        made.flat[0] = rng.choice([np.nan, np.inf, -np.inf, 1e4])
    if made.ndim == 3:
        how = rng.randrange(8)
        if how == 0:
            made = made[::-1, ::-1]
        elif how == 1:
            made = made[..., ::-1]
        elif how == 2:
            made = made.transpose(1, 0, 2)
        elif how == 3:
            made = np.asfortranarray(made)
        elif how == 4 and made.size:
            side = rng.choice([5, 200_000])
            made = np.broadcast_to(made[:1, :1], (side, side, made.shape[2]))
        elif how == 5:
            made = made[::2, 1::3]
        elif how == 6:
            made.setflags(write=False)
        elif how == 7:
            made = np.ma.masked_array(made, True)
    return made


def is_picture(image: object) -> bool:
    fits = isinstance(image, np.ndarray) and image.ndim == 3 and image.dtype == np.uint8
    return fits and image.shape[2] == 3 and 0 < image.size < 3e8


def fuzz_arrays(n, seed):
    """Prepare strange arrays for a network; returns how many were pictures."""
    rng, taken = random.Random(seed), 0
    prepare = Preprocessing(size=32, mean=(120.0, 110.0, 100.0), std=(60.0, 60.0, 60.0))
    for _ in range(n):
        image = strange_array(rng)
        try:
            x = prepare([image])
        except StreamError as error:
            assert not is_picture(image) and "\n" not in str(error) and len(str(error)) < 200
            continue
        assert is_picture(image)
        assert x.shape == (1, 3, 32, 32) and x.dtype == np.float32 and np.isfinite(x).all()
        taken += 1
    return taken


def test_strange_arrays_are_pictures_or_refused_in_bounded_memory():
    before = peak_kb()
    assert 500 < fuzz_arrays(10_000, 0) < 9_000
    assert peak_kb() - before < 100_000


@pytest.mark.long
def test_a_hundred_thousand_strange_arrays():
    print(fuzz_arrays(100_000, 1), peak_kb())


def test_the_same_picture_in_any_memory_is_answered_alike():
    prepare = Preprocessing(size=16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    plain = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    flipped = np.ascontiguousarray(plain[::-1, ::-1])
    twice = np.repeat(np.repeat(plain, 2, axis=0), 3, axis=1)
    for image in (np.asfortranarray(plain), flipped[::-1, ::-1], twice[::2, ::3],
                  np.ascontiguousarray(plain[..., ::-1])[..., ::-1]):  # fmt: skip
        assert image.strides != plain.strides
        np.testing.assert_array_equal(prepare([image]), prepare([plain]))


def test_a_session_is_taught_by_pictures_alone(bundle_path, demo_frames, quick_path):
    rng, n_pictures = random.Random(1), 0
    with Session(open_bundle(bundle_path), quick_path / "s", LearningConfig()) as session:
        for frame in demo_frames[:12]:
            session.observe_many([frame])
        for i in range(300):
            image = strange_array(rng)
            try:
                session.observe_many([Frame(image, "strange", i, "x", i)])
                n_pictures += 1
                assert is_picture(image)
            except StreamError:
                assert not is_picture(image)
        assert session.store.last_seq == 12 + n_pictures
        assert {x.name for x in session.store.labels} == {demo_frames[0].label, "strange"}


def test_a_camera_that_is_frozen_black_or_of_another_time_costs_nothing(
    bundle_path, demo_frames, quick_path
):
    black = np.zeros((48, 64, 3), np.uint8)
    with Session(open_bundle(bundle_path), quick_path / "s", LearningConfig()) as session:
        session.observe_many(demo_frames[:12])
        before = session.perception.predict_many(demo_frames[12:14])
        stamps = [5, 4, 0, -(10**18), 2**62, 7]
        frames = [Frame(black, None, stamp, "camera", i) for i, stamp in enumerate(stamps)]
        frames += [Frame(demo_frames[0].image, None, 9, "camera", i) for i in range(50)]
        answers = session.observe_many(frames)
        assert [a.stamp_ns for a in answers[:6]] == stamps
        assert len({json.dumps(a.top) for a in answers[6:]}) == 1
        after = session.perception.predict_many(demo_frames[12:14])
        assert [a.top for a in after] == [b.top for b in before]
        assert session.store.last_seq == 12


# by HTTP


@pytest.fixture(scope="module")
def client(bundle_path, tmp_path_factory):
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    from fastapi.testclient import TestClient

    from plr_edge.robot.governor import Budget, Governor
    from plr_edge.robot.online_model import OnlineModel
    from plr_edge.robot.robot import Robot
    from plr_edge.serve.api import make_app

    bundle = open_bundle(bundle_path)
    model = OnlineModel(bundle, tmp_path_factory.mktemp("live") / "s", LearningConfig())
    model.trainer.process.given_up = True  # frames are the matter here
    robot = Robot(model, Governor(Budget(), model.schedule, [0.01] * len(bundle.levels)))
    thread = threading.Thread(target=robot.run)
    thread.start()
    yield TestClient(make_app(robot, "token")), robot
    robot.stop()
    thread.join(20)
    model.close()


def fuzz_http(client, robot, n, seed):
    """Send mutated images and bodies; returns answers by status."""
    rng, statuses, taught = random.Random(seed), {}, 0
    files = list(pictures())
    headers = {"Authorization": "Bearer token", "Content-Type": "application/json"}
    for i in range(n):
        image = base64.b64encode(mutated(rng.choice(files), rng)).decode()
        path = rng.choice(["/predict", "/teach"])
        body = {"images": [image]} if path == "/predict" else {"images": [image], "label": "fuzz"}
        data = json.dumps(body).encode()
        if i % 3 == 0:
            data = mutated(data, rng)
        answer = client.post(path, content=data, headers=headers)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        assert answer.status_code in (200, 400, 413, 422), answer.text
        assert "Traceback" not in answer.text
        taught += answer.json()["taught"] if answer.status_code == 200 and path == "/teach" else 0
    assert robot.model.store.last_seq == taught
    assert client.get("/health").json()["state"] in ("serving", "degraded")
    return statuses


def test_mutated_images_by_http_are_answered_or_refused(client):
    statuses = fuzz_http(*client, 250, 0)
    assert set(statuses) > {200, 422}


@pytest.mark.long
def test_ten_thousand_mutated_images_by_http(client):
    before = peak_kb()
    print(fuzz_http(*client, 10_000, 1), peak_kb() - before)
