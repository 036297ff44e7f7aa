"""Values that cannot be used are refused in one line, before anything is opened, made or replaced.

Each test takes several forms of one kind, through the command line.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import click
import pytest

from plr_edge.cli import _COMMANDS, cli
from plr_edge.cli.values import Number, Whole

INF = "9" * 400


@pytest.fixture
def bundle(bundle_path, tmp_path, monkeypatch):
    """A copy of the bundle in the current directory, as `bundle`."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(bundle_path, "bundle")
    return Path("bundle")


def refused(result, *words: str) -> str:
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("Error: "), result.stderr
    for word in words:
        assert word in lines[0]
    return lines[0]


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# directories of bundles and of states


@pytest.mark.parametrize(
    "command",
    [("adapt", "bundle", "demo"), ("run", "bundle", "none")],
    ids=["adapt", "run"],
)
def test_a_state_is_never_put_into_a_bundle(plr_edge, bundle, command):
    before = names(bundle)
    for state in ("bundle", "bundle/", "./bundle/../bundle"):
        refused(plr_edge(*command, "--state", state), "is a bundle", "--state")
    assert names(bundle) == before


def test_force_replaces_a_bundle_and_never_what_else_is_there(plr_edge, bundle, bundle_path):
    for foreign in ("store.db", "notes.txt", "generations", "token"):
        shutil.copytree(bundle_path, "other")
        if foreign == "generations":
            Path("other", foreign).mkdir()
        else:
            Path("other", foreign).write_text("mine")
        before = names(Path("other"))
        refused(plr_edge("export", "-o", "other", "--force"), foreign, "-o")
        assert names(Path("other")) == before
        shutil.rmtree("other")
    export = ("export", "--input-size", "32", "--cut", "head", "-o", "bundle", "--force")
    assert plr_edge(*export).exit_code == 0
    assert names(bundle) == names(bundle_path)


def test_a_state_that_an_earlier_version_put_into_a_bundle_still_opens(
    plr_edge, bundle, tmp_path, caplog
):
    few = ("demo", "--limit-per-class", "2", "--train-ratio", "0")
    assert plr_edge("adapt", "bundle", *few, "--state", "s").exit_code == 0
    shutil.copytree("s", "bundle", dirs_exist_ok=True)
    assert plr_edge("predict", "bundle", "demo", "--limit-per-class", "1", "--state", "bundle"
                    ).exit_code == 0  # fmt: skip
    assert plr_edge("adapt", "bundle", *few, "--state", "bundle").exit_code == 0
    assert "both a bundle and a state" in caplog.text
    refused(plr_edge("export", "-o", "bundle", "--force"), "store.db")


def test_export_looks_at_its_target_and_its_key_first(plr_edge, bundle, monkeypatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the network was loaded")

    monkeypatch.setattr("plr_edge.backbones.load_backbone", never)
    Path("file").write_text("")
    Path("folder").mkdir()
    Path("link").symlink_to("bundle")
    refused(plr_edge("export"), "bundle exists", "--force")
    refused(plr_edge("export", "-o", "file"), "file exists")
    refused(plr_edge("export", "-o", "file", "--force"), "is not a bundle")
    refused(plr_edge("export", "-o", "folder", "--force"), "is not a bundle")
    refused(plr_edge("export", "-o", "link", "--force"), "is not a bundle")
    refused(plr_edge("export", "-o", "file/b"), "cannot write")
    refused(plr_edge("export", "-o", "x" * 300), "cannot write")
    refused(plr_edge("export", "-o", "new", "--sign", "no.pem"), "not a private key")
    assert not Path("new").exists()


def test_the_demo_replaces_only_what_a_demo_made(plr_edge, bundle):
    Path("state").mkdir()
    Path("state/store.db").write_text("mine")
    refused(plr_edge("demo", "-o", "."), "no demo has made it")
    Path("file").write_text("")
    refused(plr_edge("demo", "-o", "file"), "-o")
    assert Path("state/store.db").read_text() == "mine"


# files that are written


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (".", ["is a directory"]),
        ("bundle", ["is a directory"]),
        ("report.pdf", [".json or .html"]),
        ("report", [".json or .html"]),
        ("none/report.json", ["none, which is not a directory"]),
        ("bundle/manifest.json", ["inside the bundle"]),
        ("s/report.html", ["inside the state"]),
        ("s/generations/report.html", ["inside the state"]),
        ("link.json", ["not a plain file"]),
        ("x" * 300 + ".json", ["cannot be written"]),
    ],
)
def test_a_report_that_cannot_be_written_is_refused_at_the_start(plr_edge, bundle, path, words):
    Path("s/generations").mkdir(parents=True)
    Path("s/store.db").write_text("")
    Path("link.json").symlink_to("/dev/null")
    before = names(Path())
    command = ("run", "bundle", "none", "--state", "new", "--report", path)
    refused(plr_edge(*command), "--report", *words)
    assert names(Path()) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--json", "bundle/manifest.json"], ["--json", "inside the bundle"]),
        (["--json", "."], ["--json", "is a directory"]),
        (["--trace", "none/trace.json"], ["--trace", "none"]),
        (["--html", "page.pdf"], ["--html", ".html"]),
        (["--json", "a.html", "--html", "./a.html"], ["same file"]),
    ],
)
def test_files_of_a_profile_are_checked_before_it_is_measured(plr_edge, bundle, options, words):
    before = names(Path())
    refused(plr_edge("profile", "bundle", *options), *words)
    assert names(Path()) == before


def test_a_socket_replaces_no_file(plr_edge, bundle):
    Path("mine").write_text("mine")
    for path in ("mine", "bundle/manifest.json", "bundle"):
        command = ("run", "bundle", "none", "--state", "s", "--listen", f"unix:{path}")
        assert "is not a socket" in plr_edge(*command).output
    assert Path("mine").read_text() == "mine" and Path("bundle/manifest.json").stat().st_size > 9
    assert not Path("s").exists()


# numbers and amounts


def test_every_number_of_every_command_is_finite_and_bounded():
    for name in _COMMANDS:
        for option in cli.get_command(click.Context(cli), name).params:
            number = isinstance(option.type, (click.types.IntParamType, click.types.FloatParamType))
            assert not number or isinstance(option.type, (Whole, Number)), (name, option.name)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", "-1", "1e308", "x"])
def test_numbers_that_are_none_are_refused(plr_edge, bundle, value):
    adapt = ("adapt", "bundle", "demo", "--state", "s")
    refused(plr_edge(*adapt, "--train-ratio", value), "--train-ratio")
    refused(plr_edge("run", "bundle", "demo", "--state", "s", "--rate", value), "--rate")
    refused(plr_edge("plan", "bundle", "--rate", value), "--rate")
    refused(plr_edge(*adapt, "--seed", value), "--seed")
    assert not Path("s").exists()


def test_whole_numbers_have_an_upper_limit(plr_edge, bundle):
    huge = "99999999999999999999"
    refused(plr_edge("export", "-o", "new", "--release", huge), "--release")
    refused(plr_edge("export", "-o", "new", "--input-size", huge), "--input-size")
    refused(plr_edge("export", "-o", "new", "--input-size", "0"), "input size is 0")
    refused(plr_edge("undo", "bundle", "--state", "s", "--label", huge), "--label")
    refused(plr_edge("adapt", "bundle", "demo", "--state", "s", "--seed", huge), "--seed")
    for command in (("adapt", "bundle", "demo"), ("predict", "bundle", "demo"),
                    ("run", "bundle", "none")):  # fmt: skip
        refused(plr_edge(*command, "--state", "s", "--threads", "100000"), "--threads")


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--power", ["-7W", "0W", "nanW", "7", INF + "W", "\u0667W"]),
        ("--duty", ["-5%", "0%", "0.0%", "900000%", INF + "%"]),
        ("--deadline", ["0ms", "-1ms", "infms", "33"]),
        ("--max-temp", ["0C", "-80C", "hot"]),
        ("--memory-limit", ["0", "0MB", "-1GB", INF + "GB", "much"]),
        ("--latent-memory", ["0", "0.5B", INF, "-8MB"]),
    ],
)
def test_amounts_are_read_before_meters_are_asked(plr_edge, bundle, option, values):
    for value in values:
        for command in (("run", "bundle", "none", "--state", "s"), ("plan", "bundle")):
            line = refused(plr_edge(*command, option, value))
            assert "meter" not in line and "sensor" not in line, line
            assert value[:20] in line
    assert not Path("s").exists()


def test_a_duty_is_at_most_all_cores(plr_edge, bundle):
    n_cores = len(os.sched_getaffinity(0))
    command = ("run", "bundle", "none", "--state", "s", "--duty", f"{100 * n_cores + 1}%")
    refused(plr_edge(*command), f"at most {100 * n_cores}%")
    core = str(min(os.sched_getaffinity(0)))
    refused(plr_edge(*command[:-1], "101%", "--cpus", core), "at most 100%")


# what the trainer needs


def test_a_latent_memory_below_one_latent_is_refused(plr_edge, bundle):
    for size in ("100B", "10", "1.5", "0.1KB"):
        for command in (("run", "bundle", "none"), ("adapt", "bundle", "demo")):
            line = refused(plr_edge(*command, "--state", "s", "--latent-memory", size))
            assert "cannot hold a latent" in line and "give at least" in line
    assert not Path("s").exists()


def test_a_memory_limit_below_what_the_trainer_needs_is_refused_with_the_figure(plr_edge, bundle):
    start = ("run", "bundle", "none", "--state", "s")
    line = refused(plr_edge(*start, "--memory-limit", "1B"), "needs", "--memory-limit")
    assert 200 < int(line.split(" needs ")[1].split(" MB")[0]) < 3000
    refused(plr_edge(*start, "--memory-limit", "150MB"), "150 MB is too low")
    assert not Path("s").exists()


# a command that fails leaves nothing


@pytest.mark.parametrize(
    "options",
    [
        ["--pool", "9"], ["--pool", "0"], ["--bits", "5"], ["--schedule", "foo"],
        ["--schedule", "1,2"], ["--schedule", "nan,1,1,1,1"], ["--providers", "none"],
        ["--latent-memory", "1B"], ["--costs", "none.json"], ["--trust", "none.pem"],
        ["--split", "test,train"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_failed_adapt_leaves_no_state(plr_edge, bundle, options):
    refused(plr_edge("adapt", "bundle", "demo", "--state", "s", *options))
    assert names(Path()) == names_of_the_bundle()


def test_a_failed_run_or_an_empty_stream_leaves_no_state(plr_edge, bundle):
    run = ("run", "bundle", "none", "--state", "s")
    for options in (["--pool", "4"], ["--bits", "3"], ["--schedule", "foo"], ["--cpus", "999"],
                    ["--cpus", "-1"], ["--listen", "foo"], ["--rate", "5"]):  # fmt: skip
        refused(plr_edge(*run, *options))
    Path("empty").mkdir()
    refused(plr_edge("adapt", "bundle", "empty", "--state", "s"))
    os.rmdir("empty")
    assert names(Path()) == names_of_the_bundle()


def names_of_the_bundle() -> list[str]:
    return ["bundle", *(f"bundle/{name}" for name in names(Path("bundle")))]


def test_the_largest_pool_is_named(plr_edge, bundle):
    adapt = ("adapt", "bundle", "demo", "--state", "s", "--pool", "5")
    refused(plr_edge(*adapt), "it must lie in 1..3")


@pytest.mark.slow
def test_a_demo_replaces_an_earlier_one(plr_edge, tmp_path):
    output = tmp_path / "d"
    (output / "state" / "generations").mkdir(parents=True)
    (output / "demo.txt").write_text("")
    result = plr_edge("demo", "-o", str(output), "--quick")
    assert result.exit_code == 0, result.output
    assert (output / "report.html").is_file() and (output / "state" / "store.db").is_file()
