"""The page, and the policy that lets a browser run nothing but what is in it."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files


@cache
def page_and_policy() -> tuple[str, str]:
    """Return the HTML of the page, and its Content-Security-Policy.

    The policy names the digests of the page's own script and style, so that nothing else runs.
    """
    text = files("plr_edge.serve").joinpath("page.html").read_text(encoding="utf-8")
    script, style = _digests(text, "script"), _digests(text, "style")
    return text, (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _digests(text: str, tag: str) -> str:
    """Return digests of the content of each element, as a policy writes them."""
    contents = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(x.encode()).digest()).decode() for x in contents)
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
