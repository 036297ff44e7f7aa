"""Text that is safe in a message. Every file of this room may import it; it imports none."""

from __future__ import annotations


def one_line(value: object, n_characters: int = 300) -> str:
    """Make a value safe for a message: no line break, no escape sequence, not too long."""
    text = "".join(c if c.isprintable() else " " for c in str(value))
    return text if len(text) <= n_characters else text[:n_characters] + "..."
