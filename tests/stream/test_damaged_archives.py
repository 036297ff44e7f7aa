"""Archives that were cut, patched or packed in an unusual way: every file is read or named."""

import io
import tarfile
import zipfile
from collections import Counter

import pytest
from PIL import Image

from plr_edge.errors import StreamError
from plr_edge.stream import open_stream


def png(value):
    data = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 0)).save(data, "PNG")
    return data.getvalue()


FILES = [(f"{name}/{i}.png", png(20 * i)) for name in ("cup", "mug") for i in range(4)]


def tar(path, files=(), links=()):
    with tarfile.open(path, "w") as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return path


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files:
            archive.writestr(name, data)
    return path


def counts(stream):
    return Counter(frame.label for frame in stream)


def header(path, n):
    with tarfile.open(path) as archive:
        return archive.getmembers()[n].offset


def flipped(data, at):
    return data[: at + 9] + bytes([data[at + 9] ^ 0xFF]) + data[at + 10 :]


@pytest.mark.parametrize(
    "damage",
    [flipped, lambda data, at: data[: at + 200], lambda data, at: data[:at] + b"x" * 900,
     lambda data, at: data[: at + 700]],
    ids=["a bit of a header", "cut in a header", "other data", "cut in a file"],
)  # fmt: skip
def test_a_tar_that_is_damaged_between_its_files_is_refused(tmp_path, damage):
    path = tar(tmp_path / "d.tar", FILES)
    path.write_bytes(damage(path.read_bytes(), header(path, 4)))
    with pytest.raises(StreamError, match=r"d\.tar is a damaged or unfinished archive"):
        open_stream(path)


def test_a_tar_without_its_end_or_with_more_behind_it_says_so(tmp_path):
    path = tar(tmp_path / "d.tar", FILES)
    whole = path.read_bytes()
    path.write_bytes(whole[: header(path, 4)])
    stream = open_stream(path)
    assert counts(stream) == {"cup": 4} and "may have been cut off" in stream.notes[0]
    path.write_bytes(whole + tar(tmp_path / "b.tar", [("pot/1.png", png(1))]).read_bytes())
    stream = open_stream(path)
    assert counts(stream) == {"cup": 4, "mug": 4} and "--ignore-zeros" in stream.notes[0]


def test_links_inside_a_tar_are_followed_and_others_are_named(tmp_path):
    links = [
        ("pot/1.png", "../mug/1.png"),
        ("pot/2.png", "../mug/2.png"),
        ("pot/3", "../mug/3.png"),
    ]
    links += [("pan/1.png", "/etc/passwd"), ("pan/2.png", "../../mug/1.png")]
    stream = open_stream(tar(tmp_path / "d.tar", FILES, links))
    assert counts(stream) == {"cup": 4, "mug": 4, "pot": 3}
    assert len(stream.skipped) == 2 and "`tar --dereference`" in stream.skipped[0].reason
    assert stream.unread_classes() == ["pan"]
    folder = open_stream(tar(tmp_path / "f.tar", FILES, [("pot", "mug")]))
    assert counts(folder) == {"cup": 4, "mug": 4}
    assert folder.notes == ["left out 1 file (1 without a suffix), e.g. pot"]


@pytest.mark.parametrize("pack", [tar, zipped])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_files_with_one_name_the_last_is_read_as_by_unpacking(tmp_path, pack):
    path = pack(tmp_path / f"d.{pack.__name__[:3]}", [*FILES, ("mug/0.png", png(255))])
    stream = open_stream(path)
    frames = [frame for frame in stream if frame.source.endswith("mug/0.png")]
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [255]
    assert len(list(stream)) == 8 and "left out 1 files" in stream.notes[0]


@pytest.mark.parametrize(("name", "codec"), [("яблоко", "cp866"), ("りんご", "cp932")])
def test_names_of_a_zip_in_an_unstated_encoding_are_named(tmp_path, name, codec):
    own = name.encode(codec)
    path = zipped(tmp_path / "d.zip", [("x" * len(own) + "/1.png", png(1)), ("mug/2.png", png(2))])
    path.write_bytes(path.read_bytes().replace(b"x" * len(own), own))
    stream = open_stream(path)
    assert len(counts(stream)) == 2
    assert "1 names in" in stream.notes[0] and "do not state their encoding" in stream.notes[0]


def test_a_compression_that_python_lacks_is_not_called_damage(tmp_path):
    path = zipped(tmp_path / "d.zip", FILES)
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\1\2") + 10] = 9  # Deflate64, as Windows uses for large files
    path.write_bytes(data)
    stream = open_stream(path)
    assert sum(counts(stream).values()) == 7
    assert "cannot be unpacked here" in stream.skipped[0].reason
    assert "give the folder" in stream.skipped[0].reason
