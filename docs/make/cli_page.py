"""Write docs/cli.md from the commands themselves: `python docs/make/cli_page.py`.

A test fails while the page differs from what this script would write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from plr_edge.cli import _SECTIONS, cli
from plr_edge.cli.values import LARGEST

PAGE = Path(__file__).parents[1] / "cli.md"
INTRO = """\
# Command line

<!-- Written by docs/make/cli_page.py from the commands. Do not edit. -->

Results go to standard output. Progress and warnings go to standard error. A mistake, such as a
wrong option, a damaged file or a missing meter, ends a command with one line that says what to do,
and with exit code 2, or with 75 if the same may succeed later although nobody corrects anything: a
disk is full, another process holds a state. A command that was interrupted and saved its work ends with exit code 130. One
whose output nobody reads on, as in `plr-edge predict ... | head -n 1`, is ended by SIGPIPE, without
a word, as other Unix tools are; a shell calls this 141.

`plr-edge COMMAND --help` prints what stands here. [Concepts](concepts.md) explains the words.
"""


def page() -> str:
    """Return the text of the page."""
    rows, parts = "| command | |\n|---|---|\n", []
    for title, names in _SECTIONS.items():
        rows += f"| **{title}** | |\n"
        parts.append(f"## {title}\n")
        for name in names:
            command = cli.get_command(click.Context(cli), name)
            assert command is not None
            rows += f"| [`plr-edge {name}`](#plr-edge-{name}) | {_first(command)} |\n"
            parts += _sections(f"plr-edge {name}", command)
    return "\n".join([INTRO, rows, *parts])


def _sections(name: str, command: click.Command) -> Iterator[str]:
    """Yield the section of a command, and those of its subcommands."""
    usage = command.collect_usage_pieces(click.Context(command))
    text = f"### {name}\n\n```text\n{name} {' '.join(usage)}\n```\n\n{_prose(command.help)}\n"
    options = [o for o in command.params if isinstance(o, click.Option) and not o.hidden]
    if options:
        text += "\n| option | meaning |\n|---|---|\n"
        text += "".join(f"| {_names(option)} | {_meaning(option)} |\n" for option in options)
    yield text
    if isinstance(command, click.Group):
        context = click.Context(command)
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if found is not None:
                yield from _sections(f"{name} {child}", found)


def _prose(help_text: str | None) -> str:
    """Return a help text as paragraphs."""
    paragraphs = re.split(r"\n\s*\n", (help_text or "").replace("\b", "").strip())
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _first(command: click.Command) -> str:
    return _cell(_prose(command.help).split("\n\n")[0])


def _names(option: click.Option) -> str:
    """Return `-o`, `--output PATH`."""
    value = "" if option.is_flag or option.count else " " + _value(option)
    names = [*option.opts, *option.secondary_opts]
    return ", ".join([*(f"`{name}`" for name in names[:-1]), f"`{names[-1]}{value}`"])


def _value(option: click.Option) -> str:
    """Return the word that stands for the value of an option."""
    if isinstance(option.type, click.DateTime):
        return "TIME"
    if isinstance(option.type, click.Choice):
        return str(option.name).upper()
    return option.metavar or option.type.name.split()[0].upper()


def _meaning(option: click.Option) -> str:
    """Return the help of an option, what may be given, and the default."""
    # a default that the code computes is written into the help by hand
    text = re.sub(r"\s*\[default: (.*?)\]", r" Default: \1.", _prose(option.help))
    kind = option.type
    if isinstance(kind, click.Choice):
        text += " One of " + ", ".join(f"`{choice}`" for choice in kind.choices) + "."
    if isinstance(kind, (click.IntRange, click.FloatRange)):
        most = None if kind.max == LARGEST else kind.max  # which only keeps out what is absurd
        limits = [("at least", kind.min), ("at most", most)]
        text_of_limits = ", ".join(f"{word} {n:g}" for word, n in limits if n is not None)
        text += f" {text_of_limits.capitalize()}."
    if isinstance(option.show_default, str):
        text += f" Default: {option.show_default}."
    elif option.show_default and not option.is_flag:
        text += f" Default: `{option.default}`."
    if option.required:
        text += " Required."
    if option.multiple:
        text += " May be given several times."
    return _cell(text)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
