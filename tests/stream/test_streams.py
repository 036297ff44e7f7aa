import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

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


def test_the_embedded_film_is_the_same_as_ever():
    """Pixels, labels, stamps and order of every frame."""
    digests = {
        "train": "035100a1cb3f4ca0da325051a84bc44649ca2ce60eb6798c6c5e87d94510f581",
        "test": "00d827f4c2dcc839ac0645d8cb8681c8754f9b25dd298dc20a54931c4c8535c1",
        "all": "59d72d2fd775f8f4ac186780398af641c5cdb4d49436167d36256f00c6d25e7b",
    }
    for split, expected in digests.items():
        digest = hashlib.sha256()
        for f in open_stream("demo", split=split):
            digest.update(f.image.tobytes())
            digest.update(f"{f.image.shape}{f.label}{f.stamp_ns}{f.index}".encode())
        assert digest.hexdigest() == expected, split


def test_a_folder_with_train_and_test_has_splits(tmp_path):
    for part, numbers in (("train", (1, 2, 4)), ("test", (3, 10))):
        for name in ("mug", "drill"):
            for i in numbers:
                picture(tmp_path / part / name / f"{i}.png")

    def shown(split):
        return [(f.label, Path(f.source).stem) for f in open_stream(tmp_path, split=split)]

    assert shown("train") == [(c, i) for c in ("drill", "mug") for i in "124"]
    assert shown("test") == [(c, i) for c in ("drill", "mug") for i in ("3", "10")]
    assert shown("all") == [(c, i) for c in ("drill", "mug") for i in ("1", "2", "3", "4", "10")]
    assert len(list(open_stream(tmp_path, split="all", limit_per_class=2))) == 4


def test_classes_may_be_called_train_and_test(tmp_path):
    for name in ("train", "test"):
        picture(tmp_path / name / "1.png")
    assert labels_of(open_stream(tmp_path)) == ["test", "train"]


def test_a_source_without_a_held_out_part_says_so(tmp_path):
    picture(tmp_path / "mug" / "1.png")
    for spec in (tmp_path, "-"):
        with pytest.raises(StreamError, match="no split 'test'; only `demo` and folders"):
            open_stream(spec, split="test", stdin=[])
    assert labels_of(open_stream(tmp_path, split="all")) == ["mug"]
    with pytest.raises(StreamError, match="train, val, test, all"):
        open_stream("demo", split="axis1")


@pytest.mark.parametrize("spec", ["packs", "packs/00_cup.npz"])
def test_an_image_pack_is_left_to_the_benchmarks(tmp_path, plr_edge, spec):
    (tmp_path / "packs").mkdir()
    np.savez(tmp_path / "packs" / "00_cup.npz", x=np.zeros(3))
    with pytest.raises(StreamError, match="which only the benchmarks read"):
        open_stream(tmp_path / spec)
    result = plr_edge("adapt", "bundle", str(tmp_path / spec), "--state", str(tmp_path / "s"))
    assert result.exit_code == 2 and "Traceback" not in result.output


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
