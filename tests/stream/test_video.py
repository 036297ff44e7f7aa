"""Films that were cut off, and the labels beside films. Written by OpenCV."""

import numpy as np
import pytest
from PIL import Image

from plr_edge.errors import StreamError
from plr_edge.stream import open_stream
from plr_edge.stream.containers import has_no_index, is_unfinished

cv2 = pytest.importorskip("cv2")
N = 20
CODECS = {".mkv": "MJPG", ".mp4": "mp4v", ".avi": "MJPG", ".webm": "VP80", ".mov": "mp4v"}


def film(path, n=N, codec=None):
    code = cv2.VideoWriter_fourcc(*(codec or CODECS[path.suffix.lower()]))
    writer = cv2.VideoWriter(str(path), code, 10, (64, 64))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for i in range(n):
        writer.write(np.roll(noise, 3 * i, 0))
    writer.release()
    return path


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def moov_first(path):
    """Move the index of an .mp4 to the front, as `-movflags faststart` does."""
    data, boxes, at = path.read_bytes(), {}, 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        boxes[data[at + 4 : at + 8]] = data[at : at + size]
        at += size
    moov = bytearray(boxes[b"moov"])
    stco = moov.index(b"stco")
    for i in range(int.from_bytes(moov[stco + 8 : stco + 12], "big")):
        at = stco + 12 + 4 * i
        offset = int.from_bytes(moov[at : at + 4], "big") + len(moov)
        moov[at : at + 4] = offset.to_bytes(4, "big")
    path.write_bytes(boxes[b"ftyp"] + moov + boxes[b"free"] + boxes[b"mdat"])
    return path


@pytest.mark.parametrize("suffix", list(CODECS))
def test_a_whole_film_has_all_its_frames_and_nothing_to_say(tmp_path, suffix):
    stream = open_stream(film(tmp_path / f"a{suffix}"))
    assert len(list(stream)) == N
    assert stream.skipped == [] and stream.notes == []
    assert not is_unfinished(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("share", [0.35, 0.7, 0.9])
@pytest.mark.parametrize("suffix", [".mkv", ".avi", ".webm", "faststart.mp4"])
def test_a_film_that_was_cut_off_says_how_many_frames_were_read(tmp_path, suffix, share):
    path = film(tmp_path / f"a{suffix}")
    if suffix == "faststart.mp4":
        moov_first(path)
        assert len(list(open_stream(path))) == N
    stream = open_stream(cut(path, share))
    n = len(list(stream))
    assert 0 < n < N and is_unfinished(path)
    assert f"{n} frames were read of the {N}" in stream.skipped[-1].reason
    with pytest.raises(StreamError, match="is cut off"):
        list(open_stream(path, strict=True))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".MP4"])
def test_a_film_without_its_index_says_so(tmp_path, suffix):
    path = film(tmp_path / f"a{suffix}", codec="mp4v")
    assert not has_no_index(path)
    with pytest.raises(StreamError, match=r"no index \(moov\).* cut off"):
        open_stream(cut(path, 0.6))


def test_what_is_no_film_says_what_to_do(tmp_path):
    for data, words in (
        (b"", "0 bytes"),
        (b"<html>" * 99, "ffmpeg -i a.mp4"),
        (b"\0" * 5000, "ffmpeg"),
    ):
        (tmp_path / "a.mp4").write_bytes(data)
        with pytest.raises(StreamError, match=words):
            open_stream(tmp_path / "a.mp4")


def test_a_recording_that_was_never_closed_is_stated(tmp_path):
    path = film(tmp_path / "a.mkv")
    data = bytearray(path.read_bytes())
    segment = data.index(b"\x18\x53\x80\x67") + 4
    data[segment : segment + 8] = b"\x01" + b"\xff" * 7  # size unknown
    duration = data.index(b"\x44\x89\x88")
    data[duration : duration + 11] = b"\xec\x89" + bytes(9)  # a void in its place
    path.write_bytes(data[: len(data) // 2])
    stream = open_stream(path)
    n = len(list(stream))
    assert 0 < n < N and stream.skipped == []
    assert stream.notes == [
        f"{path} was not closed by its recorder, so that it does not state how many frames it has; "
        f"{n} were read"
    ]


def labelled(path, text):
    path.with_name(path.name + ".csv").write_text(text)
    return path


def test_spans_label_frames_and_a_blank_label_is_none(tmp_path):
    path = labelled(
        film(tmp_path / "a.mkv"), "start_s,end_s,label\n0,0.5,mug\n0.5,1,\n1,1.5, pot\n"
    )
    labels = [frame.label for frame in open_stream(path)]
    assert labels == ["mug"] * 5 + [None] * 5 + ["pot"] * 5 + [None] * 5


@pytest.mark.parametrize(
    ("rows", "words"),
    [("0:05,0:10,mug", "line 2 has the time '0:05'; write seconds"),
     ("5,1,mug", "line 2 goes from 5 to 1 s"), ("nan,1,mug", "line 2 goes from nan"),
     ("0,inf,mug", "to inf"), ("0,1,mug\n0.5,2,pot", "line 3 overlaps the span of line 2"),
     (",1,mug", "line 2 has the time ''")],
)  # fmt: skip
def test_wrong_spans_are_refused_with_their_line(tmp_path, rows, words):
    path = labelled(film(tmp_path / "a.mkv"), f"start_s,end_s,label\n{rows}\n")
    with pytest.raises(StreamError, match=words):
        open_stream(path)


def test_another_separator_or_header_is_named(tmp_path):
    path = labelled(film(tmp_path / "a.mkv"), "start_s;end_s;label\n0;1;mug\n")
    with pytest.raises(StreamError, match="it is 'start_s;end_s;label'"):
        open_stream(path)


def test_spans_without_a_frame_and_labels_under_another_name_are_named(tmp_path):
    path = labelled(film(tmp_path / "a.mkv"), "start_s,end_s,label\n0,1,mug\n5000,9000,pot\n")
    stream = open_stream(path)
    assert len(list(stream)) == N
    assert "no frame lies in the spans of 1 rows, line 3; the film has 1.9 s" in stream.notes[0]
    other = film(tmp_path / "b.mkv")
    (tmp_path / "b.csv").write_text("start_s,end_s,label\n0,1,mug\n")
    assert "b.csv was not read" in open_stream(other).notes[0]


def test_the_command_line_names_a_cut_film(bundle_path, quick_path, tmp_path, plr_edge):
    for name in ("red", "blue"):
        (tmp_path / "d" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32), name).save(tmp_path / "d" / name / "a.png")
    state = str(quick_path / "s")
    assert plr_edge("adapt", str(bundle_path), str(tmp_path / "d"), "--state", state).exit_code == 0
    path = cut(film(tmp_path / "a.mkv"), 0.5)
    done = plr_edge("predict", str(bundle_path), str(path), "--state", state)
    assert done.exit_code == 0 and f"of the {N} that its container states" in done.stderr
    strict = plr_edge("predict", str(bundle_path), str(path), "--state", state, "--strict")
    assert strict.exit_code == 2 and "is cut off" in strict.stderr


@pytest.mark.parametrize(("suffix", "share"), [(".mp4", 0.98), (".mp4", 0.97), (".mov", 0.98)])
def test_a_film_that_was_cut_so_that_nothing_can_be_read_is_not_told_to_convert(
    tmp_path, suffix, share
):
    path = film(tmp_path / f"a{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(StreamError, match="is cut off: it is shorter than it states"):
        open_stream(path)
