"""Draws one self-contained HTML page: plots, tables, images, no network.

Knows how to draw. The caller knows what.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from plr_edge.errors import load
from plr_edge.files import replace_file
from plr_edge.metrics import pareto
from plr_edge.report.plot_labels import put_labels

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c2733; background: #fff }
h1 { margin-bottom: 0 } h2 { margin-top: 2.2rem; border-bottom: 1px solid #d5dde5 }
table { border-collapse: collapse; margin: .6rem 0 } caption { text-align: left; color: #5b6b7a }
td, th { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #e6ebf0 }
td:first-child, th:first-child { text-align: left } svg { max-width: 100%; height: auto }
.frames { display: flex; flex-wrap: wrap; gap: .6rem } .frames figure { margin: 0; width: 7.5rem }
.frames img { width: 7.5rem; height: 7.5rem; image-rendering: auto; border: 3px solid #2b8a3e }
.frames .wrong img { border-color: #c92a2a } figcaption { font-size: .8rem }
tr.bold { font-weight: 600; background: #eef5fb }
.key { display: flex; gap: 2.2rem; margin: 1rem 0 } .key b { display: block; font-size: 1.7rem }
"""
_OURS, _OTHERS = "#1864ab", "#868e96"


def write_report(path: Path, title: str, sections: Sequence[str]) -> None:
    """Write a page of sections, which the functions below make.

    Raises:
        ConfigError: the page cannot be written.
    """
    body = "\n".join(sections)
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>{body}</html>"
    )
    replace_file(path, page.encode())


def section(title: str, *parts: str) -> str:
    """Return parts below a heading."""
    return f"<h2>{html.escape(title)}</h2>" + "".join(parts)


def paragraph(text: str) -> str:
    """Return text as a paragraph."""
    return f"<p>{html.escape(text)}</p>"


def key_figures(figures: dict[str, str]) -> str:
    """Return a few figures in large print, given as text by caption."""
    cells = (f"<div><b>{html.escape(v)}</b>{html.escape(k)}</div>" for k, v in figures.items())
    return f'<div class="key">{"".join(cells)}</div>'


def table(rows: Sequence[dict[str, Any]], caption: str = "", *, bold: Collection[int] = ()) -> str:
    """Return rows as a table. A missing value leaves its cell empty.

    Args:
        rows: values by column. The columns are the keys of the first row.
        caption: caption of the table.
        bold: indices of the rows to print bold.
    """
    if not rows:
        return ""
    columns = list(rows[0])
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    lines = (
        ('<tr class="bold">' if i in bold else "<tr>")
        + "".join(f"<td>{_text(row.get(c))}</td>" for c in columns) + "</tr>"
        for i, row in enumerate(rows)
    )  # fmt: skip
    return (
        f"<table><caption>{html.escape(caption)}</caption><tr>{head}</tr>{''.join(lines)}</table>"
    )


def frames(images: Sequence[tuple[np.ndarray, str, bool]]) -> str:
    """Return images in a grid.

    Args:
        images: image (H, W, 3) uint8, caption, and whether the answer was correct.
    """
    figures = []
    for image, caption, correct in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=88)
        data = base64.b64encode(buffer.getvalue()).decode()
        css_class = "" if correct else ' class="wrong"'
        figures.append(
            f'<figure{css_class}><img alt="" src="data:image/jpeg;base64,{data}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )
    return f'<div class="frames">{"".join(figures)}</div>'


def line_plot(curves: dict[str, np.ndarray], x_label: str, y_label: str) -> str:
    """Draw curves of values in 0..1 over their index."""
    figure, axes = _figure(8.5, 2.8)
    for name, values in curves.items():
        axes.plot(np.arange(1, len(values) + 1), values, label=name, linewidth=1.6)
    axes.set(xlabel=x_label, ylabel=y_label, ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    if len(curves) > 1:
        axes.legend(frameon=False)
    return _svg(figure)


def scatter_plot(
    points: dict[str, tuple[float, float]],
    x_label: str,
    y_label: str,
    *,
    ours: Collection[str] = (),
) -> str:
    """Draw named points and their Pareto front, with costs on a logarithmic axis.

    Points below half of the highest gain are listed below the plot instead of drawn.

    Args:
        points: cost and gain by name.
        x_label: label of the cost axis.
        y_label: label of the gain axis.
        ours: names to highlight.
    """
    if not points:
        return ""
    least = max(y for _, y in points.values()) / 2
    shown = {name: point for name, point in points.items() if point[1] >= least}
    below = [f"{name} ({y:.1f})" for name, (_, y) in points.items() if y < least]
    figure, axes = _figure(8.5, 5.2)
    for name, point in shown.items():
        axes.scatter(*point, s=30, color=_OURS if name in ours else _OTHERS, zorder=3)
    front = _front(list(shown.values()))
    axes.plot(*zip(*front, strict=True), drawstyle="steps-post", color=_OURS, linewidth=0.8,
              alpha=0.6)  # fmt: skip
    axes.set(xlabel=x_label, ylabel=y_label, xscale="log")
    axes.margins(x=0.12, y=0.08)
    axes.grid(alpha=0.3)
    put_labels(figure, axes, shown)
    return _svg(figure) + (paragraph(f"Not drawn, below {least:.0f}: {', '.join(below)}.")
                           if below else "")  # fmt: skip


def _front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points on the Pareto front, the cheapest first."""
    return sorted(point for point, on in zip(points, pareto(points), strict=True) if on)


def time_plot(
    curves: dict[str, list[tuple[float, float]]],
    x_label: str,
    y_label: str,
    height: float = 2.2,
    intervals: Mapping[str, Sequence[float]] | None = None,
) -> str:
    """Draw named curves of (time, value). More than four names stand beside the plot.

    Args:
        curves: points by name.
        x_label: what time is.
        y_label: what the values are.
        height: height of the plot in inches.
        intervals: half an interval for each point of some of the curves, by name.
    """
    figure, axes = _figure(8.5, height)
    for i, (name, points) in enumerate(curves.items()):
        axes.plot(*zip(*points, strict=True), label=name, linewidth=1.2, color=f"C{i % 10}",
                  linestyle="-" if i < 10 else "--")  # fmt: skip
        if intervals is not None and name in intervals:
            xs, ys = (np.array(values) for values in zip(*points, strict=True))
            half = np.array(intervals[name])
            axes.fill_between(xs, ys - half, ys + half, alpha=0.15, color=f"C{i % 10}")
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(alpha=0.3)
    beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if len(curves) > 4 else {}
    axes.legend(frameon=False, fontsize=8, **beside)
    return _svg(figure)


def strip_plot(strips: dict[str, list[tuple[float, float]]], x_label: str) -> str:
    """Draw a row of bars (start, length) for each name."""
    figure, axes = _figure(8.5, 0.6 + 0.32 * len(strips))
    for row, bars in enumerate(strips.values()):
        axes.broken_barh(bars, (row - 0.35, 0.7), color=f"C{row}")
    axes.set_yticks(range(len(strips)), list(strips))
    axes.invert_yaxis()
    axes.set(xlabel=x_label)
    axes.grid(alpha=0.3, axis="x")
    return _svg(figure)


def bar_plot(bars: dict[str, dict[str, float]], y_label: str) -> str:
    """Draw groups of bars, given as {series: {name: value}}."""
    names = list(next(iter(bars.values())))
    figure, axes = _figure(8.5, 2.8)
    width = 0.8 / len(bars)
    for i, (series, values) in enumerate(bars.items()):
        positions = np.arange(len(names)) + (i - (len(bars) - 1) / 2) * width
        axes.bar(positions, [values[name] for name in names], width, label=series)
    turn = 30 if max(map(len, names)) > 8 else 0
    axes.set_xticks(np.arange(len(names)), names, rotation=turn, ha="right" if turn else "center")
    axes.set(ylabel=y_label)
    axes.grid(alpha=0.3, axis="y")
    if len(bars) > 1:
        axes.legend(frameon=False)
    return _svg(figure)


def matrix_plot(matrix: np.ndarray, names: Sequence[str], x_label: str, y_label: str) -> str:
    """Draw a square matrix of values in 0..1. NaN stays blank."""
    figure, axes = _figure(6.0, 5.0)
    shown = axes.imshow(matrix, vmin=0, vmax=1, cmap="viridis")
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel=x_label, ylabel=y_label)
    figure.colorbar(shown, ax=axes, shrink=0.8)
    return _svg(figure)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return html.escape(f"{value:,}" if isinstance(value, int) else str(value))


def figure_class() -> Any:
    """Return matplotlib's Figure. Call it before long work that ends in a page.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    return load("matplotlib.figure", "report", why="a report").Figure


def _figure(width: float, height: float) -> tuple[Any, Any]:
    figure = figure_class()(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
