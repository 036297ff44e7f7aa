"""TrainerProcess: starts the trainer, exchanges messages with it, and notices its death.

Nothing here waits for the trainer, because messages go out and come in on threads of their own.
Without torch.
"""

from __future__ import annotations

import logging
import math
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection

from plr_edge.robot.protocol import Message, opened, unpack

_log = logging.getLogger(__name__)
_MAX_DEATHS, _WITHIN_S = 5, 300.0
_REST_S = 60.0  # after so many deaths, before the next attempt
_MAX_BACKOFF_S = 30.0
_MAX_QUEUED = 4096
_SLICE_S = 0.02
# Nice before torch is loaded. A process group of its own, because Ctrl-C is for perception. Not a
# session: Linux may give it as much processor time as perception's (autogroup), however nice it is.
_START = """import os, sys
os.setpgrp()
os.nice(int(sys.argv[2]))
os.environ["OPENBLAS_NUM_THREADS"] = sys.argv[3]
from plr_edge.robot.trainer import main
main(int(sys.argv[1]))"""


class TrainerProcess:
    """One child process at a time. A dead one may be replaced after a pause.

    The pause is long once many have died.

    Attributes:
        child: the process. None if there is none.
        n_deaths: number of deaths so far.
        given_up: whether none is started for a minute, because many have died.
        inbox: messages of the child.
        starting: set it while another thread is about to call `start`.
        held: set it to give a child with a limit none of the time for now.
        wake: called when a message has come.
    """

    def __init__(self, nice: int = 10, n_threads: int = 1) -> None:
        """Start nothing yet.

        Args:
            nice: nice value of the children.
            n_threads: threads of their linear algebra, whatever this process has.
        """
        self._arguments = [str(nice), str(n_threads)]
        self.child: subprocess.Popen[bytes] | None = None
        self.n_deaths, self.given_up = 0, False
        self.inbox: queue.Queue[Message] = queue.Queue()
        self.starting = self.held = False
        self.wake: Callable[[], None] = lambda: None
        self._deaths: deque[float] = deque(maxlen=_MAX_DEATHS)
        self._again_at, self._given_up_until = 0.0, math.inf
        self._outbox: queue.Queue[bytes | None] = queue.Queue(_MAX_QUEUED)
        self._share = 1.0
        self._limiting = False

    @property
    def alive(self) -> bool:
        """Whether a child runs."""
        return self.child is not None and self.child.poll() is None

    @property
    def wanted(self) -> bool:
        """Whether it is time to start a child."""
        now = time.monotonic()
        resting = self.given_up and now < self._given_up_until
        return not (self.alive or self.starting or resting) and now >= self._again_at

    @property
    def n_unread(self) -> int:
        """Number of messages that were not written to the child yet."""
        return self._outbox.qsize()

    def start(self) -> bool:
        """Start a child, which waits for its first message. Any thread may do it.

        Returns:
            Whether it was started.
        """
        self.given_up = False
        ours, theirs = socket.socketpair()
        self._outbox = queue.Queue(_MAX_QUEUED)
        with theirs:
            try:
                self.child = subprocess.Popen(
                    [sys.executable, "-c", _START, str(theirs.fileno()), *self._arguments],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                )
            except OSError as error:  # no memory, too many processes
                ours.close()
                self._died(str(error))
                return False
        connection = Connection(ours.detach())
        for work in (self._read, self._write):
            arguments = (connection, self._outbox) if work == self._write else (connection,)
            threading.Thread(target=work, args=arguments, daemon=True).start()
        return True

    def send(self, message: bytes) -> bool:
        """Queue a message. Return False if it was lost, e.g. because the child has died."""
        if not self.alive:
            return False
        try:
            self._outbox.put_nowait(message)
        except queue.Full:  # the child was stopped: start over with what the store has
            self.kill()
            return False
        return True

    def limit(self, share: float) -> None:
        """Let the child run for this share of the time only, in slices of milliseconds.

        Meant for a CPU quota that perception shares with the child. A training step that uses up
        the quota of a whole period would stop the frames too, however nice the child is.
        """
        self._share = share
        if share < 1.0 and not self._limiting:
            self._limiting = True
            threading.Thread(target=self._slice, daemon=True).start()

    def _slice(self) -> None:
        while self._share < 1.0:
            child = self.child
            run_s = 0.0 if self.held else _SLICE_S * self._share
            for number, pause_s in ((signal.SIGCONT, run_s), (signal.SIGSTOP, _SLICE_S - run_s)):
                if pause_s and child is not None and child.poll() is None:
                    with suppress(OSError):
                        child.send_signal(number)
                time.sleep(pause_s)
        if self.child is not None:
            with suppress(OSError):
                self.child.send_signal(signal.SIGCONT)
        self._limiting = False

    def reap(self) -> bool:
        """Notice a death. Return whether there was one, once for each."""
        if self.child is None or self.child.poll() is None:
            return False
        self._died(str(self.child.returncode))
        self.child = None
        with suppress(queue.Full):
            self._outbox.put_nowait(None)
        return True

    def _died(self, why: str) -> None:
        now = time.monotonic()
        _log.warning("the trainer ended (%s)", why)
        self.n_deaths += 1
        self._deaths.append(now)
        recent = sum(now - at < _WITHIN_S for at in self._deaths)
        self.given_up, self._given_up_until = recent >= _MAX_DEATHS, now + _REST_S
        self._again_at = now + min(0.5 * 2**recent, _MAX_BACKOFF_S)

    def kill(self) -> None:
        """End the child at once. It has nothing to lose."""
        if self.child is not None and self.child.poll() is None:
            self.child.kill()
            self.child.wait()

    def dismiss(self) -> None:
        """End the child at once, without counting a death."""
        self.kill()
        self.child = None
        with suppress(queue.Full):
            self._outbox.put_nowait(None)
        while not self.inbox.empty():
            self.inbox.get()

    def _read(self, connection: Connection) -> None:
        with suppress(EOFError, OSError):
            while True:
                try:
                    message = unpack(connection.recv_bytes())
                    if message[0] == "parcel":
                        message = opened(message[1]["place"])
                    self.inbox.put(message)
                    self.wake()
                except ValueError as error:
                    _log.error("the trainer sent a message that cannot be used (%s)", error)

    def _write(self, connection: Connection, outbox: queue.Queue[bytes | None]) -> None:
        with suppress(OSError, BrokenPipeError):
            while (message := outbox.get()) is not None:
                connection.send_bytes(message)
        with suppress(OSError):
            connection.close()
