"""Places names beside the points of a plot, where they cover neither points nor other names."""

from __future__ import annotations

from typing import Any

_DISTANCES_PT = (6, 14, 24, 36, 50, 66)  # from a point, tried in turn
_SIDES = (
    (1.0, 0.0, "left"), (-1.0, 0.0, "right"), (0.7, 0.7, "left"), (-0.7, 0.7, "right"),
    (0.7, -0.7, "left"), (-0.7, -0.7, "right"), (0.0, 1.0, "center"), (0.0, -1.0, "center"),
)  # fmt: skip
_MARKER_PT = 4.0


def put_labels(figure: Any, axes: Any, points: dict[str, tuple[float, float]]) -> None:
    """Write each name beside its point (x, y), the highest first, with a line if it is far."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    figure.draw_without_rendering()
    frame, half = axes.get_window_extent(renderer), _MARKER_PT * figure.dpi / 72
    taken = []
    for point in points.values():
        x, y = axes.transData.transform(point)
        taken.append(Bbox.from_extents(x - half, y - half, x + half, y + half))
    for name, point in sorted(points.items(), key=lambda item: -item[1][1]):
        label = axes.annotate(
            name, point, xytext=(0, 0), textcoords="offset points", fontsize=8, va="center",
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": "0.6", "shrinkB": 3},
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.3}, zorder=4,
        )  # fmt: skip
        label.set_in_layout(False)
        best: tuple[float, float, tuple[float, float, str], Any] | None = None
        for distance in _DISTANCES_PT:
            for right, up, side in _SIDES:
                place = (distance * right, distance * up, side)
                box = _place(label, place, renderer)
                covered = sum(_overlap(box, other) for other in taken) + _outside(box, frame)
                if best is None or covered < best[0]:
                    best = (covered, distance, place, box)
            if best is not None and best[0] == 0:
                break
        assert best is not None
        _place(label, best[2], renderer)
        label.arrow_patch.set_visible(best[1] > _DISTANCES_PT[0])
        taken.append(best[3])


def _place(label: Any, place: tuple[float, float, str], renderer: Any) -> Any:
    """Put a label at an offset in points. Returns the box of its text, without the line."""
    from matplotlib.text import Text

    label.set_position(place[:2])
    label.set_horizontalalignment(place[2])
    label.update_positions(renderer)
    return Text.get_window_extent(label, renderer)


def _overlap(a: Any, b: Any) -> float:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return float(width * height) if width > 0 and height > 0 else 0.0


def _outside(box: Any, frame: Any) -> float:
    inside = _overlap(box, frame)
    return float(box.width * box.height - inside)
