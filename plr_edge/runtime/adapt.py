"""The loop of `plr-edge adapt`: a finite stream through a session, interruptible at any time."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from plr_edge.errors import LabelError, StreamError
from plr_edge.runtime.adapt_summary import AdaptSummary, Progress
from plr_edge.runtime.resuming import HeldFrames, Relabel, Stopped
from plr_edge.runtime.session import Session
from plr_edge.store import UNDONE
from plr_edge.stream.base import Stream, in_chunks, one_line

__all__ = ["AdaptSummary", "adapt"]

_log = logging.getLogger(__name__)
_SAVE_EVERY_S = 300.0  # 2 GB a day on a board that never stops


def adapt(
    session: Session,
    stream: Stream,
    *,
    key: str | None = None,
    relabel: bool | Callable[[str], bool] = False,
    on_chunk: Callable[[int, AdaptSummary], None] | None = None,
) -> AdaptSummary:
    """Predict and learn a stream to its end, or until Ctrl-C or SIGTERM. Save in either case.

    Frames that the state holds with the same label are passed over, whatever became of the rest of
    the stream, so that a stream that was interrupted can be given again.

    Args:
        session: what learns.
        stream: frames, some with labels.
        key: name under which an earlier version kept the position in this stream.
        relabel: whether frames that the state holds with another label take the new one. A
            function is asked the question.
        on_chunk: called with the position and the summary so far.

    Raises:
        StreamError: the stream holds no readable frame, or nothing of it was taught though labels
            are meant or nothing was learned before. Or it is strict and a frame cannot be read.
        LabelError: a label cannot be used, or frames are held with another label.
    """
    if stream.no_label:
        raise StreamError(f"{stream.no_label}; nothing was taught")
    stream.check_labels(session.learned.classes, session.new_class)
    with _stoppable() as stop:
        held = HeldFrames(session.store, stop.is_set)
        n_relabelled, interrupted = 0, False
        try:
            if not stream.live:
                n_relabelled = _relabel(session, held.relabels(stream), relabel)
        except Stopped:
            interrupted = True
        _tell_of_earlier_version(session, key)
        progress = Progress(session)
        try:
            if not interrupted:
                interrupted = _learn(session, stream, held, progress, stop, on_chunk)
        except StreamError as error:  # or a label that cannot be used
            session.save("the stream broke")
            raise type(error)(f"{error}{_learned_so_far(progress)}") from None
        if interrupted:
            session.save("interrupted")
        else:
            _refuse_nothing(session, stream, held, progress)
            if not _is_saved(session):
                session.finish()
    summary = progress.summary(held.n_known, n_relabelled)
    return replace(
        summary,
        skipped=tuple(stream.skipped),
        interrupted=interrupted,
        state=progress.state(),
    )


def _learn(
    session: Session,
    stream: Stream,
    held: HeldFrames,
    progress: Progress,
    stop: threading.Event,
    on_chunk: Callable[[int, AdaptSummary], None] | None,
) -> bool:
    """Learn the frames that are not held, and return whether that was interrupted."""
    saved = time.perf_counter()
    size = session.config.chunk if stream.chunked else 1
    try:
        for frames in in_chunks(stream.chosen(held.choose), size):
            progress.add(frames, session.observe_many(frames))
            if on_chunk:
                on_chunk(frames[-1].index + 1, progress.summary(held.n_known))
            if stop.is_set():
                return True
            if time.perf_counter() - saved > _SAVE_EVERY_S:
                session.save(within_budget=True)
                saved = time.perf_counter()
    except Stopped:
        return True
    return False


def _relabel(
    session: Session, found: Sequence[Relabel], agreed: bool | Callable[[str], bool]
) -> int:
    """Take back the old labels of frames that have another one now; return how many."""
    if not found or session.store is None:
        return 0
    first = found[0]
    text = (
        f"{len(found)} frames were taught with another label, the first of them "
        f"{one_line(first.source)}: as {first.old!r}, now {first.new!r}"
    )
    if not session.config.keeps_samples:
        raise LabelError(
            f"{text}; nothing of this stream was learned; this state keeps statistics only, from "
            "which a class can be taken back but no single label; see `plr-edge undo --class`"
        )
    if not (agreed(text) if callable(agreed) else agreed):
        raise LabelError(
            f"{text}; nothing of this stream was learned; give --relabel to take the old labels "
            "back and to teach the new ones"
        )
    session.store.mark([x.seq for x in found], UNDONE, "relabelled")
    session.learn_again()
    return len(found)


def _tell_of_earlier_version(session: Session, key: str | None) -> None:
    """Say once that a stream cannot go on where an earlier version stopped in it."""
    store = session.store
    if store is None or key is None or not session.position(key):
        return
    _log.warning(
        "an earlier version stopped at frame %d of %s and did not keep which frames it had taught; "
        "the stream is learned from its beginning, and these are taught twice; `plr-edge undo "
        "--until TIME` takes the older labels back",
        session.position(key), one_line(key.rpartition("#")[0]),
    )  # fmt: skip
    if not store.refusal:
        positions = dict(store.facts.get("positions", {}))
        del positions[key]
        store.facts.keep(positions=positions)


def _is_saved(session: Session) -> bool:
    """Whether the newest generation has every label, so that another would say the same."""
    kept = list(session.store.generations) if session.store else []
    return bool(kept) and session.store is not None and kept[-1].upto == session.store.last_seq


def _learned_so_far(progress: Progress) -> str:
    n_taken = progress.n_taught + progress.n_quarantined
    if not n_taken:
        return ""
    return f". The {n_taken} labels before it are saved; it and what follows are not learned"


def _refuse_nothing(session: Session, stream: Stream, held: HeldFrames, progress: Progress) -> None:
    """Refuse a stream of which nothing was taught, unless nothing of it was to be taught.

    Raises:
        StreamError: it is one, and why.
    """
    if not progress.n_frames and not held.n_known:
        n_bad, first = len(stream.skipped), stream.skipped[0].reason if stream.skipped else ""
        bad = f" that can be read ({n_bad} cannot, the first: {first})" if n_bad else ""
        raise StreamError(f"the stream holds no frame{bad}")
    n_labelled = progress.n_frames - progress.n_unlabelled
    if progress.n_taught or held.n_known:
        return
    if progress.n_quarantined:
        session.finish()
        raise StreamError(
            f"nothing was taught: {progress.n_quarantined} of {n_labelled} labels look like "
            "mistakes and are in quarantine; `plr-edge quarantine` lists and confirms them"
        )
    if n_labelled:
        raise StreamError(
            f"nothing was taught: the features of {n_labelled} frames are not finite; check the "
            "weights of the bundle with `plr-edge inspect`"
        )
    if not session.learned.classes:
        raise StreamError(
            f"none of {progress.n_frames} frames has a label, and nothing was learned before; give "
            "labels by folders, a .csv, `path<TAB>label` lines or --labels of a ROS bag"
        )


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop. The second one acts as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def request(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
