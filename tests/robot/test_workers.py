"""What is slow is done on other threads; the thread of the frames takes in the results."""

import threading
import time

import numpy as np
import pytest

from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.robot.workers import Workers


@pytest.fixture
def workers():
    made = Workers()
    yield made
    made.close()


def poll_until(workers, condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited too long"
        workers.poll()
        time.sleep(0.001)


def test_a_result_is_taken_in_by_poll_on_the_thread_that_polls(workers):
    seen, woken = [], threading.Event()
    workers.wake = woken.set
    workers.submit(
        workers.aside,
        threading.get_ident,
        lambda done: seen.append((done.result(), threading.get_ident())),
    )
    assert woken.wait(20)
    assert seen == []  # nothing happens before the poll
    workers.poll()
    ((worker, taker),) = seen
    assert taker == threading.get_ident() != worker


def test_a_change_is_under_way_until_it_is_taken_in(workers):
    go = threading.Event()
    outcome = workers.change(lambda: go.wait(20) and 3, lambda n: n + 1)
    assert workers.changing and not outcome.done()
    with pytest.raises(AssertionError):
        workers.change(int, int)
    go.set()
    poll_until(workers, outcome.done)
    assert outcome.result() == 4 and not workers.changing


@pytest.mark.parametrize("where", ["work", "take"])
def test_a_change_that_fails_ends_and_says_why(workers, where):
    def fail(*_):
        raise ValueError("no space")

    outcome = workers.change(*((fail, int) if where == "work" else (int, fail)))
    poll_until(workers, outcome.done)
    with pytest.raises(ValueError, match="no space"):
        outcome.result()
    assert not workers.changing


def test_what_is_postponed_waits_for_the_next_poll(workers):
    calls = []
    workers.call_later(lambda: workers.call_later(lambda: calls.append(1)))
    workers.poll()
    assert calls == []
    workers.poll()
    assert calls == [1]


def test_ridge_learns_everything_before_settle_returns(workers):
    classifier, rng = CombinedClassifier(8, 4), np.random.default_rng(0)
    labels = np.arange(10) % 2
    for _ in range(5):
        taps = rng.standard_normal((10, 8)).astype(np.float32)
        workers.learn_statistics(classifier, taps, taps[:, :4], labels)
    workers.hurry()
    workers.settle()
    assert classifier.pending == []
    assert classifier.ridge.fitted.counts.tolist() == [25, 25]


def test_a_batch_that_ridge_cannot_learn_costs_that_batch_alone(workers, caplog):
    classifier = CombinedClassifier(8, 4)
    workers.hurry()
    taps = np.ones((2, 8), np.float32)
    workers.learn_statistics(None, taps[:1], taps[:1, :4], np.array([0]))
    workers.learn_statistics(classifier, taps, taps[:, :4], np.array([0, 1]))
    workers.settle()
    assert "ridge did not learn a batch" in caplog.text
    assert classifier.ridge.fitted.counts.tolist() == [1, 1]


def test_what_fails_beside_the_frames_costs_no_frame(caplog):
    workers, done = Workers(), []

    def fails(_):
        raise OSError(22, "Invalid argument")

    workers.submit(workers.aside, lambda: 1, fails)
    workers.submit(workers.aside, lambda: 2, lambda future: done.append(future.result()))
    end = time.monotonic() + 20
    while not done and time.monotonic() < end:
        workers.poll()
        time.sleep(0.01)
    workers.close()
    assert done == [2] and "beside the frames failed" in caplog.text
