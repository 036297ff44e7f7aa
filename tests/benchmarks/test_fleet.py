import numpy as np
import pytest

from benchmarks import fleet, fleet_runs
from benchmarks.class_statistics import Statistics
from benchmarks.runner import Settings
from benchmarks.scenarios import Scenario
from plr_edge.classifiers.lda import StreamingLda
from plr_edge.classifiers.ridge import Ridge
from plr_edge.config import LearningConfig


def samples(n=300, width=6, n_classes=5, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(n_classes, size=n)
    x = rng.standard_normal((n_classes, width))[y] + 0.5 * rng.standard_normal((n, width))
    return x.astype(np.float32), y


def test_statistics_of_two_robots_are_those_of_one_that_saw_both_streams():
    x, y = samples()
    halves = [Statistics.of(x[part], y[part], 5) for part in (slice(None, 100), slice(100, None))]
    both = halves[0] + halves[1]
    for name in ("counts", "sums", "gram"):
        np.testing.assert_allclose(getattr(both, name), getattr(Statistics.of(x, y, 5), name))


def test_ridge_and_lda_from_statistics_are_those_that_saw_the_samples():
    x, y = samples()
    statistics, ridge, lda = Statistics.of(x, y, 5), Ridge(6), StreamingLda(6, shrinkage=0.3)
    ridge.learn_many(x, y)
    lda.learn_many(x, y)
    other = Ridge(6)
    other.restore(statistics.ridge())
    np.testing.assert_allclose(other.fitted.scores(x), ridge.scores_many(x), atol=2e-3)
    weights, constants = statistics.lda()
    np.testing.assert_allclose(x @ weights.T + constants, lda.scores_many(x), rtol=1e-4, atol=1e-3)


def test_what_is_sent_is_counted_to_the_byte_and_close_to_what_was_meant():
    x, y = samples()
    y[y == 4] = 3  # one class that was never seen is not sent
    statistics = Statistics.of(x, y, 5)
    received, n_bytes = statistics.as_received()
    assert n_bytes == 2 * (4 * 6 + 6 * 7 // 2) + 4 * 4
    np.testing.assert_allclose(received.means, statistics.means, atol=2e-3)
    np.testing.assert_allclose(received.within, statistics.within, atol=2e-3)


def test_draws_have_the_mean_and_the_spread_of_their_class():
    x, y = samples(n=2000)
    statistics = Statistics.of(x, y, 5)
    drawn = statistics.draw(np.full(4000, 2), np.random.default_rng(0))
    spread = np.sqrt(np.trace(statistics.within) / 6)
    # 6 sigma of a mean of 4000
    assert abs(drawn.mean(0) - statistics.means[2]).max() < 6 * 1.5 * spread / 4000**0.5


@pytest.mark.parametrize("overlap", ["disjoint", "overlapping"])
def test_each_class_is_seen_by_as_many_robots_as_asked(overlap, made):
    benchmark = made.benchmark(per_class=6)
    robots = fleet.Fleet(benchmark, 3, overlap, LearningConfig(memory_bytes=300_000)).robots
    seen = sum((robot.taps.counts > 0).astype(int) for robot in robots)
    assert (seen == fleet.OVERLAPS[overlap]).all()
    assert sum(len(robot.split.labels) for robot in robots) == len(benchmark.train.labels)


def test_sharing_beats_isolation_costs_bytes_and_resumes(made, monkeypatch):
    for name, value in (("_STEPS", 6), ("_LATENTS_EACH", (2,)), ("_ROUNDS", (1,))):
        monkeypatch.setattr(fleet, name, value)
    monkeypatch.setattr(fleet_runs, "OVERLAPS", {"disjoint": 1})
    monkeypatch.setattr(fleet, "_MOST_TESTED", 60)
    output = made.folder / "fleet"
    settings = Settings(
        data=made.folder, output=output, config=LearningConfig(memory_bytes=300_000)
    )
    scenario, made_seeds = Scenario(dataset="films", per_class=6), []

    def make_benchmark(scenario, seed, *_):
        made_seeds.append(seed)
        return made.benchmark(seed, per_class=6)

    monkeypatch.setattr(fleet_runs, "make_benchmark", make_benchmark)
    monkeypatch.setattr(
        fleet_runs, "in_processes", lambda calls, _: (one(*arguments) for one, arguments in calls)
    )

    def run():
        return fleet_runs.run_fleets(scenario, 2, 1, settings, jobs=1, say=lambda _: None)

    rows = run()
    assert run() == rows and made_seeds == [0, 0, 0]
    lines = {(x["sent"], x["answers"]): x for x in fleet_runs.summary(rows, "disjoint")}
    alone = lines["isolation", "fast"]["accuracy %"]
    assert lines["statistics of the taps", "fast (ridge)"]["accuracy %"] > alone + 20
    one = lines["one robot saw everything", "fast"]["accuracy %"]
    assert abs(lines["statistics of the taps", "fast (ridge)"]["accuracy %"] - one) < 4
    for (sent, _), line in lines.items():
        if "robot saw" not in sent:
            assert (line["kB a robot"] > 0) == (sent != "isolation")
    pytest.importorskip("matplotlib")
    assert (output / "fleet.html").stat().st_size > 5000
    assert "| class means | class means |" in fleet_runs.markdown(rows)
