"""What was given is never replaced by a default. These tests list each place where it could be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from plr_edge.cli import cli

PACKAGE = Path(__file__).parents[1] / "plr_edge"
_VALUES = {"str", "int", "float", "Path", "bytes", "Sequence", "list", "tuple", "dict", "Mapping"}
_FLAGS = {"as_json", "show_all", "allow_code", "relabel"}  # without a value, or several times
_REPEATED = {"precisions", "names"}

# `if value` and `value or default` take an empty string or a zero for "not given". Allowed where
# the two mean the same.
MAY_BE_EMPTY = {
    "robot/requests.py teach encoded": "an empty list of frames is refused there",
    "robot/options.py _trainer_threads cpus": "a list of cores is never empty",
    "stream/__init__.py open_stream topic": "the options --topic and --labels refuse it",
    "stream/__init__.py open_stream labels": "the options --topic and --labels refuse it",
    "stream/bag.py open_bag labels": "the options --topic and --labels refuse it",
}

# Exceptions that nobody hears of. None of them may come from what a user gave.
SILENT = {
    "what a machine does not have is absent": (
        "boards/__init__.py _read_text", "doctor/examine.py _locked", "doctor/probes.py _load",
        "doctor/probes.py _python", "doctor/probes.py main", "doctor/probing.py run_probe",
        "files.py read_text", "files.py read_int", "files.py device_bytes_written",
        "meters/board.py _reported_power_mode", "meters/nvml.py _load",
        "robot/sensors.py _resident", "robot/sensors.py _run_and_wait_s",
        "robot/systemd.py notify", "robot/trainer.py main", "cli/logs.py is_journal",
        "serve/images.py _yield_processor", "serve/owner.py machine", "serve/tokens.py _places",
    ),
    "a process that ended": (
        "cli/watch_command.py command", "cli/watch_command.py _come_again",
        "cli/watch_command.py _print_events", "cli/consolidate_command.py _by_robot",
        "serve/access.py address_of", "doctor/probing.py _wait",
        "robot/trainer_process.py _slice", "robot/trainer_process.py reap",
        "robot/trainer_process.py dismiss", "robot/trainer_process.py _read",
        "robot/trainer_process.py _write", "robot/trainer_process.py send",
    ),
    "a file of ours that is made again": (
        "engines/plan_build.py _use_timings", "engines/plan_cache.py _read_sidecar",
        "engines/plan_cache.py _built", "engines/trial.py try_bundle",
        "serve/server.py _bound_path", "export/to_onnx.py _strip",
        "store/folder.py make_private", "store/folder.py make_folder", "store/folder.py locked",
        "store/replacing.py finish_repair", "store/repairing.py _remove_unfinished",
        "store/repairing.py _repaired", "robot/trainer_memory.py needs_of",
        "runtime/consolidation.py remember", "serve/access.py tell_address",
        "serve/access.py withdraw_address", "serve/tokens.py write_private",
        "store/backup.py _copied", "store/backup.py _verified",
        "store/replacing.py refuse_restored", "store/replacing.py take_restored",
        "store/upgrading.py _upgraded", "serve/owner.py renew_if_copied",
    ),
    "damage that its caller reports, or that is tried again": (
        "planning/search_space.py _other_sizes", "robot/governor_loop.py tick",
        "robot/disk_watch.py _found",
        "robot/restart_guard.py __init__", "robot/restart_guard.py _keep",
        "runtime/session.py learn_again",
        "cli/consolidate_command.py command",
        "store/database.py close", "store/database.py checkpoint", "store/discarding.py _is_blank",
        "store/database.py _abandon", "store/place.py _identity", "store/events.py note",
        "store/folder.py check_plain", "store/folder.py warn_of_place",
        "store/folder.py _check_own", "store/generation_files.py entries_of_files",
        "store/generation_files.py holds", "store/generation_files.py remove_files",
        "store/generation_files.py _files", "store/generations.py knowing",
        "store/repairing.py repair", "store/repairing.py _row",
        "store/salvage.py schema_in_header", "store/salvage.py _rows",
        "store/transaction.py fact_of", "store/backup.py outcome", "robot/stand_in.py _copy",
        "robot/label_changes.py rebuild_after", "robot/label_changes.py work",
    ),
    "an error follows, with the value": (
        "cli/schedule_command.py _widths", "ros/adapter.py _tried", "serve/events.py event_stream",
        "serve/limits.py _body", "serve/limits.py _pass_on",
        "serve/posts.py _done", "serve/address.py _is_ip", "stream/__init__.py _existing",
        "stream/files.py file_entry", "stream/bag.py is_bag", "stream/base.py _some_images",
        "stream/files.py windows_path", "stream/folder.py held_out_split",
        "stream/folder.py _is_image", "stream/archive.py _is_image", "stream/listed.py _stamp_ns",
        "stream/folder.py _count_hidden",
    ),
    "the end of a stream, or a frame that is counted": (
        "stream/bag.py messages", 
        "runtime/adapt.py adapt", "runtime/adapt.py _learn", "stream/watched.py _version",
    ),
    "a fact of the file that may be absent": (
        "cli/client.py _own_fingerprint", "cli/client.py ask",
        "export/windows.py _levels_of_window",
        "stream/decode.py turn_of", "stream/archive.py _zip", "stream/archive.py _zip_name",
    ),
}  # fmt: skip


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{path.relative_to(PACKAGE)} {node.name}", node


def optional(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Parameters that may be None, and whose other values may be empty or zero."""
    arguments = function.args
    found = set()
    for one in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        kinds = (
            {k.strip().split("[")[0] for k in ast.unparse(one.annotation).split("|")}
            if (one.annotation)
            else set()
        )
        if "None" in kinds and kinds & _VALUES:
            found.add(one.arg)
    return found


def truth_tested(node: ast.AST) -> Iterator[ast.expr]:
    """Expressions whose truth decides something."""
    for one in ast.walk(node):
        if isinstance(one, ast.If | ast.While | ast.IfExp):
            yield from parts(one.test)
        elif isinstance(one, ast.BoolOp):
            yield from parts(one)
        elif isinstance(one, ast.comprehension):
            yield from (part for test in one.ifs for part in parts(test))


def parts(test: ast.expr) -> Iterator[ast.expr]:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        yield from parts(test.operand)
    elif isinstance(test, ast.BoolOp):
        yield from (part for value in test.values for part in parts(value))
    else:
        yield test


def is_option(test: ast.expr) -> str | None:
    """Return the name of `options["name"]`, unless it is a flag or a list."""
    if isinstance(test, ast.Subscript) and ast.unparse(test.value) in ("options", "given"):
        if isinstance(test.slice, ast.Constant):
            name = str(test.slice.value)
            return None if name in _FLAGS | _REPEATED else name
    return None


def test_an_empty_string_or_a_zero_is_never_taken_for_nothing_given():
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        for where, function in functions(path):
            names = optional(function)
            for test in truth_tested(function):
                name = test.id if isinstance(test, ast.Name) else is_option(test)
                if name and (name in names or not isinstance(test, ast.Name)):
                    found.add(f"{where} {name}")
    assert sorted(found - MAY_BE_EMPTY.keys()) == [], "write `is None`"


def is_silent(handler: ast.ExceptHandler) -> bool:
    """Whether a handler neither raises, nor logs, nor passes on what it caught."""
    for node in (inner for line in handler.body for inner in ast.walk(line)):
        if isinstance(node, ast.Raise):
            return False
        if isinstance(node, ast.Name) and node.id == handler.name:
            return False
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("_log.", "_logger.")):
            return False
    return True


def test_no_exception_turns_what_a_user_gave_into_a_default():
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        for where, function in functions(path):
            for node in ast.walk(function):
                suppressed = isinstance(node, ast.With) and any(
                    "suppress(" in ast.unparse(item.context_expr) for item in node.items
                )
                if suppressed or (isinstance(node, ast.ExceptHandler) and is_silent(node)):
                    found.add(where)
    listed = {where for places in SILENT.values() for where in places}
    assert sorted(found - listed) == [], "raise, log, or list it here with its reason"


@pytest.mark.parametrize("option", ["--topic", "--labels"])
@pytest.mark.parametrize("command", ["adapt", "predict"])
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_topic_is_not_the_topic_that_there_is(option, command, value, tmp_path):
    arguments = [command, str(tmp_path), "demo", "--state", str(tmp_path / "s"), option, value]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert f"{option} is empty" in result.output
