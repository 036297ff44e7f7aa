import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import comparison, environments, exchange
from benchmarks.peers.environments import Peer, PeerMissing

ROOT = Path(__file__).parents[2]
RIVER = """
class GaussianNB:
    def __init__(self):
        self.sums = {}

    def learn_one(self, x, y):
        n, total = self.sums.get(y, (0, [0.0] * len(x)))
        self.sums[y] = n + 1, [a + b for a, b in zip(total, x.values())]

    def predict_one(self, x):
        def distance(y):
            n, total = self.sums[y]
            return sum((a - b / n) ** 2 for a, b in zip(x.values(), total))
        return min(self.sums, key=distance)
"""


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    means = 2 * rng.standard_normal((4, 8))
    y = rng.permutation(np.repeat(np.arange(4), 40))
    x = (means[y] + rng.standard_normal((160, 8))).astype(np.float32)
    return exchange.Features(x[:100], y[:100], x[100:], y[100:])


def test_features_come_back_as_they_were_written(features, tmp_path):
    features.write(tmp_path / "f.npz")
    again = exchange.read(tmp_path / "f.npz")
    np.testing.assert_array_equal(again.x, features.x)
    assert again.n_classes == 4
    np.testing.assert_allclose(np.linalg.norm(again.unit().test_x, axis=1), 1, rtol=1e-6)
    assert len(again.first_tests(20).test_y) == 20


@pytest.mark.parametrize("name", comparison.OURS)
def test_our_side_of_every_pair_learns(name, features):
    row = comparison.run_ours(name, features, 60)
    assert row["accuracy"] > 0.7
    assert row["n_answered"] == 60


def test_a_peer_is_run_by_its_own_python_and_set_beside_ours(features, tmp_path, monkeypatch):
    """The peer is a stand-in module that only the other Python can see."""
    (tmp_path / "river").mkdir()
    (tmp_path / "river" / "__init__.py").write_text("")
    (tmp_path / "river" / "naive_bayes.py").write_text(RIVER)
    facts = tmp_path / "river-9.9.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: river\nVersion: 9.9\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path}:{ROOT} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(comparison, "python_of", lambda *_: python)
    rows = comparison.compare(features, ("river",), tmp_path, lambda _: None)
    (row,) = rows
    assert row["peer"] == "river" and row["version"] == "9.9"
    assert abs(row["accuracy"] - row["our_accuracy"]) < 0.1
    assert "| river 9.9 | naive Bayes |" in comparison.markdown(rows, "four Gaussians")


def test_a_peer_that_fails_or_cannot_be_installed_is_left_out_with_the_reason(
    features, tmp_path, monkeypatch
):
    monkeypatch.setattr(comparison, "python_of", lambda *_: Path(sys.executable))
    said = []
    rows = comparison.compare(features, ("capymoa",), tmp_path, said.append)
    assert "No module named" in rows[0]["skipped"] and "capymoa is left out" in said[-1]

    def missing(*_):
        raise PeerMissing("no such package")

    monkeypatch.setattr(comparison, "python_of", missing)
    rows += comparison.compare(features, ("river",), tmp_path, said.append)
    assert "Left out: river (no such package)." in comparison.markdown(rows, "four Gaussians")


def test_the_environment_sees_our_packages_behind_its_own(tmp_path, monkeypatch):
    runs = []
    monkeypatch.setattr(environments, "_run", runs.append)
    peer = Peer("river", ("river>=0.21",), ("torchvision",))
    python = environments.python_of(peer, tmp_path / "venv", lambda _: None)
    assert python.exists() and (tmp_path / "venv" / "installed").is_file()
    (behind,) = (tmp_path / "venv" / "lib").glob("python*/site-packages/zz-behind.pth")
    assert str(ROOT) in behind.read_text().splitlines()
    assert runs[0][-1] == "river>=0.21"
    assert runs[1][-2] == "--no-deps" and runs[1][-1].startswith("torchvision==0.")
    runs.clear()
    environments.python_of(peer, tmp_path / "venv", lambda _: None)
    assert not runs  # made once


def test_pip_s_own_word_is_the_reason(tmp_path):
    command = [sys.executable, "-c", "import sys; print('ERROR: nothing there', file=sys.stderr); "
               "sys.exit(1)"]  # fmt: skip
    with pytest.raises(PeerMissing, match="nothing there"):
        environments._run(command)


def test_rivers_densities_are_what_its_naive_bayes_has():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 3)).astype(np.float32), np.arange(30) % 2
    x[:, 2] = y == 0  # does not vary within a class: its density is 0
    ours = comparison.RiverBayes(3, 2)
    ours.learn_many(x, y)
    for c in (0, 1):
        own = x[y == c].astype(float)
        mean, spread = own.mean(0)[:2], own.std(0, ddof=1)[:2]
        density = np.exp(-((x[:, :2] - mean) ** 2) / 2 / spread**2) / spread / (2 * np.pi) ** 0.5
        expected = np.log(1e-9 + density).sum(1) + np.log(1e-9) + np.log(0.5)
        np.testing.assert_allclose(ours.scores_many(x)[:, c], expected, rtol=1e-4)


def test_equal_votes_count_neighbours():
    ours = comparison.OURS["k nearest neighbours"](2, 2)
    angles = np.array([0.0, 0.3, 0.3, 0.3, 0.3, 2.0])
    x = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    ours.learn_many(x, np.array([0, 1, 1, 1, 0, 0]))
    np.testing.assert_array_equal(ours.scores_many(x[:1]), [[2.0, 3.0]])
