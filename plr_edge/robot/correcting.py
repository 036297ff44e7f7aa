"""Requests that take labels back, forget a class, or review the quarantine of a running robot."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import Any, Literal

import numpy as np

from plr_edge.errors import LabelError, StreamError
from plr_edge.robot.calls import done, then
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.operations import KeyReusedError
from plr_edge.robot.taught_frames import TaughtFrames
from plr_edge.runtime.corrections import review
from plr_edge.runtime.undo import mark_undone
from plr_edge.store import LEARNED, TeachRequest
from plr_edge.stream.names import same_name

DIGEST = "request"  # in a stored answer: identifies the request apart from its key
Answer = dict[str, Any]


class Correcting:
    """The part of `Requests` that corrects what was taught. All of it belongs to one thread.

    Each method takes the `key` of the request, which then acts only once, and its `digest`, which
    tells it from another request with the same key.

    Attributes:
        answers: answers to requests by their keys, the newest last.
        thumbnails: a picture of each class that was taught since the start.
        taught: frames that were taught since the start.
    """

    _model: OnlineModel
    _emit: Callable[[str, dict[str, Any]], None]
    answers: dict[str, Answer]
    thumbnails: dict[str, np.ndarray]
    taught: TaughtFrames

    def undo(self, *, key: str | None = None, digest: str = "", **filters: Any) -> Future[Answer]:
        """Undo labels that were learned.

        What answers is rebuilt from the labels that are left, while frames are answered.

        Args:
            key: key of the request.
            digest: identifies the request apart from its key.
            filters: filters of `store.select`, e.g. `last` or `name`.

        Returns:
            How many, once they no longer answer. Or a StreamError if there are none.
        """
        request = self._request(key, digest, "undone")

        def change() -> int:
            undone = mark_undone(
                self._model.store, "undone through the API", statuses=(LEARNED,), request=request,
                **filters,
            )  # fmt: skip
            if not undone:
                raise StreamError("no such label; GET /classes lists what was taught")
            return len(undone)

        return self._corrected("undone", change, "undone", key, digest)

    def rollback(
        self, *, exported: bool = False, key: str | None = None, digest: str = ""
    ) -> Future[Answer]:
        """Go back to the generation before the newest.

        Args:
            exported: go back to the bundle as exported instead.
            key: a request with a key that was used before changes nothing.
            digest: identifies the request apart from its key.

        Returns:
            How many labels that undoes, once they no longer answer. Or a StreamError if there is no
            such generation.
        """
        store, request = self._model.store, self._request(key, digest, "undone")

        def change() -> int:
            if not exported and store.no_older():
                raise StreamError(
                    "there is no generation older than the newest; `exported` goes back to the "
                    "bundle as exported"
                )
            return store.rollback(request, exported=exported)

        return self._corrected("rollback", change, "undone", key, digest)

    def forget(self, name: str, *, key: str | None = None, digest: str = "") -> Future[Answer]:
        """Delete every trace of a class, and learn again without it; see `Store.forget`.

        Returns:
            How many labels were deleted. Or a LabelError if there is no such class.
        """
        store = self._model.store
        known = same_name(name, self._model.learned.classes) or name
        request = self._request(key, "", "forgotten")  # a digest would be a trace of the name

        def change() -> int:
            n_deleted = store.forget(known, request)
            if n_deleted is None:
                raise LabelError(f"no class {name!r}; GET /classes lists them")
            return n_deleted

        def clear(_: Answer) -> None:
            self.thumbnails.pop(known, None)
            self.answers.clear()
            self.answers.update(store.requests.answers())

        return self._corrected("forgotten", change, "forgotten", key, "", clear)

    def review(
        self,
        *,
        confirm: Collection[int] | Literal["all"] = (),
        drop: Collection[int] | Literal["all"] = (),
        key: str | None = None,
        digest: str = "",
    ) -> Future[Answer]:
        """Confirm quarantined labels, which are then learned, or drop them.

        Args:
            confirm: numbers of labels, or `all`.
            drop: numbers of labels, or `all`.
            key: key of the request.
            digest: identifies the request apart from its key.

        Returns:
            How many were confirmed, dropped, and could not be confirmed. Or a ConfigError if one
            is not quarantined.
        """
        request = self._request(key, digest, "reviewed")

        def change() -> Answer:
            reviewed = review(self._model.store, confirm=confirm, drop=drop, request=request)
            return {
                "reviewed": reviewed.n_confirmed + reviewed.n_dropped,
                "confirmed": reviewed.n_confirmed,
                "dropped": reviewed.n_dropped,
                "evicted": reviewed.n_evicted,
            }

        if (known := self._known(key, digest)) is not None:
            return known
        self._check_learning()
        rebuilt = self._model.rebuild_after if confirm else self._model.correct

        def finish(answer: Answer) -> Answer:
            self._keep(key, digest, answer)
            self._emit("quarantine", answer)
            return answer

        return then(rebuilt(change), finish)

    def _corrected(
        self,
        kind: str,
        change: Callable[[], int],
        counted: str,
        key: str | None,
        digest: str,
        after: Callable[[Answer], None] = lambda _: None,
    ) -> Future[Answer]:
        """Change the store, learn again, and answer with the number of labels."""
        if (known := self._known(key, digest)) is not None:
            return known
        self._check_learning()

        def finish(n: int) -> Answer:
            answer = {counted: n}
            after(answer)
            self._keep(key, digest, answer)
            self.taught.clear()
            self._emit(kind, answer)
            if kind != "undone":  # labels are gone, whatever took them
                self._emit("undone", {"undone": n})
            return answer

        return then(self._model.rebuild_after(change), finish)

    def _check_learning(self) -> None:
        """Refuse to change anything while nothing learned is used."""
        if trouble := self._model.restarts.trouble:
            raise StreamError(trouble)

    def _known(self, key: str | None, digest: str) -> Future[Answer] | None:
        """Return what a request with this key was answered, if there was one.

        Raises:
            KeyReusedError: the key came with another request before.
        """
        if key is None or (answer := self.answers.get(key)) is None:
            return None
        return done(without_digest(answer, digest, key))

    def _keep(self, key: str | None, digest: str, answer: Answer) -> None:
        """Remember an answer that is on disk already."""
        raise NotImplementedError

    @staticmethod
    def _request(key: str | None, digest: str, counted: str) -> TeachRequest | None:
        if key is None:
            return None
        own = {DIGEST: digest} if digest else {}
        return TeachRequest(key, "", lambda labels: {counted: len(labels), **own})


def without_digest(answer: Answer, digest: str, key: str) -> Answer:
    """Return a stored answer as the client gets it.

    Raises:
        KeyReusedError: it was the answer to another request.
    """
    if digest and answer.get(DIGEST, digest) != digest:
        raise KeyReusedError(f"the key {key} came with another request before")
    return {name: value for name, value in answer.items() if name != DIGEST}
