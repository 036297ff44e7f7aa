"""The log of a robot: time for people, priority for journald, JSON for machines."""

import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from plr_edge.cli.logs import LineFormatter, is_journal


def record(level, text="half of %s is full", *values, error=None):
    values = values or ("it",)
    return logging.LogRecord("plr_edge.robot", level, "f.py", 1, text, values, error)


def raised():
    try:
        raise OSError("the disk is gone")
    except OSError:
        return sys.exc_info()


def test_a_line_of_text_has_time_and_level():
    line = LineFormatter("text", journal=False).format(record(logging.WARNING))
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING half of it is full", line)


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3),
     (logging.CRITICAL, 2), (35, 4)],
)  # fmt: skip
def test_journald_gets_the_priority_of_each_line_and_no_time(level, priority):
    text = LineFormatter("text", journal=True).format(record(level, error=raised()))
    lines = text.splitlines()
    assert len(lines) > 3 and all(line.startswith(f"<{priority}>") for line in lines)
    assert f"{logging.getLevelName(level)} half of it is full" in lines[0] and "Z" not in lines[0]


@pytest.mark.parametrize("journal", [False, True])
def test_json_is_one_line_whatever_the_message_holds(journal):
    strange = 'a "quoted"\nsecond line, \u2028 and caf\u00e9'
    line = LineFormatter("json", journal=journal).format(
        record(logging.ERROR, "%s", strange, error=raised())
    )
    assert line.startswith("<3>{" if journal else "{") and "\n" not in line
    facts = json.loads(line.removeprefix("<3>"))
    assert (facts["level"], facts["logger"], facts["message"]) == (
        "error", "plr_edge.robot", strange,
    )  # fmt: skip
    assert "the disk is gone" in facts["exception"]


def test_journald_is_known_by_the_device_and_inode_of_the_stream(tmp_path, monkeypatch):
    with open(tmp_path / "journal", "w") as stream, open(tmp_path / "other", "w") as other:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert is_journal(stream) and not is_journal(other) and not is_journal(io.StringIO())
        for wrong in ("", "8", "a:b", f"{status.st_dev}:"):
            monkeypatch.setenv("JOURNAL_STREAM", wrong)
            assert not is_journal(stream)


@pytest.mark.parametrize(("kind", "journal"), [("text", True), ("json", False), ("json", True)])
def test_a_robot_logs_so(bundle_path, tmp_path, kind, journal):
    with open(tmp_path / "log", "w+") as log:
        status = os.fstat(log.fileno())
        stream = f"{status.st_dev}:{status.st_ino}" if journal else ""
        robot = subprocess.Popen(
            [sys.executable, "-m", "plr_edge", "run", str(bundle_path), "none",
             "--state", str(tmp_path / "s"), "--listen", f"unix:{tmp_path / 'r'}", "--log", kind],
            stderr=log, env={**os.environ, "JOURNAL_STREAM": stream},
        )  # fmt: skip
        try:
            end = time.monotonic() + 60
            while "steps/s" not in (tmp_path / "log").read_text() and time.monotonic() < end:
                time.sleep(0.1)
        finally:
            robot.send_signal(signal.SIGTERM)
            robot.wait(60)
    lines = (tmp_path / "log").read_text().splitlines()
    (line,) = [line for line in lines if "no budget" in line][:1]
    assert line.startswith("<6>") == journal
    line = line.removeprefix("<6>")
    message = json.loads(line)["message"] if kind == "json" else line
    assert "no budget" in message
