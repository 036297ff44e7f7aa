"""Ask a child process, so that a library that crashes or hangs is an answer and not the end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import IO, Any

Answer = dict[str, Any]
Ask = Callable[..., Answer]  # (name of the probe, its arguments)

TIMEOUT_S = 120.0  # torch takes half a minute from a cold SD card, 48 s were seen at load 13
_END_S = 2.0
_MOST_CHARACTERS = 4000
# the child sees what this process sees, wherever that was started
_CODE = (
    "import sys; sys.path[:] = sys.argv[1].split('\\n'); "
    "from plr_edge.doctor.child import main; main(*sys.argv[2:])"
)


def ask(
    name: str,
    *arguments: str,
    path: Sequence[str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Answer:
    """Let a child process try something, and return what it told until its end.

    Args:
        name: of a probe in `child.PROBES`.
        arguments: of it.
        path: to import from, as `sys.path`, which is the default.
        timeout_s: after which the child is ended.

    Returns:
        What the probe told; `error`, one line, where it came to no good end; `said`, the end of
        what libraries printed.
    """
    folders = "\n".join(sys.path if path is None else path)
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            [sys.executable, "-c", _CODE, folders, name, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=said,
        )
        ended = _wait(child, timeout_s)
        answer: Answer = {}
        for line in _text(told).splitlines():
            try:
                answer |= json.loads(line)
            except ValueError:  # its end came while it wrote
                continue
        answer["said"] = _text(said)[-_MOST_CHARACTERS:].strip()
    trying = answer.pop("trying", None) or "to start"
    if not ended:
        answer["error"] = f"no answer within {timeout_s:g} s when asked {trying}"
    elif child.returncode:
        answer["error"] = f"{_end(child.returncode, answer['said'])} when asked {trying}"
    return answer


def _wait(child: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Return whether the child ended by itself; one that a driver holds is left behind."""
    try:
        child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        child.kill()
        try:
            child.wait(_END_S)
        except subprocess.TimeoutExpired:
            pass
        return False
    return True


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def _end(code: int, said: str) -> str:
    if code == -signal.SIGKILL:
        return "it was killed, most likely because memory ran out,"
    if code < 0:
        return f"it crashed ({signal.Signals(-code).name})"
    last = said.splitlines()[-1:] or [f"exit code {code}"]
    return f"it ended ({last[0][:200]})"
