"""Clocks that jump bend no span of time, and start no new budget of a day."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from store.stores import label

from plr_edge.runtime.undo import mark_undone
from plr_edge.store import Store
from plr_edge.store import facts as facts_module

DAY_S = 86_400
NOW_S = 1_790_000_000  # a day in 2026


class Machine:
    """A wall clock, and a clock since the machine was switched on, that a test moves."""

    def __init__(self, monkeypatch, tmp_path, wall_s):
        self.wall_s, self.up_s, self.boot = wall_s, 10.0, tmp_path / "boot_id"
        self.boot.write_text("first boot\n")
        monkeypatch.setattr(time, "time_ns", lambda: int(self.wall_s * 1e9))
        monkeypatch.setattr(time, "clock_gettime_ns", lambda _: int(self.up_s * 1e9))
        monkeypatch.setattr(facts_module, "BOOT_ID", self.boot)

    def passes(self, seconds):
        self.wall_s += seconds
        self.up_s += seconds

    def reboots(self, wall_s, boot):
        self.wall_s, self.up_s = wall_s, 5.0
        self.boot.write_text(boot)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    return lambda wall_s: Machine(monkeypatch, tmp_path, wall_s)


def teach(store, machine, n=1, after_s=60):
    for _ in range(n):
        machine.passes(after_s)
        store.clock.watch(machine.boot)
        store.teach([replace(label(), time_ns=int(machine.wall_s * 1e9))])


def clock_events(store):
    return [text for _, kind, text in store.events if kind == "clock"]


def test_labels_taught_before_the_clock_was_set_are_found_by_time(machine, tmp_path):
    here = machine(10)  # 1970
    with Store(tmp_path / "s") as store:
        store.clock.watch(here.boot)
        teach(store, here, 3)
        here.wall_s += NOW_S - here.wall_s  # NTP
        teach(store, here, 2)
        times = [x.time_ns / 1e9 - NOW_S for x in store.clock.corrected(store.labels)]
        assert times == pytest.approx([-120, -60, 0, 60, 120], abs=0.01)
        (event,) = clock_events(store)
        assert "jumped forward by" in event and "after label 3" in event and "from 1970" in event
        assert mark_undone(store, "test", since_s=NOW_S - 70, until_s=NOW_S + 61) == [2, 3, 4]


@pytest.mark.parametrize("by_s", [-3600, -7 * DAY_S, 73 * 365 * DAY_S, 5])
def test_a_jump_in_the_middle_and_back_bends_no_span(machine, tmp_path, by_s):
    here = machine(NOW_S)
    with Store(tmp_path / "s") as store:
        store.clock.watch(here.boot)
        teach(store, here, 2)
        here.wall_s += by_s
        teach(store, here, 2)
        here.wall_s -= by_s
        teach(store, here, 2)
        times = [x.time_ns / 1e9 - NOW_S for x in store.clock.corrected(store.labels)]
        assert times == pytest.approx([60, 120, 180, 240, 300, 360], abs=0.01)
        assert len(clock_events(store)) == 2
        stamps = [at for at, _, _ in store.clock.corrected_events()]
        assert max(stamps) / 1e9 <= here.wall_s + 0.01
    with Store(tmp_path / "s") as store:  # the robot starts anew, the clock was right all the time
        store.clock.watch(here.boot)
        assert len(clock_events(store)) == 2 and len(store.clock.jumps) == 2


def test_small_corrections_and_a_machine_that_sleeps_are_no_jumps(machine, tmp_path):
    here = machine(NOW_S)
    with Store(tmp_path / "s") as store:
        for _ in range(20):
            here.wall_s += 0.1  # the network sets the clock a little
            teach(store, here, 1)
        here.passes(7200)  # suspended; both clocks go on
        teach(store, here, 1)
        assert clock_events(store) == []


def test_a_jump_while_no_robot_ran_is_found_and_that_of_a_reboot_is_said(machine, tmp_path):
    here = machine(50)
    with Store(tmp_path / "s") as store:
        store.clock.watch(here.boot)
        teach(store, here, 2)
    here.wall_s = NOW_S
    with Store(tmp_path / "s") as store:
        store.clock.watch(here.boot)
        assert len(clock_events(store)) == 1
        assert all(x.time_ns / 1e9 > NOW_S - 200 for x in store.clock.corrected(store.labels))
        teach(store, here, 1)
    here.reboots(100, "second boot")  # no battery: 1970 again
    with Store(tmp_path / "s") as store:
        store.clock.watch(here.boot)
        assert "before the newest entry" in clock_events(store)[-1]
        teach(store, here, 1)
        here.wall_s = NOW_S + DAY_S
        store.clock.watch(here.boot)
        times = [x.time_ns / 1e9 - NOW_S for x in store.clock.corrected(store.labels)]
        assert times == sorted(times) and DAY_S - 10 < times[-1] <= DAY_S


# the budget of a day


def written(path):
    with Store(path) as store:
        return store.written_today


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setattr(facts_module, "device_bytes_written", lambda: None)


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("wall_s", [10, 3 * DAY_S, NOW_S])
def test_a_fresh_state_opens_and_counts_whatever_the_clock_says(machine, tmp_path, wall_s):
    here = machine(wall_s)
    with Store(tmp_path / "s") as store:
        assert store.written_today == 0
        teach(store, here, 1)
        assert store.written_today > 0


@pytest.mark.usefixtures("counted")
def test_the_budget_of_a_day_survives_jumps_and_reboots(machine, tmp_path):
    here, path = machine(10), tmp_path / "s"
    with Store(path) as store:
        teach(store, here, 2)
        spent = store.written_today
        for wall_s in (NOW_S, NOW_S - 7 * DAY_S, NOW_S + 900 * DAY_S, NOW_S):
            here.wall_s = wall_s
            assert store.written_today == spent
        teach(store, here, 1)
        spent = store.written_today
    for boot in range(3):  # 1970 at each of them, then the network: a day is not over for that
        here.reboots(20, f"boot {boot}")
        assert written(path) == spent
        here.passes(60)
        here.wall_s = NOW_S + boot
        assert written(path) == spent
    here.passes(DAY_S / 2)
    with Store(path) as store:
        teach(store, here, 1)
        assert store.written_today > spent
        here.passes(DAY_S / 2)
        assert store.written_today == 0  # a day of the machine's own time has passed


@pytest.mark.usefixtures("counted")
def test_a_machine_that_was_off_for_a_day_has_a_new_budget(machine, tmp_path):
    here, path = machine(NOW_S), tmp_path / "s"
    with Store(path) as store:
        teach(store, here, 1)
        spent = store.written_today
    here.reboots(NOW_S + 3600, "second")
    assert written(path) == spent
    here.reboots(NOW_S + 2 * DAY_S, "third")
    assert written(path) == 0


@pytest.mark.usefixtures("counted")
def test_a_day_that_an_earlier_version_counted_goes_on(machine, tmp_path):
    here, path = machine(NOW_S), tmp_path / "s"
    with Store(path) as store:
        store.facts.keep(written={"since_ns": (NOW_S - 3600) * 10**9, "bytes": 1234})
        assert store.written_today == 1234
        here.reboots(NOW_S + DAY_S, "second")
    assert written(path) == 0
    assert Path(path / "store.db").is_file()
