"""The exceptions that plr-edge raises; each message says what is wrong and how to mend it.

PlrEdgeError
├── ConfigError        an option, a recipe or a value that is not allowed
├── BackboneError      no such backbone, or weights that do not fit it
├── CutError           no such block, or a cut inside one
├── ScheduleError      no such schedule, or shares that are none
├── BundleError        a bundle that is not whole, not ours, or failed its parity check
├── StateError         learned state that is not whole, not writable, or of another frozen part
├── StreamError        a source that cannot be read
│   └── LabelError     a class name that cannot be used
├── EngineError        an engine that cannot be built or run
└── MissingExtraError  an optional library that is not installed
"""

from __future__ import annotations


class PlrEdgeError(Exception):
    """Base of everything that a user, a file or a board can cause."""


class ConfigError(PlrEdgeError):
    """An option, a recipe or a value is not allowed."""


class BackboneError(PlrEdgeError):
    """A backbone is unknown, or weights do not fit it."""


class CutError(PlrEdgeError):
    """A cut names no block, or lies inside one."""


class ScheduleError(PlrEdgeError):
    """A schedule is unknown, or its shares are none."""


class BundleError(PlrEdgeError):
    """A bundle is not whole, not ours, or failed its parity check."""


class StateError(PlrEdgeError):
    """Learned state is not whole, not writable, or belongs to another frozen part."""


class StreamError(PlrEdgeError):
    """A source of frames cannot be read."""


class LabelError(StreamError):
    """A class name cannot be used."""


class EngineError(PlrEdgeError):
    """An engine cannot be built or run."""


class MissingExtraError(PlrEdgeError):
    """An optional library is not installed."""
