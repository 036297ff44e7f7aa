import itertools

import pytest

from plr_edge.report import page as report

pytest.importorskip("matplotlib")


def test_the_best_rows_of_a_table_stand_out_and_text_is_escaped():
    table = report.table([{"name": "a<b"}, {"name": "c"}], "say", bold=[1])
    assert '<tr class="bold"><td>c</td>' in table and "<tr><td>a&lt;b</td>" in table


def test_names_of_points_cover_neither_each_other_nor_points():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Annotation, Text

    from plr_edge.report.plot_labels import put_labels

    figure, axes = report._figure(8.5, 5.2)
    points = {f"method number {i}": (1.0 + i % 3 / 10, 60.0 + i / 4) for i in range(9)}
    points["far away"] = (1000.0, 50.0)
    for point in points.values():
        axes.scatter(*point, s=30)
    axes.set(xscale="log")
    axes.margins(x=0.2)
    put_labels(figure, axes, points)
    renderer = FigureCanvasAgg(figure).get_renderer()
    labels = [child for child in axes.get_children() if isinstance(child, Annotation)]
    boxes = [Text.get_window_extent(label, renderer) for label in labels]
    assert {label.get_text() for label in labels} == set(points)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    places = [axes.transData.transform(point) for point in points.values()]
    assert not any(box.contains(*place) for box in boxes for place in places)


def test_a_scatter_plot_says_what_it_leaves_out():
    points = {"plr": (10.0, 60.0), "ridge": (1.0, 50.0), "naive": (5.0, 7.0)}
    drawn = report.scatter_plot(points, "cost", "accuracy %", ours={"plr"})
    assert drawn.startswith("<svg") and "Not drawn, below 30: naive (7.0)." in drawn
    assert report._OURS in drawn and report._OTHERS in drawn


def test_the_front_is_what_nothing_as_cheap_beats():
    assert report._front([(3, 6), (1, 5), (2, 5), (2, 7), (1, 4)]) == [(1, 5), (2, 7)]


def test_nothing_to_draw_is_no_picture():
    assert report.scatter_plot({}, "cost", "accuracy %") == ""
