"""The loop of `plr-edge adapt`: a finite stream through a session, to be interrupted at will."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from plr_edge.errors import StreamError
from plr_edge.runtime.session import Session
from plr_edge.stream.base import Stream, in_chunks

_SAVE_EVERY_S = 300.0  # 2 GB a day on a board that never stops


def adapt(
    session: Session,
    stream: Stream,
    *,
    key: str | None = None,
    on_chunk: Callable[[int, dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Predict and learn a stream to its end, or until Ctrl-C or SIGTERM; save either way.

    Args:
        session: what learns.
        stream: frames, some with labels.
        key: name under which the position is remembered, so that a second call with the same
            state goes on where the first was interrupted.
        on_chunk: called with the position and the summary so far.

    Returns:
        The summary; it fits JSON.

    Raises:
        StreamError: the stream held no readable frame at all, or is strict and met one that is
            not; or it held no label, and nothing had been learned before.
    """
    start = session.position(key) if key else 0
    began, saved, n_frames, position = time.perf_counter(), time.perf_counter(), 0, start
    learned_before = session.learn_s
    stopped = False
    try:
        with _stoppable() as stop:
            size = session.config.chunk if stream.chunked else 1
            for frames in in_chunks(stream.frames_from(start), size):
                position = frames[-1].index + 1
                session.observe_many(frames, {key: position} if key else None)
                n_frames += len(frames)
                if on_chunk:
                    elapsed = time.perf_counter() - began
                    share = (session.learn_s - learned_before) / elapsed
                    on_chunk(position, _summary(session, n_frames, elapsed, share))
                if stop.is_set():
                    stopped = True
                    break
                if time.perf_counter() - saved > _SAVE_EVERY_S:
                    session.save(within_budget=True)
                    saved = time.perf_counter()
    except StreamError:
        _keep_position(session, key, position)
        session.save("the stream broke")
        raise
    if n_frames == 0 and start == 0:
        bad = f" ({len(stream.skipped)} unreadable, the first: {stream.skipped[0].reason})"
        raise StreamError(f"the stream holds no frame{bad if stream.skipped else ''}")
    if not session.classes and not stopped:
        raise StreamError(
            f"none of {n_frames} frames has a label, and nothing was learned before; give labels "
            "by folders, a .csv, `path<TAB>label` lines or --labels of a ROS bag"
        )
    _keep_position(session, key, position if stopped else 0)
    if stopped:
        session.save("interrupted")
    else:
        session.finish()
    elapsed = time.perf_counter() - began
    share = (session.learn_s - learned_before) / max(elapsed, 1e-9)
    return {
        **_summary(session, n_frames, elapsed, share),
        "skipped": [{"source": s.source, "reason": s.reason} for s in stream.skipped],
        "interrupted": stopped,
    }


def _keep_position(session: Session, key: str | None, position: int) -> None:
    if key and session.store:
        session.store.facts.keep(positions={key: position} if position else {})


def _summary(session: Session, n_frames: int, elapsed_s: float, share: float) -> dict[str, Any]:
    cost = session.learner.cost
    return {
        "n_frames": n_frames,
        "n_taught": session.n_taught,
        "n_quarantined": session.n_quarantined,
        "n_classes": len(session.classes),
        "prequential_accuracy": session.history.accuracy,
        "seconds": elapsed_s,
        "frames_per_s": n_frames / max(elapsed_s, 1e-9),
        "learn_share": share,
        "frozen_s": session.perception.frozen_s,
        "adaptive_s": session.perception.adaptive_s,
        "version": session.version,
        "memory": {"n": len(session.memory), "bytes": session.memory.n_bytes},
        "cache": {
            "mean_age_steps": cost.age_sum_steps / max(cost.n_cached, 1),
            "max_age_steps": cost.age_max_steps,
        },
        "macs": {"train": cost.train_macs, "refresh": cost.refresh_macs},
        "steps_per_level": cost.steps_per_level,
    }


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or SIGTERM into a wish to stop; a second one is the usual one."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def wish(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, wish)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
