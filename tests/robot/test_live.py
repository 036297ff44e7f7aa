import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.errors import LabelError, PlrEdgeError, StateError, StreamError
from plr_edge.robot.governor import Budget, Governor
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.robot import Robot
from plr_edge.runtime.session import Session
from plr_edge.store import Store
from plr_edge.stream.base import Frame


@pytest.fixture(scope="module")
def bundle(bundle_path):
    return open_bundle(bundle_path)


def make_robot(bundle, state):
    model = OnlineModel(bundle, state, LearningConfig())
    return Robot(model, Governor(Budget(), model.schedule, [0.01] * len(bundle.levels)))


@pytest.fixture
def robot(bundle, tmp_path):
    made = make_robot(bundle, tmp_path / "s")
    thread = threading.Thread(target=made.run)
    thread.start()
    yield made
    made.stop()
    thread.join(20)
    made.model.close()


def ask(robot, act, timeout=20):
    return robot.call(act).result(timeout)


def until(condition, timeout=120):  # a niced trainer on a busy machine takes its time
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def objects(demo_frames, n=2):
    names = list(dict.fromkeys(frame.label for frame in demo_frames))[:n]
    return {name: [f.image for f in demo_frames if f.label == name] for name in names}


def test_a_taught_object_is_known_at_once_and_consolidated_later(robot, demo_frames):
    taught = objects(demo_frames)
    for name, images in taught.items():
        ask(robot, lambda n=name, i=images: robot.requests.teach(n, images=i[:8]))
    for name, images in taught.items():
        answers = ask(robot, lambda i=images: robot.requests.predict(i[8:]))
        assert [a["top"][0][0] for a in answers].count(name) >= 3
        assert answers[0]["version"] == 0
    until(lambda: robot.model.learned.version >= 1)
    for name, images in taught.items():
        answers = ask(robot, lambda i=images: robot.requests.predict(i))
        assert [a["top"][0][0] for a in answers].count(name) >= 11
        assert answers[0]["version"] >= 1


def test_the_mix_is_fitted_when_no_more_labels_come_and_survives_a_restart(
    bundle, demo_frames, tmp_path, monkeypatch
):
    monkeypatch.setattr("plr_edge.robot.mix_fitting._IDLE_S", 1.0)
    robot = make_robot(bundle, tmp_path / "s")
    thread = threading.Thread(target=robot.run)
    thread.start()
    try:
        for name, images in objects(demo_frames, 6).items():
            ask(robot, lambda n=name, i=images: robot.requests.teach(n, images=i))
        until(lambda: robot.model.learned.classifier.mix is not None)
        until(lambda: robot.model.learned.version >= 1)
        assert ask(robot, robot.requests.save)
        frames = demo_frames[::7]
        before = ask(robot, lambda: robot.requests.predict([f.image for f in frames]))
        fitted = robot.model.learned.classifier.mix.facts()
    finally:
        robot.stop()
        thread.join(20)
        robot.model.close()
    model = OnlineModel(bundle, tmp_path / "s", LearningConfig())
    try:
        assert model.learned.classifier.mix.facts() == fitted
        after = model.perception.predict_many(frames)
        assert [p.top[0][0] for p in after] == [a["top"][0][0] for a in before]
    finally:
        model.close()
    with contextlib.closing(Store(tmp_path / "s")) as store:
        assert any("mix of" in text for _, _, text in store.events)


def test_a_trainer_that_is_killed_comes_back_and_knows_everything(robot, demo_frames):
    for name, images in objects(demo_frames).items():
        ask(robot, lambda n=name, i=images: robot.requests.teach(n, images=i))
    until(lambda: robot.model.trainer.report.get("to_go") is not None)
    robot.model.trainer.process.child.send_signal(signal.SIGKILL)
    until(lambda: robot.model.trainer.process.n_deaths == 1)
    until(lambda: robot.model.trainer.process.alive)
    until(lambda: robot.model.learned.version >= 1)
    assert ask(robot, robot.health)["trainer"]["deaths"] == 1


def test_after_many_deaths_it_answers_without_learning_and_says_so(robot, demo_frames):
    robot.model.trainer.process._again_at = 0
    for i in range(5):
        until(lambda: robot.model.trainer.process.alive)
        robot.model.trainer.process.child.kill()
        until(lambda n=i: robot.model.trainer.process.n_deaths == n + 1)
        robot.model.trainer.process._again_at = 0
    until(lambda: robot.state == "degraded")
    assert "trainer" in robot.reason
    name, images = next(iter(objects(demo_frames).items()))
    ask(robot, lambda: robot.requests.teach(name, images=images[:5]))
    assert ask(robot, lambda: robot.requests.predict(images[5:6]))[0]["top"][0][0] == name


@pytest.mark.alone
def test_frames_go_on_while_the_trainer_is_stopped(robot, demo_frames):
    until(lambda: robot.model.trainer.process.alive)
    robot.model.trainer.process.child.send_signal(signal.SIGSTOP)
    source = iter(demo_frames * 3)
    robot.feed(frame for frame in source if not time.sleep(0.03))
    until(lambda: robot.stats.n_frames + robot.stats.total("dropped") >= len(demo_frames) * 3 - 1)
    assert robot.stats.n_frames > 0.8 * 3 * len(demo_frames)
    robot.model.trainer.process.child.send_signal(signal.SIGCONT)


def test_the_newest_frame_wins_and_drops_are_counted(bundle, tmp_path, demo_frames):
    robot = make_robot(bundle, tmp_path / "s")
    robot.feed(iter(demo_frames[:10]))  # nobody takes them
    assert (robot.stats.total("dropped"), robot._newest.source) == (9, demo_frames[9].source)
    robot.model.close()


def test_frames_just_seen_can_be_taught_by_count_or_stamp(robot, demo_frames):
    stamped = [
        type(f)(f.image, None, 1000 + i, f.source, i) for i, f in enumerate(demo_frames[:12])
    ]
    for frame in stamped:
        robot.feed(iter([frame]))
        until(lambda f=frame: robot.latest is not None and robot.latest[0] is f)
    assert ask(robot, lambda: robot.requests.teach("a", last=3))["taught"] == 3
    assert ask(robot, lambda: robot.requests.teach("b", stamp_ns=1004))["taught"] == 1
    with pytest.raises(StreamError, match="no such frame"):
        ask(robot, lambda: robot.requests.teach("b", stamp_ns=7))
    with pytest.raises(LabelError):
        ask(robot, lambda: robot.requests.teach("a/b"))
    assert ask(robot, robot.requests.classes) == [
        {"name": "a", "taught": 3},
        {"name": "b", "taught": 1},
    ]


def test_a_key_teaches_once_even_after_a_restart(bundle, tmp_path, demo_frames):
    images = [f.image for f in demo_frames[:3]]
    for _ in range(2):
        robot = make_robot(bundle, tmp_path / "s")
        thread = threading.Thread(target=robot.run)
        thread.start()
        first, second = (
            ask(robot, lambda r=robot: r.requests.teach("a", images=images, key="k1"))
            for _ in range(2)
        )
        assert first["taught"] == second["taught"] == 3 and first["first"] == second["first"] == 1
        assert first == second == {"taught": 3, "first": 1, "label": "a", "quarantined": 0}
        assert robot.model.store.last_seq == 3
        robot.stop()
        thread.join(20)
        robot.model.close()


def test_only_the_newest_keys_are_kept(robot, demo_frames, monkeypatch):
    for module in ("plr_edge.store.requests", "plr_edge.robot.requests"):
        monkeypatch.setattr(f"{module}.MAX_REQUESTS", 64)
    images = [demo_frames[0].image]
    for i in range(70):
        ask(robot, lambda i=i: robot.requests.teach("a", images=images, key=f"k{i}"))
    assert list(robot.requests.answers) == [f"k{i}" for i in range(6, 70)]
    assert robot.model.store.requests.answers() == robot.requests.answers


@pytest.mark.alone
def test_frames_are_answered_while_a_label_waits_for_the_disk(robot, demo_frames, monkeypatch):
    """And the label answers only once it is durable; other changes wait, other requests do not."""
    real, wait, waits = robot.model.store.teach, threading.Event(), threading.Event()

    def slow(labels, **facts):
        waits.set()
        assert wait.wait(60)
        return real(labels, **facts)

    monkeypatch.setattr(robot.model.store, "teach", slow)
    image, other = demo_frames[0].image, demo_frames[12].image
    first = robot.call(lambda: robot.requests.teach("a", images=[image]))
    second = robot.call(lambda: robot.requests.teach("b", images=[other]))
    assert waits.wait(60)
    for frame in demo_frames[:5]:
        before = robot.stats.n_frames
        robot.put(frame)
        until(lambda n=before: robot.stats.n_frames > n)
    answer = robot.call(lambda: robot.requests.predict([image]), changes=False).result(60)
    assert answer[0]["top"] == []
    assert not first.done() and not second.done() and robot.model.learned.classes == []
    wait.set()
    assert first.result(60)["first"] == 1 and second.result(60)["first"] == 2
    assert robot.model.learned.classes == ["a", "b"]


def test_a_label_that_the_disk_refuses_is_not_learned_and_said(robot, demo_frames, monkeypatch):
    def refuse(*_, **__):
        raise StateError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(robot.model.store, "teach", refuse)
        with pytest.raises(StateError):
            ask(robot, lambda: robot.requests.teach("a", images=[demo_frames[0].image], key="k"))
        until(lambda: robot.state == "degraded")
        assert "no space" in robot.reason and robot.model.learned.classes == []
    ask(robot, lambda: robot.requests.teach("a", images=[demo_frames[0].image], key="k"))
    until(lambda: robot.state != "degraded")
    assert ask(robot, robot.requests.classes) == [{"name": "a", "taught": 1}]


@pytest.mark.alone
def test_frames_are_answered_while_labels_are_undone(robot, demo_frames, monkeypatch):
    taught = objects(demo_frames)
    for name, images in taught.items():
        ask(robot, lambda n=name, i=images: robot.requests.teach(n, images=i))
    second = list(taught)[1]
    real, wait = robot.model.store.mark, threading.Event()
    monkeypatch.setattr(robot.model.store, "mark", lambda *a: wait.wait(60) and real(*a))
    undone = robot.call(lambda: robot.requests.undo(name=second))
    until(lambda: robot.model.workers.changing)
    frame = next(f for f in demo_frames if f.label == second)
    robot.put(frame)
    until(lambda: robot.latest is not None and robot.latest[0] is frame)
    assert robot.latest[1].top[0][0] == second  # nothing is undone yet
    wait.set()
    assert undone.result(60) == {"undone": 12}
    assert [c["name"] for c in ask(robot, robot.requests.classes)] == [next(iter(taught))]


def test_undo_rebuilds_what_answers(robot, demo_frames):
    taught = objects(demo_frames)
    for name, images in taught.items():
        ask(robot, lambda n=name, i=images: robot.requests.teach(n, images=i))
    first, second = taught
    undo = robot.requests.undo
    assert ask(robot, lambda: undo(name=first, seqs=[2, 3, 13])) == {"undone": 2}
    assert ask(robot, lambda: robot.requests.undo(name=second)) == {"undone": 12}
    assert [c["name"] for c in ask(robot, robot.requests.classes)] == [first]
    with pytest.raises(StreamError):
        ask(robot, lambda: robot.requests.undo(name="nobody"))
    answer = ask(robot, lambda: robot.requests.predict(taught[second][:1]))[0]
    assert [name for name, _ in answer["top"]] == [first]
    until(lambda: robot.model.trainer.process.alive)
    assert robot.model.trainer.process.n_deaths == 0


def test_a_refused_candidate_never_answers(robot, demo_frames, monkeypatch):
    from plr_edge.runtime.publish_gate import Verdict

    verdict = Verdict(passed=False, reason="test", n=9, before=1.0, after=0.0, false_alarm=0.0)
    monkeypatch.setattr("plr_edge.runtime.validation.decide", lambda *_: verdict)
    for name, images in objects(demo_frames).items():
        ask(robot, lambda n=name, i=images: robot.requests.teach(n, images=i))
    until(lambda: robot.model.n_dropped >= 1)
    assert (robot.model.learned.version, robot.model.perception.model.version) == (0, 0)


def test_a_live_state_is_that_of_a_session_and_back(bundle, tmp_path, demo_frames):
    with Session(bundle, tmp_path / "s", LearningConfig()) as session:
        for i in range(0, len(demo_frames), 8):
            session.observe_many(demo_frames[i : i + 8])
        session.finish()
        version, n_taught = session.learned.version, session.learned.n_taught
        n_latents = len(session.training.memory)  # windows; the trainer of a robot has whole maps
    model = OnlineModel(bundle, tmp_path / "s", LearningConfig())
    learned = model.learned
    assert (learned.version, learned.n_taught, len(learned.classes)) == (version, n_taught, 6)
    end = time.monotonic() + 180
    while not model.trainer.report and time.monotonic() < end:
        model.poll()
        time.sleep(0.02)
    assert model.trainer.report["latents"] == n_latents > 0
    assert model.save("test").result(60) == ""
    model.close()
    with Session(bundle, tmp_path / "s", LearningConfig()) as session:
        answers = session.perception.predict_many(demo_frames)
        right = [a.top[0][0] == f.label for a, f in zip(answers, demo_frames, strict=True)]
        assert np.mean(right) > 0.95 and session.learned.n_taught == n_taught


def test_a_run_of_unknown_frames_asks_the_operator(robot, demo_frames, monkeypatch):
    taught = objects(demo_frames, 3)
    *known, strange = taught
    for name in known:
        ask(robot, lambda n=name: robot.requests.teach(n, images=taught[n]))
    ask(robot, lambda: setattr(robot.model.trainer.process, "given_up", True))
    ask(robot, robot.model.trainer.process.kill)  # so that no new version sets the threshold anew
    asked = []
    robot.listeners.append(lambda kind, facts: asked.append(kind))
    monkeypatch.setattr(robot.model.learned.classifier, "unknown_below", 2.0)  # everything is
    for frame in [f for f in demo_frames if f.label == strange] * 3:
        before = robot.stats.n_frames
        robot.feed(iter([frame]))
        until(lambda n=before: robot.stats.n_frames > n)
    assert "what is this" in asked


def test_perception_of_a_live_robot_never_loads_torch(bundle_path, tmp_path):
    code = (
        "import sys\n"
        "from plr_edge.bundle.reading import open_bundle\n"
        "from plr_edge.config import LearningConfig\n"
        "from plr_edge.robot.online_model import OnlineModel\n"
        "from plr_edge.robot.robot import Robot\n"
        "from plr_edge.serve.api import make_app\n"
        f"bundle = open_bundle({str(bundle_path)!r})\n"
        f"model = OnlineModel(bundle, {str(tmp_path / 's')!r}, LearningConfig())\n"
        "model.poll(); model.close()\n"
        "assert 'torch' not in sys.modules and 'onnx' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.alone
def test_sigterm_saves_and_ends_within_two_seconds(bundle_path, tmp_path, demo_frames):
    from plr_edge.cli.client import ask as request

    listen = f"unix:{tmp_path / 'api.sock'}"
    process = subprocess.Popen(
        [sys.executable, "-m", "plr_edge", "run", str(bundle_path), "demo", "--state",
         str(tmp_path / "s"), "--listen", listen, "--rate", "30", "--duty", "30%",
         "--report", str(tmp_path / "run.json")],
        stderr=subprocess.PIPE,
    )  # fmt: skip

    def up():
        try:
            return request(listen, "GET", "/health").status == 200
        except PlrEdgeError:
            return False

    until(up)
    until(lambda: b'"frames":0,' not in request(listen, "GET", "/health").read())
    answer = request(listen, "POST", "/teach", {"label": "a", "last": 5}, tmp_path / "s")
    assert b'"taught"' in answer.read()
    process.send_signal(signal.SIGTERM)
    start = time.monotonic()
    assert process.wait(10) == 0
    assert time.monotonic() - start < 4  # 2 s, and as much for a busy machine
    with Store(tmp_path / "s") as store:
        state = store.generations.read()
        assert (store.last_seq >= 1 and state is None) or state.upto >= 1
    assert os.stat(tmp_path / "s" / "token").st_mode & 0o777 == 0o600
    facts = json.loads((tmp_path / "run.json").read_text())
    assert facts["frames"] > 0 and facts["budget"] == {"duty_share": 0.3}
    # on a busy machine frames that wait hold training back further
    assert re.match(r"(at a duty of 30%|frames waited .*): ", facts["record"][-1]["decision"])
    assert len(facts["shares"]) == len(facts["steps"]) == len(facts["levels"]) == 5


def test_systemd_is_told(bundle, tmp_path, monkeypatch):
    import socket

    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(10)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    robot = make_robot(bundle, tmp_path / "s")
    thread = threading.Thread(target=robot.run)
    thread.start()
    assert listener.recv(100) == b"READY=1"
    assert listener.recv(200).startswith(b"WATCHDOG=1\nSTATUS=serving")
    robot.stop()
    while listener.recv(200) != b"STOPPING=1":
        pass
    thread.join()
    robot.model.close()


@pytest.mark.alone
def test_the_watchdog_is_fed_by_the_loop_itself(bundle, tmp_path, monkeypatch):
    """Not by a timer: a loop that hangs is noticed by systemd."""
    sent = []
    monkeypatch.setattr("plr_edge.robot.robot.notify", sent.append)
    robot = make_robot(bundle, tmp_path / "s")
    thread = threading.Thread(target=robot.run)
    thread.start()
    fed = lambda: sum("WATCHDOG=1" in text for text in sent)  # noqa: E731
    until(lambda: fed() > 1)
    hang = threading.Event()
    hung = robot.call(lambda: hang.wait(60))
    until(hung.running)
    before = fed()
    time.sleep(2.5)
    assert fed() == before
    hang.set()
    until(lambda: fed() > before)
    assert robot.state == "serving"
    robot.stop()
    thread.join()
    robot.model.close()


BAD_IMAGES = {
    "no pixels": np.zeros((0, 0, 3), np.uint8),
    "grey": np.zeros((64, 64), np.uint8),
    "floats that are not finite": np.full((64, 64, 3), np.nan),
    "four dimensions": np.zeros((1, 64, 64, 3), np.uint8),
    "text": np.array([["a"]]),
    "none": None,
    "strides backwards": np.zeros((64, 64, 3), np.uint8)[::-1, ::-2],
    "one pixel": np.zeros((1, 1, 3), np.uint8),
    "two channels": np.zeros((64, 64, 2), np.uint8),
}


def test_a_bad_frame_costs_that_frame_alone(robot, demo_frames):
    for i, image in enumerate(BAD_IMAGES.values()):
        robot.put(Frame(image, None, i, "bad"))
        until(lambda n=i + 1: robot.stats.n_frames + robot.stats.total("failed") == n)
    n_failed = robot.stats.total("failed")
    assert n_failed == 7
    robot.put(demo_frames[0])
    until(lambda: robot.latest is not None and robot.latest[0] is demo_frames[0])
    assert robot.stats.total("failed") == n_failed


def test_a_source_that_raises_what_it_likes_is_named(robot, demo_frames):
    def source():
        yield demo_frames[0]
        raise RuntimeError("the driver fell over")

    robot.feed(source())
    until(lambda: robot.state == "degraded")
    assert "the driver fell over" in robot.reason
    until(lambda: robot.stats.n_frames == 1)


def test_the_schedule_measured_follows_what_steps_cost_here(bundle, tmp_path, demo_frames):
    model = OnlineModel(bundle, tmp_path / "s", LearningConfig(schedule="measured"))
    robot = Robot(model, Governor(Budget(), model.schedule, [0.01] * len(bundle.levels)))
    told = []
    model.trainer.set_budget = lambda rate, **facts: told.append(facts["shares"])
    model.trainer.n_steps, model.trainer.steps_s = [10] * 5, [1.0, 0.8, 0.6, 0.4, 0.2]
    robot._tick()
    rates = [1 / x for x in (0.1, 0.08, 0.06, 0.04, 0.02)]
    assert told[-1] == pytest.approx([rate / sum(rates) for rate in rates])
    assert list(robot.governor_loop.decision.shares) == told[-1]
    model.close()


def test_a_loop_of_restarts_ends(bundle, tmp_path, demo_frames):
    """A generation back after three failed starts, nothing learned after five, then once more."""
    with Session(bundle, tmp_path / "s", LearningConfig()) as session:
        for half in (demo_frames[:36], demo_frames[36:]):
            session.observe_many(half)
            session.finish()
    classes, versions = [], []
    for _ in range(9):  # a command line that is wrong is no failed start
        OnlineModel(bundle, tmp_path / "s", LearningConfig()).close()
    for _ in range(7):  # each dies without a word
        model = OnlineModel(bundle, tmp_path / "s", LearningConfig())
        classes.append(len(model.learned.classes))
        versions.append(len(model.store.generations))
        model.restarts.answered = True
        model.close()
    assert versions == [2, 2, 2, 1, 1, 1, 1]
    assert classes == [6, 6, 6, 6, 6, 0, 0]  # labels after the older generation are learned again
    robot = make_robot(bundle, tmp_path / "s")
    thread = threading.Thread(target=robot.run)
    thread.start()
    until(lambda: robot.state == "factory fallback")
    with pytest.raises(StreamError, match="starts in a row failed"):
        ask(robot, lambda: robot.requests.teach("a", images=[demo_frames[0].image]))
    robot.stop()
    thread.join()
    robot.model.close()
    for expected in (3, 4):
        model = OnlineModel(bundle, tmp_path / "s", LearningConfig())
        assert (model.restarts.n_failed, len(model.learned.classes)) == (expected, 6)
        model.restarts.answered = True
        model.close()
    robot = make_robot(bundle, tmp_path / "s")  # one that ends well is trusted again
    robot.model.restarts.n_failed, robot.model.restarts.answered = 4, True
    robot.model.workers.disk.submit(robot.model.restarts.succeeded)
    robot.model.close()
    model = OnlineModel(bundle, tmp_path / "s", LearningConfig())
    assert model.restarts.n_failed == 0
    model.close()


def test_a_robot_that_sees_nothing_uses_its_time_to_consolidate(bundle, tmp_path):
    """Frames that were too slow hold training back, but only as long as frames come."""
    model = OnlineModel(bundle, tmp_path / "s", LearningConfig())
    try:
        steps_s = [0.01] * len(bundle.levels)
        robot = Robot(model, Governor(Budget(deadline_ms=33), model.schedule, steps_s))
        for _ in range(300):
            robot.stats.add("camera", unknown=False, latency_ms=50.0, age_ms=50.0)
        rates = []
        for n_new_frames in (30, 30, 30, 0, 0, 0):
            robot.stats.n_frames += n_new_frames
            robot.governor_loop._last -= 1.0
            robot._tick()
            rates.append(robot.governor_loop.decision.steps_per_s)
        assert rates[2] < rates[1] < rates[0] < 100
        assert rates[3] < rates[4] < rates[5]
        assert "no budget" in robot.governor_loop.decision.reason
        assert (robot.stats.n_late, robot.stats.percentile_ms(0.99)) == (300, 50.0)
    finally:
        model.close()
