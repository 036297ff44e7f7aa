"""Hook of mkdocs: the site has the layout of the repository, so one link works on both.

mkdocs reads one folder. The pages of this project lie where a reader of the repository looks for
them, so this hook hands them over by their paths in the repository. It also turns formulas into
MathML, which browsers draw without a script from somewhere else.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = (
    "*.md", "LICENSE", "docs/*.md", "docs/images/*", "benchmarks/*.md", "deploy/README.md",
    "deploy/ros2/README.md",
)  # fmt: skip
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Replace what mkdocs found in docs/ by the pages of the repository."""
    theme = [file for file in files if file.src_dir != config.docs_dir]
    paths = sorted(path for pattern in PAGES for path in ROOT.glob(pattern))
    own = [
        File(path.relative_to(ROOT).as_posix(), str(ROOT), config.site_dir,
             config.use_directory_urls)
        for path in paths
    ]  # fmt: skip
    return Files([*theme, *own])


def on_page_content(content: str, **_: Any) -> str:
    """Turn formulas into MathML."""
    return _FORMULA.sub(_mathml, content)


def _mathml(match: re.Match[str]) -> str:
    display = "block" if match[1] == "div" else "inline"
    return str(convert(html.unescape(match[2]), display=display))
