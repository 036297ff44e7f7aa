"""Message classes that are as strict as those of rclpy, made from definitions that rosbags reads.

As rosidl's Python classes do, they take keywords only, have defaults, refuse unknown fields and
values of another type, hold `byte` as bytes and uint8[] as array.array.
"""

from array import array

import numpy as np
from rosbags.interfaces import Nodetype

from tests.stream.bags import typestore

STORE = typestore()
_RANGES = {
    "int32": (-(2**31), 2**31 - 1), "uint8": (0, 255), "uint16": (0, 2**16 - 1),
    "uint32": (0, 2**32 - 1),
}  # fmt: skip
_CLASSES = {}


def message_class(name):
    """Return the class of a message such as std_msgs/msg/Header."""
    if name not in _CLASSES:
        constants, fields = STORE.fielddefs[name]
        body = {"__slots__": (), "NAME": name, "FIELDS": dict(fields)}
        body |= {c: bytes([v]) if kind == "byte" else v for c, kind, v in constants}
        _CLASSES[name] = type(name.rpartition("/")[2], (_Message,), body)
    return _CLASSES[name]


class _Message:
    __slots__ = ("_values",)

    def __init__(self, **kwargs):
        unknown = set(kwargs) - set(self.FIELDS)
        assert not unknown, f"{self.NAME} has no {unknown}"
        values = {name: _default(kind) for name, kind in self.FIELDS.items()}
        object.__setattr__(self, "_values", values)
        for name, value in kwargs.items():
            setattr(self, name, value)

    def __getattr__(self, name):
        if name in type(self).FIELDS:
            return self._values[name]
        raise AttributeError(f"{self.NAME} has no {name}")

    def __setattr__(self, name, value):
        if name not in self.FIELDS:
            raise AttributeError(f"{self.NAME} has no {name}")
        _check(self.FIELDS[name], value, f"{self.NAME}.{name}")
        kind, inner = self.FIELDS[name]
        if kind == Nodetype.SEQUENCE and inner[0] == (Nodetype.BASE, ("uint8", 0)):
            value = array("B", value)
        self._values[name] = value


def _default(kind):
    node, inner = kind
    if node == Nodetype.NAME:
        return message_class(inner)()
    if node == Nodetype.SEQUENCE:
        return array("B") if inner[0] == (Nodetype.BASE, ("uint8", 0)) else []
    defaults = {"string": "", "bool": False, "byte": b"\0", "float32": 0.0, "float64": 0.0}
    return defaults.get(inner[0], 0)


def _check(kind, value, where):
    node, inner = kind
    if node == Nodetype.NAME:
        assert isinstance(value, message_class(inner)), f"{where} is {value!r}"
    elif node == Nodetype.SEQUENCE:
        assert isinstance(value, (list, tuple, array, np.ndarray)), f"{where} is {value!r}"
        if inner[0] != (Nodetype.BASE, ("uint8", 0)):
            for one in value:
                _check(inner[0], one, where)
    elif inner[0] == "byte":
        assert isinstance(value, bytes) and len(value) == 1, f"{where} is {value!r}"
    elif inner[0] in _RANGES:
        least, most = _RANGES[inner[0]]
        assert isinstance(value, int) and least <= value <= most, f"{where} is {value!r}"
    else:
        wanted = {"string": str, "bool": bool, "float32": float, "float64": float}[inner[0]]
        assert isinstance(value, wanted), f"{where} is {value!r}"


def to_bag(message):
    """Return the rosbags message of the same content."""
    values = {}
    for name in message.FIELDS:
        value = message._values[name]
        if isinstance(value, bytes):
            value = value[0]
        elif isinstance(value, array):
            value = np.frombuffer(value, np.uint8)
        elif isinstance(value, _Message):
            value = to_bag(value)
        elif isinstance(value, (list, tuple)):
            value = [to_bag(one) for one in value]
        values[name] = value
    return STORE.types[message.NAME](**values)


def from_bag(message):
    """Return the message that rclpy would deliver for a rosbags message."""
    made = message_class(message.__msgtype__)()
    for name, (node, inner) in made.FIELDS.items():
        value = getattr(message, name)
        if node == Nodetype.NAME:
            value = from_bag(value)
        elif node == Nodetype.SEQUENCE and inner[0][0] == Nodetype.NAME:
            value = [from_bag(one) for one in value]
        elif node == Nodetype.BASE and inner[0] == "byte":
            value = bytes([value])
        setattr(made, name, value)
    return made


def over_the_wire(message):
    """Return a rosbags message that was serialised and read again, as another node would get it."""
    data = STORE.serialize_cdr(to_bag(message), message.NAME)
    return STORE.deserialize_cdr(data, message.NAME)


class Trigger:
    """std_srvs/srv/Trigger: its two halves."""

    class Request:
        """Empty."""

    class Response:
        """Holds success and message."""

        def __init__(self):
            object.__setattr__(self, "_values", {"success": False, "message": ""})

        def __getattr__(self, name):
            return self._values[name]

        def __setattr__(self, name, value):
            assert type(value) is type(self._values[name]), f"{name} is {value!r}"
            self._values[name] = value
