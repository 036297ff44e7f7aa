import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.data.packs import open_pack, unpack
from plr_edge.errors import StreamError
from plr_edge.stream import open_stream


def jpeg(color="red"):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), color).save(buffer, "JPEG")
    return np.frombuffer(buffer.getvalue(), np.uint8)


def labels_of(stream):
    return [frame.label for frame in stream]


def write_turntable(folder, name):
    images = [jpeg(c) for c in ("red", "green", "blue", "white") * 2]
    offset = np.cumsum([0, *map(len, images)])
    axis, frame = np.repeat([0, 1], 4), np.tile(np.arange(4), 2)
    np.savez(folder / name, jpeg=np.concatenate(images), offset=offset, axis=axis, frame=frame)


def test_a_turntable_holds_out_every_fourth_frame_or_an_axis(tmp_path):
    write_turntable(tmp_path, "00_apple_1.npz")
    write_turntable(tmp_path, "01_apple_2.npz")
    assert labels_of(open_pack(tmp_path)) == ["apple_1"] * 6 + ["apple_2"] * 6
    tests = [frame.source[-2:] for frame in open_pack(tmp_path, split="test")]
    assert tests == ["#3", "#7"] * 2
    axis1 = [frame.source[-2:] for frame in open_pack(tmp_path / "00_apple_1.npz", split="axis1")]
    assert axis1 == ["#4", "#5", "#6", "#7"]
    assert len(list(open_pack(tmp_path, split="all", limit_per_class=3))) == 6


def test_grocery_follows_the_split_of_its_authors(tmp_path):
    (tmp_path / "classes.json").write_text('{"fine": ["Avocado", "Kiwi"]}')
    images = [jpeg() for _ in range(4)]
    np.savez(
        tmp_path / "00_fruit.npz", jpeg=np.concatenate(images),
        offset=np.cumsum([0, *map(len, images)]), fine=[1, 0, 1, 0], split=[0, 1, 2, 2],
    )  # fmt: skip
    assert labels_of(open_pack(tmp_path)) == ["Avocado", "Kiwi"]
    assert labels_of(open_pack(tmp_path, split="test")) == ["Avocado", "Kiwi"]


def test_cifar_differences_are_undone_exactly(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3)).astype(np.uint8)
    planes = np.stack([image[..., 1], image[..., 0] - image[..., 1], image[..., 2] - image[..., 1]])
    q = planes.copy()
    q[:, :, 1:, :] = planes[:, :, 1:] - planes[:, :, :-1]
    rows = q.copy()
    q[:, :, :, 1:] = rows[:, :, :, 1:] - rows[:, :, :, :-1]
    np.savez(tmp_path / "07_cat.npz", train_q=q, test_q=q[:, :1])
    frames = list(open_pack(tmp_path))
    np.testing.assert_array_equal(np.stack([f.image for f in frames]), image)
    assert len(list(open_pack(tmp_path, split="test"))) == 1


def test_grey_digits_become_rgb(tmp_path):
    x = np.zeros((3, 28, 28), np.uint8)
    np.savez(tmp_path / "digit_4.npz", train_x=x, test_x=x[:1])
    frames = list(open_pack(tmp_path))
    assert (frames[0].image.shape, frames[0].label) == ((28, 28, 3), "digit_4")


def test_a_file_of_several_classes_is_not_taken_for_one_class(tmp_path):
    x, y = np.zeros((3, 8, 8), np.uint8), np.arange(3)
    np.savez(tmp_path / "tiny.npz", train_x=x, train_y=y, test_x=x, test_y=y)
    with pytest.raises(StreamError, match="not a known image pack; it holds test_x, test_y"):
        open_pack(tmp_path)


def test_a_broken_pack_or_split_says_so(tmp_path):
    (tmp_path / "00_x.npz").write_bytes(b"PK\x03\x04broken")
    with pytest.raises(StreamError, match="not a complete image pack"):
        list(open_pack(tmp_path))
    with pytest.raises(StreamError, match="axis1"):
        open_pack(tmp_path, split="axis2")


@pytest.mark.parametrize("kind", ["jpeg", "pixels"])
def test_an_unpacked_pack_has_the_same_pixels_in_the_same_order(tmp_path, kind):
    if kind == "jpeg":
        write_turntable(tmp_path, "00_apple_1.npz")
    else:
        x = np.random.default_rng(0).integers(0, 256, (12, 8, 8)).astype(np.uint8)
        np.savez(tmp_path / "digit_4.npz", train_x=x[:9], test_x=x[9:])
    n = unpack(tmp_path, tmp_path / "folder")
    for split in ("train", "test", "all"):
        packed = list(open_pack(tmp_path, split=split))
        frames = list(open_stream(tmp_path / "folder", split=split))
        assert labels_of(frames) == labels_of(packed)
        for a, b in zip(frames, packed, strict=True):
            np.testing.assert_array_equal(a.image, b.image)
    assert n == len(frames)


@pytest.mark.data
@pytest.mark.parametrize(
    ("pack", "train", "test", "classes"),
    [
        ("cifar10-subset", 2500, 1000, 10),
        ("eth80", 2480, 800, 80),
        ("fruits-turntable", 3456, 1152, 64),
        ("grocery", 2936, 2485, 81),
        ("mnist", 60_000, 10_000, 10),
    ],
)
def test_packs_hold_what_their_readme_says(pack, train, test, classes):
    root = os.environ.get("PLR_EDGE_DATA")
    if not root:
        pytest.skip("set PLR_EDGE_DATA to the folder of the image packs")
    labels = labels_of(open_pack(Path(root) / pack))
    assert (len(labels), len(set(labels))) == (train, classes)
    assert len(labels_of(open_pack(Path(root) / pack, split="test"))) == test
