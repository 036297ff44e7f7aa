"""Lists by the command line: bad rows, empty labels, and what their messages say."""

from pathlib import Path

import numpy as np
import pytest
from adapting import put, refused, summary, taught
from PIL import Image

from plr_edge.stream import open_stream

BAD = {
    "slash": "red/green", "backslash": "red\\green", "newline": '"red\ngreen"',
    "lengthy": "x" * 10_000,
    "reserved": "unknown", "control": "red\x07", "trailing": "red ",
}  # fmt: skip


@pytest.fixture
def pictures(tmp_path):
    put(tmp_path / "p", 1, 20)
    return [f"p/{i:03d}.png" for i in range(20)]


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_row_late_in_a_csv_leaves_nothing_behind(adapt, pictures, tmp_path, bad):
    rows = [f"{path},cup\n" for path in 4 * pictures]
    (tmp_path / "l.csv").write_text("path,label\n" + "".join(rows) + f"p/000.png,{BAD[bad]}\n")
    refused(adapt("l.csv"), "l.csv line 8", "label")
    assert taught(tmp_path / "s") == {}


@pytest.mark.parametrize("bad", [b for b in BAD if b != "newline"])
def test_a_bad_line_late_in_a_text_file_leaves_nothing_behind(adapt, pictures, tmp_path, bad):
    lines = [f"{path}\tcup\n" for path in 4 * pictures]
    (tmp_path / "l.txt").write_text("".join(lines) + f"p/000.png\t{BAD[bad]}\n")
    refused(adapt("l.txt"), "l.txt line 81", "label")
    assert taught(tmp_path / "s") == {}


def test_a_bad_folder_or_span_is_found_before_the_first_frame(adapt, tmp_path):
    put(tmp_path / "p/cup", 1, 3)
    put(tmp_path / "p/unknown", 2, 3)
    refused(adapt("p"), "p/unknown/000.png", "reserved")
    assert taught(tmp_path / "s") == {}
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(tmp_path / "f.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 32))
    for value in range(10):
        writer.write(np.full((32, 32, 3), 20 * value, np.uint8))
    writer.release()
    spans = "start_s,end_s,label\n-1,0.35,cup\n0.35,0.55, \n"
    (tmp_path / "f.avi.csv").write_text(spans + "0.55,0.75,a/b\n")
    refused(adapt("f.avi"), "f.avi.csv", "a/b")
    assert taught(tmp_path / "s") == {}
    (tmp_path / "f.avi.csv").write_text(spans)
    result = summary(adapt("f.avi", "--json"))
    assert (result["n_taught"], result["n_unlabelled"]) == (4, 6)


def test_a_bad_line_on_standard_input_says_what_was_learned(piped, pictures, tmp_path):
    lines = [f"{path}\tcup\n" for path in pictures]
    refused(
        piped("".join(lines) + f"{pictures[0]}\ta/b\n{pictures[1]}\tpen\n"),
        "standard input line 21", "a/b", "The 20 labels before it are saved",
    )  # fmt: skip
    assert taught(tmp_path / "s") == {"cup": 20}


@pytest.mark.parametrize(
    "header",
    ["path, label", "path,Label", "path,class", " Path ,LABEL", "\ufeffpath,Class", "Path,label,x"],
)
def test_a_label_column_is_found(adapt, pictures, tmp_path, header):
    rows = [f"{path}, cup\n" for path in pictures]
    (tmp_path / "l.csv").write_text(f"{header}\n" + "".join(rows), encoding="utf-8")
    assert summary(adapt("l.csv", "--json"))["n_taught"] == 20
    assert taught(tmp_path / "s") == {"cup": 20}


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        ("path,category", "{},cup", ["no column `label`", "`path`, `category`"]),
        ("path,cup,pen", "{},1,0", ["no column `label`", "`path`, `cup`, `pen`"]),
        ("path,label", "{},", ["the column 'label'", "empty in all 20 rows"]),
        ("path,label", "{},  ", ["the column 'label'", "empty in all 20 rows"]),
        ("path;label", "{};cup", ["separated by semicolons", "`path;label`", "commas"]),
        ("path\tlabel", "{}\tcup", ["separated by tabs"]),
        ("file,label", "{},cup", ["header with `path`", "`file`, `label`"]),
        ("p/000.png,cup", "{},cup", ["header with `path`", "`p/000.png`, `cup`"]),
        ("# made by hand", "{},cup", ["header with `path`", "`# made by hand`"]),
        ("path,label", "{},cup, red", ["line 2", "3 columns", "the header 2", "quotes"]),
        ("path,label,Label", "{},cup,pen", ["two columns `label`"]),
        ("path,label", "\\{},cup", ["line 2", "path of Windows"]),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused_with_what_was_found(
    adapt, pictures, tmp_path, header, row, words
):
    put(tmp_path / "old/pen", 9, 3)  # a state that knows a class
    assert adapt("old").exit_code == 0
    (tmp_path / "l.csv").write_text("\n".join([header, *map(row.format, pictures)]))
    refused(adapt("l.csv"), "l.csv", *words)
    assert taught(tmp_path / "s") == {"pen": 3}


def test_other_encodings_are_named(adapt, pictures, tmp_path):
    text = "path,label\n" + "".join(f"{path},café\n" for path in pictures)
    for encoding, word in (("utf-16", "UTF-16"), ("latin-1", "UTF-8")):
        (tmp_path / "l.csv").write_text(text, encoding=encoding)
        refused(adapt("l.csv"), "l.csv is not UTF-8 text", word)


def test_rows_without_a_label_are_counted(adapt, pictures, tmp_path):
    labels = ["cup", "", "cup", "  ", '""']
    rows = [f"{path},{labels[i % 5]}\n" for i, path in enumerate(pictures)]
    (tmp_path / "l.csv").write_text("path,label\n" + "".join(rows) + "p/000.png\n")
    result = adapt("l.csv")
    assert result.exit_code == 0
    assert "21 frames, 8 taught" in result.stdout
    assert "13 frames without a label: answered, not learned" in result.stdout
    lines = [f"{path}\t{labels[i % 4]}\n" for i, path in enumerate(pictures)]
    (tmp_path / "l.txt").write_text("".join(lines))
    assert summary(adapt("l.txt", "--json"))["n_unlabelled"] == 10


@pytest.mark.parametrize(("name", "text"), [
    ("l.txt", ""), ("l.txt", "\n\n"), ("l.csv", ""), ("l.csv", "path,label\n"), ("-", ""),
    ("-", "\n"),
])  # fmt: skip
def test_an_empty_list_is_one_line(adapt, piped, tmp_path, name, text):
    if name == "-":
        refused(piped(text), "holds no frame")
    else:
        (tmp_path / name).write_text(text)
        refused(adapt(name), name)


def test_a_windows_path_in_a_text_file_is_named(adapt, pictures, tmp_path):
    (tmp_path / "l.txt").write_text("p\\000.png\tcup\np/001.png\tcup\n")
    (skipped,) = summary(adapt("l.txt", "--json"))["skipped"]
    assert "path of Windows; write /" in skipped["reason"]
    (tmp_path / "p\\000.png").write_bytes(Path(pictures[2]).read_bytes())  # a name like any other
    assert summary(adapt("l.txt", "--json"))["skipped"] == []


def test_labels_that_all_look_like_mistakes_are_an_error(bundle_path, plr_edge, tmp_path):
    frames = list(open_stream("demo", limit_per_class=32))
    first, other = "apple_20", "tomato_1"
    own = {name: [f.image for f in frames if f.label == name] for name in (first, other)}
    for name, images in own.items():
        for i, image in enumerate(images):
            wrong = name == first and i >= 30
            path = tmp_path / ("q" if wrong else "p") / (other if wrong else name) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)

    def adapt(stream):
        arguments = ["adapt", str(bundle_path), str(tmp_path / stream), "--json"]
        return plr_edge(*arguments, "--state", str(tmp_path / "s"))

    assert summary(adapt("p"))["n_taught"] == 62
    refused(adapt("q"), "nothing was taught", "2 of 2 labels look like mistakes", "quarantine")
    again = summary(adapt("q"))
    assert (again["n_known"], again["n_quarantined"], again["state"]["n_quarantined"]) == (2, 0, 2)


@pytest.mark.parametrize("stamp", ["-5", "9" * 26, "1e9", "soon"])
def test_a_time_stamp_that_is_none_is_refused(adapt, pictures, tmp_path, stamp):
    (tmp_path / "l.csv").write_text(f"path,label,stamp_ns\n{pictures[0]},cup,{stamp}\n")
    refused(adapt("l.csv"), "line 2", "stamp_ns", "nanoseconds")
