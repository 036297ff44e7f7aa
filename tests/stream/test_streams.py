import io
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from plr_edge.assets import FRUITS
from plr_edge.errors import LabelError, StreamError
from plr_edge.stream import check_label, decode_image, open_stream


def picture(path, color="red", size=(20, 12)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


def jpeg(color="red"):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), color).save(buffer, "JPEG")
    return np.frombuffer(buffer.getvalue(), np.uint8)


def labels_of(stream):
    return [frame.label for frame in stream]


def test_a_folder_of_classes_comes_class_by_class_in_natural_order(tmp_path):
    for name in ("mug", "drill"):
        for i in (10, 2, 1):
            picture(tmp_path / name / f"f{i}.png")
    frames = list(open_stream(tmp_path))
    assert [f.label for f in frames] == ["drill"] * 3 + ["mug"] * 3
    assert [os.path.basename(f.source) for f in frames[:3]] == ["f1.png", "f2.png", "f10.png"]
    assert [f.index for f in frames] == list(range(6))
    assert frames[0].image.shape == (12, 20, 3)


def test_a_flat_folder_has_no_labels(tmp_path):
    picture(tmp_path / "1.png")
    assert labels_of(open_stream(tmp_path)) == [None]


def test_a_csv_gives_order_labels_and_stamps(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    (tmp_path / "s.csv").write_text("path,label,stamp_ns\nb.png,mug,7\na.png,,9\n")
    frames = list(open_stream(tmp_path / "s.csv"))
    assert [(f.label, f.stamp_ns) for f in frames] == [("mug", 7), (None, 9)]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "path,stamp_ns\na.png,soon\n"])
def test_a_wrong_csv_says_so(tmp_path, text):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(StreamError, match=r"header|nanoseconds"):
        list(open_stream(tmp_path / "s.csv"))


def test_lines_are_read_as_they_come(tmp_path):
    picture(tmp_path / "a.png")
    lines = iter([f"{tmp_path}/a.png\tmug\n", f"{tmp_path}/a.png\n"])
    stream = open_stream("-", stdin=lines)
    frames = iter(stream)
    assert next(frames).label == "mug"
    assert next(lines).strip() == f"{tmp_path}/a.png"
    assert not stream.chunked


def test_resuming_decodes_nothing_before_the_start(tmp_path):
    for i in range(4):
        picture(tmp_path / f"{i}.png")
    (tmp_path / "0.png").write_bytes(b"broken")
    stream = open_stream(tmp_path)
    assert [frame.index for frame in stream.frames_from(2)] == [2, 3]
    assert stream.skipped == []


def test_decoding_turns_a_picture_upright():
    image = Image.new("RGB", (8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    assert decode_image(buffer.getvalue(), "x").shape == (8, 4, 3)


@pytest.mark.parametrize("data", [b"", b"GIF89a", jpeg().tobytes()[:100], b"\x89PNG\r\n\x1a\n" * 3])
def test_what_is_no_whole_image_is_refused(data):
    with pytest.raises(StreamError, match="x"):
        decode_image(data, "x")


def test_an_image_of_too_many_pixels_is_refused():
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    with pytest.raises(StreamError, match="too many pixels"):
        decode_image(buffer.getvalue(), "x")


@given(st.text())
def test_an_accepted_label_is_one_safe_line(label):
    try:
        check_label(label)
    except LabelError as error:
        assert "\n" not in str(error) and len(str(error)) < 200
        return
    assert label.strip() == label != ""
    assert not set(label) & set("/\\\n\r\t\0")
    assert len(label) <= 200


def write_turntable(folder, name):
    images = [jpeg(c) for c in ("red", "green", "blue", "white") * 2]
    offset = np.cumsum([0, *map(len, images)])
    axis, frame = np.repeat([0, 1], 4), np.tile(np.arange(4), 2)
    np.savez(folder / name, jpeg=np.concatenate(images), offset=offset, axis=axis, frame=frame)


def test_a_turntable_holds_out_every_fourth_frame_or_an_axis(tmp_path):
    write_turntable(tmp_path, "00_apple_1.npz")
    write_turntable(tmp_path, "01_apple_2.npz")
    assert labels_of(open_stream(tmp_path)) == ["apple_1"] * 6 + ["apple_2"] * 6
    tests = [frame.source[-2:] for frame in open_stream(tmp_path, split="test")]
    assert tests == ["#3", "#7"] * 2
    axis1 = [frame.source[-2:] for frame in open_stream(tmp_path / "00_apple_1.npz", split="axis1")]
    assert axis1 == ["#4", "#5", "#6", "#7"]
    assert len(list(open_stream(tmp_path, split="all", limit_per_class=3))) == 6


def test_grocery_follows_the_split_of_its_authors(tmp_path):
    (tmp_path / "classes.json").write_text('{"fine": ["Avocado", "Kiwi"]}')
    images = [jpeg() for _ in range(4)]
    np.savez(
        tmp_path / "00_fruit.npz", jpeg=np.concatenate(images),
        offset=np.cumsum([0, *map(len, images)]), fine=[1, 0, 1, 0], split=[0, 1, 2, 2],
    )  # fmt: skip
    assert labels_of(open_stream(tmp_path)) == ["Avocado", "Kiwi"]
    assert labels_of(open_stream(tmp_path, split="test")) == ["Avocado", "Kiwi"]


def test_cifar_differences_are_undone_exactly(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3)).astype(np.uint8)
    planes = np.stack([image[..., 1], image[..., 0] - image[..., 1], image[..., 2] - image[..., 1]])
    q = planes.copy()
    q[:, :, 1:, :] = planes[:, :, 1:] - planes[:, :, :-1]
    rows = q.copy()
    q[:, :, :, 1:] = rows[:, :, :, 1:] - rows[:, :, :, :-1]
    np.savez(tmp_path / "07_cat.npz", train_q=q, test_q=q[:, :1])
    frames = list(open_stream(tmp_path))
    np.testing.assert_array_equal(np.stack([f.image for f in frames]), image)
    assert len(list(open_stream(tmp_path, split="test"))) == 1


def test_grey_digits_become_rgb(tmp_path):
    x = np.zeros((3, 28, 28), np.uint8)
    np.savez(tmp_path / "digit_4.npz", train_x=x, test_x=x[:1])
    frames = list(open_stream(tmp_path))
    assert (frames[0].image.shape, frames[0].label) == ((28, 28, 3), "digit_4")


def test_a_broken_pack_or_split_says_so(tmp_path):
    (tmp_path / "00_x.npz").write_bytes(b"PK\x03\x04broken")
    with pytest.raises(StreamError, match="no whole image pack"):
        list(open_stream(tmp_path))
    with pytest.raises(StreamError, match="axis1"):
        open_stream(FRUITS, split="axis2")


def test_a_video_is_read_and_its_spans_are_labelled(tmp_path):
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 32))
    for value in (10, 200):
        for _ in range(5):
            writer.write(np.full((32, 32, 3), (value, 0, 0), np.uint8))  # blue in BGR
    writer.release()
    (tmp_path / "v.avi.csv").write_text("start_s,end_s,label\n0,0.45,dark\n")
    frames = list(open_stream(tmp_path / "v.avi"))
    assert [f.label for f in frames] == ["dark"] * 5 + [None] * 5
    assert frames[-1].image[0, 0, 2] > 150 > frames[0].image[0, 0, 2]
    assert frames[1].stamp_ns == pytest.approx(100_000_000, abs=2_000_000)


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
    labels = labels_of(open_stream(f"{root}/{pack}"))
    assert (len(labels), len(set(labels))) == (train, classes)
    assert len(labels_of(open_stream(f"{root}/{pack}", split="test"))) == test
