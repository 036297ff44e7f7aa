"""Runs a probe in a child process, so that a library that crashes or hangs is just a result."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import IO, Any

ProbeResult = dict[str, Any]
Probe = Callable[..., ProbeResult]  # takes the name of the probe and its arguments

TIMEOUT_S = 120.0  # importing torch from a slow SD card takes half a minute, 48 s at load 13
_KILL_WAIT_S = 2.0
_MAX_CHARACTERS = 4000
# the child gets the import path of this process, wherever that was started
_CODE = (
    "import sys; sys.path[:] = sys.argv[1].split('\\n'); "
    "from plr_edge.doctor.probes import main; main(*sys.argv[2:])"
)


def run_probe(
    name: str,
    *arguments: str,
    path: Sequence[str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> ProbeResult:
    """Run a probe in a child process, and return what it reported before it ended.

    Args:
        name: name in `probes.PROBES`.
        arguments: arguments of the probe.
        path: import path of the child; `sys.path` by default.
        timeout_s: time after which the child is killed.

    Returns:
        The values that the probe reported; `output`, the end of what libraries printed; and
        `error`, one line, if the probe failed, crashed or timed out.
    """
    folders = "\n".join(sys.path if path is None else path)
    with tempfile.TemporaryFile() as reported, tempfile.TemporaryFile() as printed:
        child = subprocess.Popen(
            [sys.executable, "-c", _CODE, folders, name, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=reported,
            stderr=printed,
        )
        ended = _wait(child, timeout_s)
        result: ProbeResult = {}
        for line in _text(reported).splitlines():
            try:
                result |= json.loads(line)
            except ValueError:  # it ended in the middle of a line
                continue
        result["output"] = _text(printed)[-_MAX_CHARACTERS:].strip()
    trying = result.pop("trying", None) or "to start"
    if not ended:
        result["error"] = f"no answer within {timeout_s:g} s when trying {trying}"
    elif child.returncode:
        end = _describe_end(child.returncode, result["output"])
        result["error"] = f"{end} when trying {trying}"
    return result


def _wait(child: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Return whether the child ended in time; one that hangs in a driver is left behind."""
    try:
        child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        child.kill()
        try:
            child.wait(_KILL_WAIT_S)
        except subprocess.TimeoutExpired:
            pass
        return False
    return True


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def _describe_end(code: int, output: str) -> str:
    if code == -signal.SIGKILL:
        return "it was killed, most likely because memory ran out,"
    if code < 0:
        return f"it crashed ({signal.Signals(-code).name})"
    last = output.splitlines()[-1:] or [f"exit code {code}"]
    return f"it ended ({last[0][:200]})"
