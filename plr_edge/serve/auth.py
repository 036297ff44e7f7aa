"""Who may do what: which requests need which token, and the check.

Knows the head of a request and not its body: a request without the token that it needs is refused
before a byte of the body is read.
"""

from __future__ import annotations

import hmac
import logging
import time
from collections import Counter
from collections.abc import Callable, MutableMapping, Set
from typing import Any

from plr_edge.serve.tokens import TEACHER, VIEWER, Tokens

_log = logging.getLogger(__name__)
OPEN_GETS = frozenset({"/health/live"})  # open to everybody, wherever the robot listens
OPEN_POSTS = frozenset({"/predict"})  # for whoever may look
TOKEN_POSTS = frozenset(
    {
        "/teach",
        "/undo",
        "/rollback",
        "/pause",
        "/resume",
        "/save",
        "/forget",
        "/quarantine",
        "/consolidate",
        "/consolidate/stop",
    }
)
TOKEN_GETS = frozenset({"/log", "/quarantine", "/inspect", "/repair"})  # need a token everywhere
NOBODY, WRONG = "nobody", "wrong"
_SAY_EVERY_S = 10.0
Refused = tuple[int, str]


class TokenCheck:
    """Decides by method, path and token whether a request is answered.

    Attributes:
        rejected: requests without the token that they need (`missing`), and with a wrong one.
    """

    def __init__(
        self,
        token: str | Callable[[], Tokens],
        *,
        open_reading: bool = True,
        open_posts: Set[str] = OPEN_POSTS,
        token_posts: Set[str] = TOKEN_POSTS,
    ) -> None:
        """Check against two tokens, or one.

        Args:
            token: the teacher's token, which `Authorization: Bearer TOKEN` must carry. Or returns
                the tokens of now.
            open_reading: whether looking needs no token.
            open_posts: paths that accept a body from whoever may look.
            token_posts: paths that accept a body only with the teacher's token.
        """
        if isinstance(token, str):
            only = Tokens(token, "")
            self._tokens: Callable[[], Tokens] = lambda: only
        else:
            self._tokens = token
        self._open_reading = open_reading
        self._open, self._with_token = open_posts, token_posts
        self.rejected: Counter[str] = Counter()
        self._unsaid, self._said_s = 0, -_SAY_EVERY_S

    def who(self, scope: MutableMapping[str, Any]) -> str:
        """Return who sends a request (an ASGI scope): teacher, viewer, nobody, or a wrong token."""
        # all of them, so that a second header never adds a try or hides the first
        given = b"".join(value for name, value in scope["headers"] if name == b"authorization")
        if not given:
            return NOBODY
        tokens, found = self._tokens(), WRONG
        for role, token in ((VIEWER, tokens.viewer), (TEACHER, tokens.teacher)):
            if hmac.compare_digest(given, b"Bearer " + token.encode()) and token:
                found = role
        return found

    def refusal(self, scope: MutableMapping[str, Any]) -> Refused | None:
        """Return status and reason if a request must be refused, unread."""
        method, path = scope["method"], scope["path"]
        if method not in ("GET", "HEAD", "POST"):
            return 405, "only GET and POST are supported"
        reading = method != "POST"
        if reading and path in OPEN_GETS:
            return None
        if not reading and path not in self._open and path not in self._with_token:
            needs = self._refused_viewer(scope)
            return needs or (404, "this path does not accept POST")
        if not reading and path in self._with_token:
            who = self.who(scope)
            if who == VIEWER:
                return 403, "the viewer's token changes nothing; send the teacher's"
            return None if who == TEACHER else self._reject(who, scope)
        private = path in TOKEN_GETS or path.startswith("/operations/")
        return self._refused_viewer(scope, always=reading and private)

    def _refused_viewer(
        self, scope: MutableMapping[str, Any], *, always: bool = False
    ) -> Refused | None:
        """Refuse who may not even look.

        Args:
            scope: the request.
            always: a token is needed even where looking is open.
        """
        who = self.who(scope)
        if who in (VIEWER, TEACHER):
            return None
        if self._open_reading and not always:
            if who == WRONG:
                self._reject(who, scope)  # it is counted, though it was not needed
            return None
        return self._reject(who, scope)

    def _reject(self, who: str, scope: MutableMapping[str, Any]) -> Refused:
        reason = "wrong" if who == WRONG else "missing"
        self.rejected[reason] += 1
        if who == WRONG:
            self._unsaid += 1
            if time.monotonic() - self._said_s >= _SAY_EVERY_S:
                client = (scope.get("client") or ("a Unix socket",))[0]
                _log.warning(
                    "%d request%s with a wrong token, the last from %s",
                    self._unsaid, "s" * (self._unsaid > 1), client,
                )  # fmt: skip
                self._unsaid, self._said_s = 0, time.monotonic()
        return 401, "the token is missing or wrong; send Authorization: Bearer TOKEN"
