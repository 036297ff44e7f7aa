"""Forked children, what they print, and a check that may fail in any way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import powercut

_HANG_S = 300  # of a machine that has much else to do


def child(run) -> tuple[int, bytes]:
    """Fork, run, and return the wait status and what was printed to fd 1."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(_HANG_S)
        os.close(reader)
        os.dup2(writer, 1)
        try:
            run()
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        printed = pipe.read()
    return os.waitpid(pid, 0)[1], printed


def ack(facts: dict[str, object]) -> None:
    os.write(1, json.dumps(facts).encode() + b"\n")


def holds(root: Path, state: dict, check) -> bool:
    """Put a state on a disk, and look at it with a checker."""
    work = root / "work"
    powercut.materialise(state, work)
    try:
        check(work / "state")
        return True
    except Exception as error:  # whatever it is, the promise is broken
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return False
    finally:
        shutil.rmtree(work)
