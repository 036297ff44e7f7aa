"""Folders and archives as people have them: nothing is left out without a word."""

import io
import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from plr_edge.errors import StreamError
from plr_edge.planning.trials import Trial
from plr_edge.stream import open_stream
from plr_edge.stream.archive import is_archive
from plr_edge.stream.layout import File, Tree, arrange


def picture(path, color="red", size=(20, 12), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, **options)
    return path


def labels_of(stream):
    return [frame.label for frame in stream]


def notes(stream):
    return "\n".join(stream.notes)


def test_images_deeper_in_a_class_folder_belong_to_it_and_it_is_stated(tmp_path):
    picture(tmp_path / "mug" / "session1" / "2.png")
    picture(tmp_path / "mug" / "session1" / "left" / "1.png")
    picture(tmp_path / "mug" / "3.png")
    picture(tmp_path / "pot" / "10.png")
    stream = open_stream(tmp_path)
    assert labels_of(stream) == ["mug", "mug", "mug", "pot"]
    assert "2 images lie in folders inside a class folder" in notes(stream)
    assert "'mug'" in notes(stream)


@pytest.mark.parametrize(
    ("suffix", "form"),
    [(".jfif", "JPEG"), (".gif", "GIF"), (".avif", "AVIF"), (".PNG", "PNG"), (".TIFF", "TIFF"),
     (".jpe", "JPEG"), (".JP2", "JPEG2000"), (".tga", "TGA"), (".HEIC", "HEIF"), ("", "PNG"),
     (".jpg_large", "JPEG"), (".mpo", "JPEG")],
)  # fmt: skip
def test_every_format_that_can_be_read_is_read(tmp_path, suffix, form):
    if form == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    if form == "AVIF" and ".avif" not in Image.registered_extensions():
        pytest.skip("this Pillow has no AVIF")
    picture(tmp_path / "mug" / f"a{suffix}", (200, 40, 20), (32, 32), format=form)
    (frame,) = open_stream(tmp_path)
    assert frame.label == "mug" and np.abs(frame.image.astype(int) - (200, 40, 20)).max() < 12


def test_heic_without_its_extra_is_named_with_what_to_install(tmp_path, monkeypatch):
    picture(tmp_path / "mug" / "a.png")
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    monkeypatch.setattr("plr_edge.errors._is_missing", lambda module: module == "pillow_heif")
    stream = open_stream(tmp_path)
    assert labels_of(stream) == ["mug"]
    assert "pip install 'plr-edge[heif]'" in stream.skipped[0].reason
    assert stream.unread_classes() == ["phone"]
    with pytest.raises(StreamError, match="heif"):
        list(open_stream(tmp_path, strict=True))


def test_folders_without_an_image_and_other_files_are_named(tmp_path):
    picture(tmp_path / "mug" / "a.png")
    picture(tmp_path / "loose.png")
    (tmp_path / "empty").mkdir()
    for i in range(3):
        (tmp_path / "mug" / f"{i}.xml").write_text("<annotation/>")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "1.NEF").write_bytes(b"MM\0*raw")
    for junk in (".DS_Store", "Thumbs.db", "mug/._a.png", "__MACOSX/mug/._a.png"):
        (tmp_path / junk).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / junk).write_bytes(b"junk")
    stream = open_stream(tmp_path)
    assert labels_of(stream) == ["mug"]
    assert "folder 'empty': it is empty" in notes(stream)
    assert "folder 'raw': it contains no image but 1 .nef; convert .nef to JPEG" in notes(stream)
    assert "left out 1 image beside the class folders, e.g. loose.png" in notes(stream)
    assert "left out 3 files (3 .xml)" in notes(stream)
    assert "DS_Store" not in notes(stream) and "db" not in notes(stream)


def test_a_class_of_which_every_image_is_damaged_is_named(tmp_path):
    picture(tmp_path / "mug" / "a.png")
    for i in range(3):
        picture(tmp_path / "pot" / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    os.mkfifo(tmp_path / "mug" / "pipe.png")
    (tmp_path / "mug" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    stream = open_stream(tmp_path)
    assert labels_of(stream) == ["mug"] and len(stream.skipped) == 5
    assert stream.unread_classes() == ["pot"]


def test_links_to_folders_are_followed_once(tmp_path):
    picture(tmp_path / "photos" / "a.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mug").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "again").symlink_to(tmp_path / "data")
    assert labels_of(open_stream(tmp_path / "data")) == ["mug"]


SPLIT = {"train": 3, "val": 2, "test": 1}


def dataset(root, parts, names=("mug", "pot")):
    for part, n in parts.items():
        for name in names:
            for i in range(n):
                picture(root / part / name / f"{part.strip('.')}{i}.png")
    return root


def test_train_val_and_test_are_splits(tmp_path):
    dataset(tmp_path, SPLIT)
    for split, n in SPLIT.items():
        stream = open_stream(tmp_path, split=split)
        assert labels_of(stream) == ["mug"] * n + ["pot"] * n
        assert f"read {split}/" in notes(stream) and "--split" in notes(stream)
    stream = open_stream(tmp_path, split="all")
    assert labels_of(stream) == ["mug"] * 6 + ["pot"] * 6 and notes(stream) == ""


@pytest.mark.parametrize(
    ("parts", "split", "n"),
    [({"Train": 2, "Valid": 1}, "val", 1), ({"training": 2, "testing": 1}, "train", 2),
     ({"train": 2, "validation": 3}, "all", 5)],
)  # fmt: skip
def test_other_names_of_splits(tmp_path, parts, split, n):
    assert len(labels_of(open_stream(dataset(tmp_path, parts), split=split))) == 2 * n


def test_a_split_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    dataset(tmp_path, {"train": 1, "val": 1})
    with pytest.raises(StreamError, match="no split 'test'; it contains train/, val/"):
        open_stream(tmp_path, split="test")
    assert len(list(Trial.open(str(tmp_path)).held_out)) == 2  # the split val


def test_train_alone_is_a_class(tmp_path):
    for name in ("train", "bus", "test"):  # CIFAR-100 has a class `train`
        picture(tmp_path / name / "1.png")
    assert labels_of(open_stream(tmp_path)) == ["bus", "test", "train"]
    picture(tmp_path / "train" / "station" / "2.png")
    stream = open_stream(tmp_path)
    assert labels_of(stream) == ["bus", "test", "train", "train"]
    assert "inside a class folder" in notes(stream)


def test_what_lies_beside_the_splits_is_named(tmp_path):
    dataset(tmp_path, {"train": 1, "test": 1})
    picture(tmp_path / "extra" / "1.png")
    (tmp_path / "README.md").write_text("x")
    assert "left out 2 files beside test/ and train/" in notes(open_stream(tmp_path, split="all"))


def test_a_folder_without_any_image_says_what_it_holds(tmp_path):
    (tmp_path / "mug").mkdir()
    with pytest.raises(StreamError, match="it is empty"):
        open_stream(tmp_path)
    (tmp_path / "mug" / "a.cr2").write_bytes(b"x")
    with pytest.raises(StreamError, match=r"it contains 1 \.cr2; convert \.cr2 to JPEG or PNG"):
        open_stream(tmp_path)


def packed(root, path, wrapped):
    """Pack a folder by the programs that people use, as the folder or as what it contains."""
    base = root.parent if wrapped else root
    names = [root.name] if wrapped else sorted(os.listdir(root))
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(root.rglob("*")):
                archive.write(file, file.relative_to(base))
    else:
        subprocess.run(["tar", "-caf", str(path), "-C", str(base), *names], check=True)
    return path


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz"])
def test_an_archive_is_read_like_its_folder(tmp_path, suffix, wrapped):
    root = dataset(tmp_path / "fruits", {".": 12})
    for i in range(2):
        picture(root / "pot" / "deep" / f"{i}.JPG", (10 * i, 200, 0))
    path = packed(root, tmp_path / f"fruits{suffix}", wrapped)
    theirs, ours = list(open_stream(root)), list(open_stream(path))
    assert [f.label for f in ours] == [f.label for f in theirs]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        assert Path(a.source).name == Path(b.source).name
        assert abs(a.stamp_ns - b.stamp_ns) < 14 * 3600 * 10**9  # a .zip has no time zone
    assert [f.label for f in open_stream(path)] == [f.label for f in theirs]  # again
    assert len(list(open_stream(path, limit_per_class=1))) == 2


def test_an_archive_of_splits_and_of_a_flat_folder(tmp_path):
    dataset(tmp_path / "data", SPLIT)
    path = packed(tmp_path / "data", tmp_path / "other-name.zip", wrapped=True)
    assert len(list(open_stream(path, split="val"))) == 4
    flat = tmp_path / "shots"
    for i in (10, 9):
        picture(flat / f"{i}.png")
    frames = list(open_stream(packed(flat, tmp_path / "shots.tar", wrapped=True)))
    assert [(f.label, Path(f.source).stem) for f in frames] == [(None, "9"), (None, "10")]


def test_a_zip_of_windows_or_of_an_old_mac_has_its_names(tmp_path):
    data = picture(tmp_path / "a.png").read_bytes()
    path = tmp_path / "w.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mug__a.png", data)
        archive.writestr("Cafxx/a.png", data)
        archive.writestr("__MACOSX/mug/._a.png", b"junk")
    # UTF-8 without the flag that says so, and backslashes
    raw = path.read_bytes().replace(b"Cafxx", "Café".encode()).replace(b"mug__", b"mug\\1")
    path.write_bytes(raw)
    assert labels_of(open_stream(path)) == ["Café", "mug"]


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_a_damaged_archive_is_refused_in_one_line(tmp_path, suffix):
    root = dataset(tmp_path / "d", {".": 3})
    path = packed(root, tmp_path / f"d{suffix}", wrapped=True)
    data = path.read_bytes()
    for broken in (data[: len(data) // 2], b"", b"PK\3\4" + os.urandom(200), os.urandom(999)):
        path.write_bytes(broken)
        with pytest.raises(StreamError) as refused:
            list(open_stream(path))
        assert "\n" not in str(refused.value)


def test_a_damaged_member_is_skipped_and_named(tmp_path):
    path = tmp_path / "d.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mug/a.png", picture(tmp_path / "a.png").read_bytes())
        archive.writestr("mug/b.png", b"\x89PNG\r\n\x1a\nbroken" * 9)
    data = bytearray(path.read_bytes())
    stream = open_stream(path)
    assert labels_of(stream) == ["mug"] and "b.png" in stream.skipped[0].reason
    data[60] ^= 0xFF  # of the first member, whose checksum does not match any more
    path.write_bytes(data)
    stream = open_stream(path)
    assert labels_of(stream) == [] and "a.png is damaged" in stream.skipped[0].reason


def test_one_image_is_a_stream(tmp_path):
    assert labels_of(open_stream(picture(tmp_path / "Photo.JPG"))) == [None]


def test_a_tar_with_strange_members_reads_its_images_only(tmp_path):
    data = picture(tmp_path / "a.png").read_bytes()
    with tarfile.open(tmp_path / "d.tar", "w") as archive:
        for name in ("mug/a.png", "../pot/b.png", "/bin/c.png"):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, kind in (("mug/pipe.png", tarfile.FIFOTYPE), ("mug/l.png", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    assert labels_of(open_stream(tmp_path / "d.tar")) == ["bin", "mug", "pot"]
    assert is_archive(tmp_path / "D.TAR.GZ") and not is_archive(tmp_path / "d.rar")


parts = st.lists(st.sampled_from(["train", "val", "test", "mug", "pot", "s1"]), max_size=3)


@settings(deadline=None)
@given(
    st.lists(st.tuples(parts, st.booleans()), min_size=1, max_size=12),
    st.sampled_from(["train", "all"]),
)
def test_every_file_is_read_or_named(files, split):
    """Each image of any tree has one place, and a tree with an image never gives none silently."""
    tree = Tree("d")
    for i, (folders, is_image) in enumerate(files):
        tree.files.append(File((*folders, f"{i}.{'png' if is_image else 'txt'}"), is_image, None))
        tree.folders.update(tuple(folders[:n]) for n in range(1, len(folders) + 1))
    n_images = sum(file.is_image for file in tree.files)
    try:
        layout = arrange(tree, split)
    except StreamError:
        assert n_images == 0
        return
    taken = {file.parts for file, _ in layout.pairs}
    assert len(taken) == len(layout.pairs)
    if len(taken) < len(files):
        assert layout.notes


def test_the_command_line_names_what_was_left_out(bundle_path, quick_path, tmp_path, plr_edge):
    root = tmp_path / "d"
    for i in range(3):
        picture(root / "red" / f"{i}.png", (200, 10 * i, 0), (32, 32))
        picture(root / "blue" / "box" / f"{i}.png", (0, 10 * i, 200), (32, 32))
    picture(root / "pot" / "broken.png").write_bytes(b"broken")
    (root / "phone").mkdir()
    (root / "phone" / "IMG.dng").write_bytes(b"raw")
    shutil.make_archive(str(root), "zip", root)
    for stream in (str(root), f"{root}.zip"):
        for command in ("adapt", "predict"):
            done = plr_edge(command, str(bundle_path), stream, "--state", str(quick_path / "s"))
            assert done.exit_code == 0, done.output
            for words in ("skipped 1 unreadable (1 .png)", "broken.png", "of the class 'pot'",
                          "folder 'phone': it contains no image but 1 .dng",
                          "3 images lie in"):  # fmt: skip
                assert words in done.stderr, words
    classes = json.loads(plr_edge("inspect", str(quick_path / "s"), "--json").stdout)["classes"]
    assert set(classes) == {"red", "blue"}
