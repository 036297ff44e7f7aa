"""The exceptions that plr-edge raises. Each message says what is wrong and how to fix it.

PlrEdgeError
├── ConfigError        an option, a recipe or a value is not allowed
├── BackboneError      a backbone is unknown, or weights do not fit it
├── CutError           a cut is not between two blocks
├── ScheduleError      a schedule is unknown, or its shares are invalid
├── BundleError        a bundle is damaged, untrusted, or failed its parity check
├── StateError         learned state is damaged, not writable, or belongs to another frozen part
├── StreamError        a source of frames cannot be read
│   └── LabelError     a class name cannot be used
├── EngineError        an engine cannot be built or run
└── MissingExtraError  an optional library is not installed
"""

from __future__ import annotations


class PlrEdgeError(Exception):
    """Base class of all errors that a user, a file or a board can cause."""


class ConfigError(PlrEdgeError):
    """An option, a recipe or a value is not allowed."""


class BackboneError(PlrEdgeError):
    """A backbone is unknown, or weights do not fit it."""


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
    """An optional library is not installed."""
