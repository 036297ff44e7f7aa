"""The wire format of protobuf: the fields of a message as views of it. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator

Buffer = bytes | memoryview


def fields(data: Buffer) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the number and the value of each field of a message.

    Args:
        data: the message.

    Yields:
        The field number, and an integer, or a view of the bytes if the field has a length.

    Raises:
        ValueError: the message is damaged.
    """
    view, at = memoryview(data), 0
    while at < len(view):
        key, at = varint(view, at)
        wire_type = key & 7
        if wire_type == 0:
            value, at = varint(view, at)
            yield key >> 3, value
            continue
        if wire_type == 2:
            size, at = varint(view, at)
        elif wire_type in (1, 5):
            size = 8 if wire_type == 1 else 4
        else:
            raise ValueError("it is damaged: a field has an unknown wire type")
        if at + size > len(view):
            raise ValueError("it is damaged: a field ends beyond its message")
        yield key >> 3, view[at : at + size]
        at += size


def message(value: int | memoryview) -> memoryview:
    """Return the value of a field that must have a length.

    Raises:
        ValueError: it is an integer.
    """
    if isinstance(value, int):
        raise ValueError("it is damaged: a field has the wrong type")
    return value


def text(value: int | memoryview) -> str:
    """Return the value of a field as text. Bytes that are not UTF-8 are replaced."""
    return bytes(message(value)).decode(errors="replace")


def varint(data: Buffer, at: int) -> tuple[int, int]:
    """Return the unsigned integer at a position, and the position behind it.

    Raises:
        ValueError: it does not end, or has more than 64 bits.
    """
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("it is damaged: a number does not end")


def varints(value: int | memoryview) -> Iterator[int]:
    """Yield the unsigned integers of a repeated field, packed or not."""
    if isinstance(value, int):
        yield value
        return
    at = 0
    while at < len(value):
        number, at = varint(value, at)
        yield number


def signed(value: int) -> int:
    """Return a 64-bit unsigned integer as the signed one with the same bits."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value
