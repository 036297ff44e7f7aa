"""Which names are classes of their own to a person."""

# ruff: noqa: RUF001

import subprocess
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from plr_edge.bundle.reading import open_bundle
from plr_edge.cli.options import for_shell
from plr_edge.errors import LabelError
from plr_edge.runtime.session import Session
from plr_edge.stream import check_label, open_stream
from plr_edge.stream.names import known_name, learned_names, same_name


@pytest.mark.parametrize(
    ("label", "known"),
    [
        ("Mug", "mug"), ("CAFÉ", "café"), ("ΣΟΦΟΣ", "σοφος"), ("Вода", "вода"),
        ("STRASSE", "straße"),
        ("ｍｕｇ", "mug"), ("ﾏｸﾞ", "マグ"), ("ﬁsh", "fish"), ("𝗺𝘂𝗴", "mug"),
        ("сар", "cap"), ("Ꭺpple", "apple"), ("νase", "vase"), ("ա", "w"), ("ɡlass", "glass"),
        ("ΑΒ", "АВ"), ("СОР", "cop"),
        ("red\u00a0mug", "red mug"), ("red  mug", "red mug"), ("pin\u2011up", "pin-up"),
        ("cook’s knife", "cook's knife"), ("❤\ufe0f", "❤"), ("Unknown", "unknown"),
        ("unknоwn", "unknown"),
    ],
)  # fmt: skip
def test_a_name_that_a_person_takes_for_a_known_one_is_refused_with_it(label, known):
    with pytest.raises(LabelError) as refused:
        known_name(check_label(label), [known] if known != "unknown" else [])
    assert repr(known) in str(refused.value) and "--new-class" in str(refused.value)
    assert known_name(check_label(label), [known], new_class=True) == check_label(label)


@pytest.mark.parametrize(
    ("label", "known"),
    [
        ("modern", "modem"), ("Cafe", "Café"), ("sınır", "sinir"), ("Maße", "Masse"), ("l1", "I1"),
        ("0", "O"), ("x²", "x2"), ("mug 1", "mug 11"), ("rnug", "mug"),
        ("σ", "ο"), ("мир", "mup"), ("нос", "hoc"),
        ("👩\u200d💻", "👨\u200d💻"), ("red-mug", "red_mug"),
    ],
)  # fmt: skip
def test_names_that_a_person_tells_apart_are_two_classes(label, known):
    assert known_name(check_label(label), [known]) == label
    assert known_name(check_label(known), [label]) == known


@pytest.mark.parametrize(
    "label",
    ["mu\u200bg", "mug\u200e", "\u202egum", "mu\u2066g", "soft\u00adware", "\ufeffmug", "mug\u2060",
     "\u3164", "a\u034fb", "mug\ufe0f", "mu\u200dg", "mu\u200cg", "a\x1b[2Jb", "a\u2028b",
     "\U000e0041a", "⠀"],
)  # fmt: skip
def test_what_cannot_be_seen_is_refused(label):
    with pytest.raises(LabelError, match=r"invisible character|control character"):
        check_label(label)


@pytest.mark.parametrize(
    "label",
    ["👩\u200d💻", "👍🏽", "1\ufe0f\u20e3", "❤\ufe0f\u200d🔥", "می\u200cخواهم", "ക്\u200dഷ", "🇪🇺"],
)
def test_joiners_that_belong_to_a_script_are_kept(label):
    assert check_label(label) == label


@given(st.text())
def test_names_are_composed_and_composed_names_stay(label):
    try:
        name = check_label(label)
    except LabelError:
        return
    assert unicodedata.is_normalized("NFC", name) and check_label(name) == name
    for form in ("NFC", "NFD"):
        assert known_name(name, [unicodedata.normalize(form, name)]) in (
            unicodedata.normalize("NFC", name), unicodedata.normalize(form, name)
        )  # fmt: skip


def test_both_unicode_forms_of_a_folder_are_one_class(tmp_path):
    for i, form in enumerate(("NFC", "NFD")):
        folder = tmp_path / unicodedata.normalize(form, "Café")
        folder.mkdir()
        for j in range(2):
            Image.new("RGB", (8, 8)).save(folder / f"{i}{j}.png")
    assert {frame.label for frame in open_stream(tmp_path)} == {"Café"}
    assert len(list(open_stream(tmp_path, limit_per_class=3))) == 3


def test_labels_of_one_batch_are_compared_with_each_other():
    assert learned_names(["a", None, "b", "a"], ["b"]) == ["a", None, "b", "a"]
    with pytest.raises(LabelError, match="'Mug' looks like the known class 'mug'"):
        learned_names(["mug", "pot", "Mug"], [])
    assert learned_names(["Cafe\u0301"], ["Cafe\u0301"]) == ["Cafe\u0301"]  # of an older state


def test_a_session_refuses_before_it_learns_and_keeps_old_names(
    bundle_path, quick_path, demo_frames
):
    bundle, frames = open_bundle(bundle_path), demo_frames[:4]
    with Session(bundle, quick_path / "s") as session:
        session.observe_many([replace(f, label="mug") for f in frames])
        with pytest.raises(LabelError, match="looks like the known class 'mug'"):
            session.observe_many([replace(frames[0], label=n) for n in ("pot", "ＭＵＧ")])
        assert session.learned.classes == ["mug"]
        session.learned.classes[0] = "Cafe\u0301"  # a class that an older version learned
        session.observe_many([replace(f, label="Café") for f in frames])
        assert session.learned.classes == ["Cafe\u0301"]
    with Session(bundle, quick_path / "t", new_class=True) as session:
        session.observe_many([replace(frames[0], label=n) for n in ("mug", "Mug", "MUG")])
        assert session.learned.classes == ["mug", "Mug", "MUG"]


def test_the_command_line_refuses_a_look_alike_until_it_is_meant(
    bundle_path, quick_path, tmp_path, plr_edge
):
    def adapt(*names, options=()):
        folder = tmp_path / names[0]
        for name in names:
            (folder / name).mkdir(parents=True)
            for i in range(3):
                Image.new("RGB", (32, 32), (90 * i, sum(map(ord, name)) % 256, 60)).save(
                    folder / name / f"{i}.png"
                )
        return plr_edge("adapt", str(bundle_path), str(folder), "--state", str(quick_path / "s"),
                        "--train-ratio", "0", *options)  # fmt: skip

    assert adapt("cup", "👩\u200d💻").exit_code == 0
    refused = adapt("Cup")
    assert refused.exit_code == 2 and "looks like the known class 'cup'" in refused.stderr
    assert adapt("CUP", options=["--new-class"]).exit_code == 0
    log = plr_edge("log", str(quick_path / "s")).stdout
    assert " CUP " in log and " '👩\u200d💻' " in log and "Cup" not in log


@pytest.mark.parametrize(
    "name", ["mug", "red mug", "it's", "$HOME", "a\u200bb", "a\x1b[2J", "é\\'\u202e"]
)
def test_a_shell_reads_what_the_log_prints(name):
    text = for_shell(name)
    assert all(c.isprintable() or c == "\u200d" for c in text)
    argument = subprocess.run(
        ["bash", "-c", f"printf %s {text}"], capture_output=True, check=True,
        env={"LC_ALL": "C.UTF-8"},
    ).stdout  # fmt: skip
    assert argument.decode() == name


def test_a_class_is_found_in_whatever_form_it_is_typed():
    assert same_name("Cafe\u0301", ["Café", "mug"]) == "Café"
    assert same_name("Mug", ["mug"]) is None
