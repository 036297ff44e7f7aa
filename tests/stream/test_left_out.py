"""What folders, lists and spans could lose without a word, and do not."""

import shutil

import numpy as np
import pytest
from PIL import Image

from plr_edge.errors import StreamError
from plr_edge.stream import open_stream
from plr_edge.stream.folder import held_out_split
from plr_edge.stream.pixels import PixelRange
from plr_edge.stream.spans import Spans


@pytest.fixture
def put(tmp_path):
    def write(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (len(name), 0, 0)).save(tmp_path / name, "PNG")
        return tmp_path

    return write


def labels_of(stream):
    return [frame.label for frame in stream]


@pytest.mark.parametrize("top", ["fruits", "images", "home/me/fruits"])
def test_a_data_set_one_folder_deeper_keeps_its_splits(put, top):
    root = put(f"{top}/train/mug/1.png", f"{top}/val/mug/2.png", f"{top}/train/cup/3.png")
    root = root / "home/me" if top.startswith("home") else root
    (root / "labels.yaml").write_text("x")
    stream = open_stream(root)
    assert labels_of(stream) == ["cup", "mug"] and "not val/" in stream.notes[0]
    assert "labels.yaml" in stream.notes[1]
    assert labels_of(open_stream(root, split="val")) == ["mug"] and held_out_split(root) == "val"


@pytest.mark.parametrize("name", ["dev", "Eval", "evaluation"])
def test_other_names_of_a_held_out_part(put, name):
    assert labels_of(open_stream(put("train/mug/1.png", f"{name}/mug/2.png"))) == ["mug"]
    assert labels_of(open_stream(put("a/1.png"), split="val")) == ["mug"]


def test_a_class_folder_whose_name_begins_with_a_dot_is_named(put):
    root = put("mug/1.png", ".45 acp/1.png", "mug/.thumbs/1.png", "mug/.2.png")
    stream = open_stream(root)
    assert labels_of(stream) == ["mug"]
    (note,) = stream.notes
    assert "left out 2 images in folders whose names begin with a dot, e.g. .45 acp" in note
    path = shutil.make_archive(str(root.parent / "packed"), "zip", root)
    assert open_stream(path).notes == stream.notes


def test_images_that_labels_csv_does_not_name_are_counted(put):
    root = put("mug/1.png", "mug/2.png", "cup/1.png")
    (root / "labels.csv").write_text("path,label\nmug/../mug/1.png,mug\n")
    stream = open_stream(root)
    assert labels_of(stream) == ["mug"] and "left out 2 of 3 images" in stream.notes[0]
    (root / "labels.csv").write_text("path,label\nmug/1.png,a\nmug/2.png,b\ncup/1.png,c\n")
    assert open_stream(root).notes == []


QUOTES = {
    "to the end": 'mug/1.png,mug,"5 inch\nmug/2.png,mug,x\n',
    "to the next quote": 'mug/1.png,mug,"5 inch\nmug/2.png,mug,"6 inch\n',
    "a quote inside": 'mug/1.png,mug,"5" screw"\nmug/2.png,mug,x\n',
}


@pytest.mark.parametrize("form", QUOTES)
def test_a_quote_that_is_not_closed_swallows_no_row(put, form):
    root = put("mug/1.png", "mug/2.png")
    (root / "l.csv").write_text(f"path,label,note\nmug/1.png,mug,x\n{QUOTES[form]}")
    with pytest.raises(StreamError, match=r"l\.csv: in the row that begins at line 3, a quote"):
        open_stream(root / "l.csv")
    (root / "l.csv").write_text('path,label,note\nmug/1.png,mug,"two\nlines"\nmug/2.png,mug,""\n')
    assert labels_of(open_stream(root / "l.csv")) == ["mug", "mug"]


def test_a_line_without_a_path_and_a_mark_of_the_byte_order(put, monkeypatch):
    monkeypatch.chdir(put("mug/1.png"))
    stream = open_stream("-", stdin=["\ufeffmug/1.png\tmug\n", "\tmug\n", " \tmug\n", "\n"])
    assert labels_of(stream) == ["mug"]
    assert [skipped.reason for skipped in stream.skipped] == [
        f"standard input line {n}: no path stands before the tab" for n in (2, 3)
    ]


@pytest.mark.parametrize(
    ("rows", "words"),
    [("0,30,mug\n5,6,mug\n10,11,cup", "line 4 overlaps the span of line 2"),
     ("0,30,mug, red", "line 2 has more columns than the header"),
     ('0,1,"mug\n1,2,cup', "a quote that is not closed")],
)  # fmt: skip
def test_spans_that_would_lose_a_label_are_refused(tmp_path, rows, words):
    (tmp_path / "f.mp4.csv").write_text(f"start_s,end_s,label\n{rows}\n")
    with pytest.raises(StreamError, match=words):
        Spans(tmp_path / "f.mp4")
    (tmp_path / "f.mp4.csv").write_text("start_s,end_s,label\n0,30,mug,\n5,6,mug\n30,31,cup\n")
    assert Spans(tmp_path / "f.mp4").labels() == ["mug", "mug", "cup"]


@pytest.mark.parametrize("highlight", [1.2, 3.0, 7.9])
def test_highlights_above_1_do_not_turn_floats_black(highlight):
    values = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    brighter = values.copy()
    brighter[0, 0] = highlight
    pixels = PixelRange()
    plain, other = (pixels.to_rgb(x, "a.tif") for x in (values, brighter))
    assert np.array_equal(plain[1:], other[1:]) and plain.mean() > 100
    assert len(pixels.notes) == 1 and "1 is taken for white" in pixels.notes[0]
    assert PixelRange().to_rgb(brighter, "a.tif").mean() > 100
