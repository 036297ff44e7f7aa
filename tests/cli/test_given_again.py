"""A stream that is given again, by the command line: what is skipped, relabelled and said."""

import os
import shutil
from pathlib import Path

from adapting import put, refused, summary, taught

from plr_edge.demo import _stream_of
from plr_edge.runtime import resuming
from plr_edge.store import QUARANTINED, UNDONE, Store

BUNDLE = Path(__file__).parents[1] / "runtime" / "golden" / "bundle"


def test_other_pictures_under_the_same_names_are_taught(adapt, tmp_path, monkeypatch):
    put(tmp_path / "day1/photos/ball", 1, 6)
    put(tmp_path / "day2/photos/ball", 2, 6)
    for day, n in (("day1", 6), ("day2", 12)):
        monkeypatch.chdir(tmp_path / day)
        result = adapt("photos", "--json", "--state", str(tmp_path / "s"))
        assert (summary(result)["n_taught"], summary(result)["n_known"]) == (6, 0)
        assert taught(tmp_path / "s") == {"ball": n}


def test_a_class_that_sorts_first_and_a_limit_lose_nothing(adapt, tmp_path):
    put(tmp_path / "p/cup", 1, 5)
    put(tmp_path / "p/pen", 2, 5)
    assert summary(adapt("p", "--limit-per-class", "2", "--json"))["n_taught"] == 4
    put(tmp_path / "p/ant", 3, 5)
    result = summary(adapt("p", "--json"))
    assert (result["n_taught"], result["n_known"], result["n_frames"]) == (11, 4, 11)
    assert taught(tmp_path / "s") == {"ant": 5, "cup": 5, "pen": 5}


def test_a_finished_stream_is_not_taught_again_wherever_it_lies(adapt, piped, tmp_path):
    put(tmp_path / "p/cup", 1, 5)
    assert adapt("p").exit_code == 0
    (tmp_path / "p").rename(tmp_path / "q")
    lines = "".join(f"q/cup/{i:03d}.png\tcup\n" for i in range(5))
    for again in (adapt("q"), piped(lines)):
        assert again.exit_code == 0
        assert "0 frames, 0 taught" in again.stdout
        assert "5 frames not taught again" in again.stdout
        assert "version 0: 5 labels, 1 classes" in again.stdout
    put(tmp_path / "q/cup", 1, 7)  # five old ones, two new ones
    with Store(tmp_path / "s") as store:  # nothing new to keep
        assert [info.upto for info in store.generations] == [5]
    assert "2 frames, 2 taught" in adapt("q").stdout
    assert taught(tmp_path / "s") == {"cup": 7}


def test_equal_frames_are_counted(adapt, tmp_path):
    put(tmp_path / "p", 1, 1)
    row = "p/000.png,cup\n"
    for n, new in ((2, 2), (5, 3), (1, 0)):
        (tmp_path / "l.csv").write_text("path,label\n" + n * row)
        assert summary(adapt("l.csv", "--json"))["n_taught"] == new
    assert taught(tmp_path / "s") == {"cup": 5}


def test_what_was_undone_or_forgotten_is_taught_again(adapt, tmp_path, plr_edge):
    put(tmp_path / "p/cup", 1, 5)
    put(tmp_path / "p/pen", 2, 5)
    assert adapt("p").exit_code == 0
    common = [str(BUNDLE), "--state", "s"]
    assert plr_edge("undo", *common, "--last", "3").exit_code == 0
    assert summary(adapt("p", "--json"))["n_taught"] == 3
    assert plr_edge("forget", *common, "cup").exit_code == 0
    with Store(tmp_path / "s") as store:
        held = [label for label in store.labels.with_contents() if label.content]
        rows = store._database.value("SELECT count(*) FROM contents")
    assert rows == len(held) == 8  # three of them undone
    result = summary(adapt("p", "--json"))
    assert (result["n_taught"], result["n_known"]) == (5, 5)
    assert taught(tmp_path / "s") == {"cup": 5, "pen": 5}


def test_another_label_is_asked_about_before_anything_is_learned(adapt, tmp_path):
    put(tmp_path / "p/cup", 1, 5)
    assert adapt("p").exit_code == 0
    put(tmp_path / "p/ant", 3, 4)
    (tmp_path / "p/cup").rename(tmp_path / "p/mug")
    refused(adapt("p"), "5 frames", "p/mug/00", "'cup'", "'mug'", "--relabel", "nothing")
    assert taught(tmp_path / "s") == {"cup": 5}
    result = adapt("p", "--relabel")
    assert result.exit_code == 0 and "5 frames had another label before" in result.stdout
    assert taught(tmp_path / "s") == {"ant": 4, "mug": 5}
    assert taught(tmp_path / "s", [UNDONE]) == {"cup": 5}
    assert "9 labels, 2 classes" in result.stdout
    assert summary(adapt("p", "--relabel", "--json"))["n_relabelled"] == 0


def test_one_corrected_row_of_a_list_and_a_question(adapt, tmp_path, monkeypatch):
    put(tmp_path / "p", 1, 6)
    rows = [f"p/{i:03d}.png,cup\n" for i in range(6)]
    (tmp_path / "l.csv").write_text("path,label\n" + "".join(rows))
    assert adapt("l.csv").exit_code == 0
    rows[4] = rows[4].replace("cup", "pen")
    (tmp_path / "l.csv").write_text("path,label\n" + "".join(reversed(rows)))
    refused(adapt("l.csv"), "1 frames", "004.png")
    monkeypatch.setattr("plr_edge.cli.adapt_command._is_terminal", lambda: True)
    no = adapt("l.csv", input="n\n")
    assert no.exit_code == 2 and "Replace the old labels?" in no.output
    assert taught(tmp_path / "s") == {"cup": 6}
    assert adapt("l.csv", input="y\n").exit_code == 0
    assert taught(tmp_path / "s") == {"cup": 5, "pen": 1}


def test_standard_input_cannot_relabel_and_says_what_can(piped, tmp_path):
    put(tmp_path / "p", 1, 2)
    assert piped("p/000.png\tcup\n").exit_code == 0
    result = piped("p/001.png\tpen\np/000.png\tpen\n", "--relabel")
    refused(result, "line 2", "'cup'", "'pen'", ".txt", "The 1 labels before it are saved")
    assert taught(tmp_path / "s") == {"cup": 1, "pen": 1}


def test_a_picture_that_stands_under_two_labels_is_taught_with_both(adapt, tmp_path):
    put(tmp_path / "p/cup", 1, 3)
    shutil.copytree(tmp_path / "p/cup", tmp_path / "p/pen")
    assert summary(adapt("p", "--json"))["n_taught"] == 6
    assert summary(adapt("p", "--json"))["n_known"] == 6
    assert taught(tmp_path / "s") == {"cup": 3, "pen": 3}


def test_confirmed_labels_are_known_again(adapt, tmp_path):
    put(tmp_path / "p/cup", 1, 4)
    assert adapt("p").exit_code == 0
    with Store(tmp_path / "s") as store:
        store.mark([2], QUARANTINED, "for this test")
    assert summary(adapt("p", "--json"))["n_known"] == 4
    with Store(tmp_path / "s") as store:
        assert store.confirm([2]) == [2]
    assert summary(adapt("p", "--json"))["n_known"] == 4
    assert taught(tmp_path / "s") == {"cup": 4}


def test_a_stream_that_an_earlier_version_left_is_told_of_once(adapt, tmp_path, caplog):
    put(tmp_path / "p/cup", 1, 4)
    assert adapt("p").exit_code == 0
    with Store(tmp_path / "s") as store, store._database.transaction() as tx:
        tx.delete("contents", [1, 2, 3, 4])
    with Store(tmp_path / "s") as store:
        store.facts.keep(positions={"p#train": 3, "q#train": 1})
    assert summary(adapt("p", "--json"))["n_taught"] == 4
    assert "frame 3 of p" in caplog.text and "taught twice" in caplog.text
    caplog.clear()
    assert summary(adapt("p", "--json"))["n_known"] == 4
    assert not caplog.text
    with Store(tmp_path / "s") as store:
        assert store.facts.get("positions") == {"q#train": 1}


def test_the_entry_of_a_label_takes_some_tens_of_bytes(adapt, tmp_path):
    put(tmp_path / "p", 1, 1)
    (tmp_path / "l.csv").write_text("path,label\n" + 600 * "p/000.png,cup\n")
    assert adapt("l.csv").exit_code == 0
    shutil.copytree(tmp_path / "s", tmp_path / "without")
    with Store(tmp_path / "without") as store, store._database.transaction() as tx:
        tx.delete("contents", range(601))
    import sqlite3

    sizes = []
    for state in ("s", "without"):
        connection = sqlite3.connect(tmp_path / state / "store.db")
        connection.execute("VACUUM")
        connection.close()
        sizes.append(os.path.getsize(tmp_path / state / "store.db"))
    assert 16 <= (sizes[0] - sizes[1]) / 600 < 40


def test_repair_keeps_what_identifies_frames(adapt, tmp_path, plr_edge):
    put(tmp_path / "p/cup", 1, 4)
    assert adapt("p").exit_code == 0
    data = (tmp_path / "s/store.db").read_bytes()
    (tmp_path / "s/store.db").write_bytes(data.replace(b"SQLite", b"SQLitf"))
    assert plr_edge("repair", "s").exit_code == 0
    assert summary(adapt("p", "--json"))["n_known"] == 4


def test_a_stop_while_frames_are_passed_over_is_heard(adapt, tmp_path, monkeypatch):
    put(tmp_path / "p/cup", 1, 6)
    assert adapt("p").exit_code == 0
    put(tmp_path / "p/pen", 2, 6)
    for n_looks, reading in ((2, "relabels"), (9, "choose")):
        looks = iter(range(100))
        own = resuming.HeldFrames.__init__

        def stopped(self, store, stop, own=own, looks=looks, n_looks=n_looks):
            own(self, store, lambda: next(looks) >= n_looks)

        with monkeypatch.context() as patch:
            patch.setattr(resuming.HeldFrames, "__init__", stopped)
            result = adapt("p")
        assert result.exit_code == 130 and "interrupted" in result.stderr, reading
        assert taught(tmp_path / "s") == {"cup": 6}
    assert summary(adapt("p", "--json"))["n_taught"] == 6


def test_the_streams_of_the_demo_can_be_read_twice(demo_frames):
    stream = _stream_of(demo_frames[:3])  # `adapt` reads ahead once something was taught
    assert len(list(stream)) == len(list(stream)) == 3
