"""Every figure on the pages stands in a part that a command fills."""

import json

import pytest
from click.testing import CliRunner

from benchmarks import figures, pages
from benchmarks.cli import command


def test_every_figure_of_the_pages_is_made_by_a_command():
    assert figures.check_pages() == []


def test_commands_of_the_figures_exist_and_take_their_options(tmp_path):
    names = command.list_commands(None)
    for name, one in figures.COMMANDS.items():
        assert name in names
        options = {text for p in command.get_command(None, name).params for text in p.opts}
        used = [*one.arguments, *one.quick]
        assert {text for text in used if text.startswith("--")} <= options, name
        for option, taken in (("--data", one.data), ("--jobs", one.jobs)):
            assert not taken or option in options, name
    for part in figures.PARTS:
        assert set(part.commands) <= set(figures.COMMANDS)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("64.2 % right", ["64.2 %"]),
        ("takes 2.2 ms and 102 MB", ["2.2 ms", "102 MB"]),
        ("6.2 times as fast", ["6.2 times as"]),
        ("`--train-ratio 1.48` at 3 % and 2.3", ["3 %"]),
        ("images of 128 pixels, Python 3.10, 100 classes", []),
        ("<!-- figures: a -->\n9 %\n<!-- /figures: a -->\n8 %", ["8 %"]),
        ("```console\n$ x\n99 % right\n```", []),
    ],
)
def test_figures_outside_of_marked_parts_are_found(tmp_path, text, found):
    page = tmp_path / "page.md"
    page.write_text(text)
    assert [line.rpartition(": ")[2] for line in pages.figures_outside(page)] == found
    assert pages.figures_outside(page, ["3 %"]) == [
        line for line in pages.figures_outside(page) if "3 %" not in line
    ]


def test_a_part_is_filled_when_its_results_are_there(tmp_path):
    results, page = tmp_path / "results", tmp_path / "benchmarks" / "results.md"
    results.mkdir()
    page.parent.mkdir()
    marks = "<!-- figures: {0} -->\nold\n<!-- /figures: {0} -->\n"
    page.write_text(marks.format("boards") + marks.format("pace"))
    about = {"commit": "abc", "torch": "2.13", "n_cores": 2, "cpu_model": "a chip"}
    (results / "boards.json").write_text(
        json.dumps({"about": about, "rows": [{"table": "| board |"}]})
    )
    assert figures.fill_pages(results, (), tmp_path) == ["boards"]
    parts = pages.parts(page)
    assert parts["pace"] == "old"
    assert "commit abc, 2 cores of a chip" in parts["boards"] and "| board |" in parts["boards"]


def test_only_names_what_exists():
    result = CliRunner().invoke(command, ["figures", "--only", "nonsense"])
    assert result.exit_code == 2 and "no part 'nonsense'" in result.output
    listed = CliRunner().invoke(command, ["figures", "--list"])
    assert listed.exit_code == 0 and "pace" in listed.output
