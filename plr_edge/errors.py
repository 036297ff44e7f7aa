"""The exceptions that plr-edge raises, and the check that an optional library is installed.

Each message says what is wrong and how to fix it.

PlrEdgeError
├── ConfigError        an option, a recipe or a value is not allowed
├── BackboneError      a backbone is unknown, or weights do not fit it
├── GraphError         a graph of ONNX operators is damaged, or holds what cannot be run
├── CutError           a cut is not between two blocks
├── ScheduleError      a schedule is unknown, or its shares are invalid
├── BundleError        a bundle is damaged, untrusted, or failed its parity check
├── StateError         learned state is damaged, not writable, or belongs to another frozen part
├── StreamError        a source of frames cannot be read
│   └── LabelError     a class name cannot be used
├── EngineError        an engine cannot be built or run
└── MissingExtraError  an optional library is not installed, or does not load
"""

from __future__ import annotations

import errno
import importlib
import sys
from importlib.util import find_spec
from typing import Any

# modules of each extra; pyproject.toml lists the packages that provide them
EXTRAS = {
    "train": ("torch",),
    "export": ("torch", "onnx", "onnxscript"),
    "torchvision": ("torchvision",),
    "timm": ("timm",),
    "serve": ("fastapi", "uvicorn", "prometheus_client", "cryptography"),
    "report": ("matplotlib",),
    "ros": ("rosbags",),
    "sign": ("cryptography",),
    "video": ("cv2",),
    "heif": ("pillow_heif",),
    "watch": ("watchfiles",),
}


_PASSING = frozenset({
    errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EAGAIN, errno.EBUSY, errno.ECONNABORTED,
    errno.ECONNREFUSED, errno.ECONNRESET, errno.EDQUOT, errno.EHOSTDOWN, errno.EHOSTUNREACH,
    errno.EINTR, errno.EIO, errno.EMFILE, errno.ENETDOWN, errno.ENETUNREACH, errno.ENFILE,
    errno.ENODEV, errno.ENOMEM, errno.ENOSPC, errno.ENOTCONN, errno.ENXIO,
    errno.EPIPE, errno.EROFS, errno.ESTALE, errno.ETIMEDOUT,
})  # fmt: skip


def one_line(reason: object, most: int) -> str:
    """Return what others say of an error, for a message: on one line, of at most `most` characters.

    Args:
        reason: an exception, or its text.
        most: characters.
    """
    return " ".join(str(reason).split())[:most]


class PlrEdgeError(Exception):
    """Base class of all errors that a user, a file or a board can cause.

    Attributes:
        can_pass: whether the same may succeed later, although nobody corrects anything: a device
            or a mount that is not there yet, a full disk, what another process holds.
    """

    def __init__(self, *arguments: object, can_pass: bool = False) -> None:
        """Take the message."""
        super().__init__(*arguments)
        self.can_pass = can_pass


class ConfigError(PlrEdgeError):
    """An option, a recipe or a value is not allowed."""


class BackboneError(PlrEdgeError):
    """A backbone is unknown, or weights do not fit it."""


class GraphError(PlrEdgeError):
    """A graph of ONNX operators is damaged, or holds what cannot be run."""


class CutError(PlrEdgeError):
    """A cut does not name a block, or lies inside one."""


class ScheduleError(PlrEdgeError):
    """A schedule is unknown, or its shares are invalid."""


class BundleError(PlrEdgeError):
    """A bundle is damaged, untrusted, or failed its parity check."""


class StateError(PlrEdgeError):
    """Learned state is damaged, not writable, or belongs to another frozen part."""


class StreamError(PlrEdgeError):
    """A source of frames cannot be read."""


class LabelError(StreamError):
    """A class name cannot be used."""


class EngineError(PlrEdgeError):
    """An engine cannot be built or run."""


class MissingExtraError(PlrEdgeError):
    """An optional library is not installed, or does not load."""


def may_pass(error: BaseException) -> bool:
    """Return whether what failed may succeed later, although nobody corrects anything."""
    if isinstance(error, OSError):
        return error.errno in _PASSING or isinstance(error, TimeoutError)
    return isinstance(error, PlrEdgeError) and error.can_pass


def require(*extras: str, why: str) -> None:
    """Check that extras are installed, without importing them.

    Args:
        extras: names in `EXTRAS`.
        why: what needs them; the beginning of the error message.

    Raises:
        MissingExtraError: a module is missing; the message names it and the extra.
    """
    missing = {module: None for extra in extras for module in EXTRAS[extra] if _is_missing(module)}
    if missing:
        needed = [extra for extra in extras if missing.keys() & set(EXTRAS[extra])]
        *first, last = missing
        names = f"{', '.join(first)} and {last}" if first else last
        raise MissingExtraError(
            f"{why} needs {names}, which {'are' if first else 'is'} not installed: "
            f"pip install 'plr-edge[{','.join(needed)}]'"
        )


def load(module: str, extra: str, *, why: str) -> Any:
    """Import a module of an extra.

    Args:
        module: name of the module.
        extra: name in `EXTRAS`.
        why: what needs it; the beginning of the error message.

    Raises:
        MissingExtraError: the module is not installed, or does not load.
    """
    require(extra, why=why)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        reason = one_line(error, 200)
        raise MissingExtraError(
            f"{why} needs {module}, which is installed but does not load ({reason}); "
            "run `plr-edge doctor` to find the cause"
        ) from error


def _is_missing(module: str) -> bool:
    if sys.modules.get(module) is not None:
        return False
    return find_spec(module) is None
