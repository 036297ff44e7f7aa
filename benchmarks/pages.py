"""Marked parts of Markdown pages, and figures that stand outside of them.

A part begins with `<!-- figures: NAME -->` and ends with `<!-- /figures: NAME -->`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from plr_edge.errors import ConfigError
from plr_edge.files import replace_file

_PART = re.compile(r"<!-- figures: ([\w-]+) -->\n(.*?)<!-- /figures: \1 -->", re.DOTALL)
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_LINK = re.compile(r"\]\([^)]*\)|https?://\S+")
# a number with the unit of a measurement
_FIGURE = re.compile(
    r"(?<![\w.])[\d,]*\.?\d+ ?(?:%|(?:ms|us|s|MB|kB|MMACs?|GMACs?|MMAC/frame|frames/s|points?|"
    r"times (?:as|the|one|faster|slower))(?!\w))"
)


def parts(file: Path) -> dict[str, str]:
    """Return the marked parts of a page by name."""
    return {name: text.strip() for name, text in _PART.findall(file.read_text(encoding="utf-8"))}


def fill(file: Path, name: str, text: str) -> None:
    """Replace a marked part.

    Raises:
        ConfigError: the page has no such part.
    """
    old = file.read_text(encoding="utf-8") if file.is_file() else ""
    first, last = f"<!-- figures: {name} -->\n", f"<!-- /figures: {name} -->"
    before, found, rest = old.partition(first)
    _, ended, after = rest.partition(last)
    if not found or not ended:
        raise ConfigError(f"{file} has no part {first.strip()} ... {last}; add it where it belongs")
    replace_file(file, f"{before}{first}{text.strip()}\n{last}{after}".encode())


def figures_outside(file: Path, settings: Collection[str] = ()) -> list[str]:
    """Return figures that stand outside of marked parts and of code, as `page:line: text`.

    Args:
        file: Markdown page.
        settings: texts with a number that nobody measured.
    """

    def blank(match: re.Match[str]) -> str:
        return "\n" * match[0].count("\n")

    text = file.read_text(encoding="utf-8")
    for setting in settings:
        text = text.replace(setting, "")
    for pattern in (_PART, _CODE, _LINK):
        text = pattern.sub(blank, text)
    return [
        f"{file.name}:{number}: {match[0]}"
        for number, line in enumerate(text.splitlines(), 1)
        for match in _FIGURE.finditer(line)
    ]
