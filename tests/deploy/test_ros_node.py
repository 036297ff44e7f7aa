"""The lifecycle node of deploy/ros2, driven through its life with messages of a recording."""

import importlib.util
import io
import logging
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("rosbags", reason="rosbags is not installed: pip install 'plr-edge[ros]'")

from plr_edge.errors import EngineError, StateError
from plr_edge.robot.governor import Governor
from plr_edge.store import Store
from tests.deploy import fake_rclpy
from tests.deploy.fake_messages import Trigger, from_bag
from tests.stream.bags import NS, classification, header, image_message, typestore, write_bag

STORE = typestore()
ROS2 = Path(__file__).parents[2] / "deploy" / "ros2"
START = 1_700_000_000 * NS
SUCCESS, FAILURE, ERROR = fake_rclpy.TransitionCallbackReturn


def load_node():
    """Import node.py as ROS would, with rclpy and messages in place."""
    spec = importlib.util.spec_from_file_location("node", ROS2 / "plr_edge_ros" / "node.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def world(monkeypatch, bundle_path, tmp_path):
    made = fake_rclpy.install(monkeypatch)
    decide = Governor.decide  # other work on this machine shall not hold training back
    monkeypatch.setattr(
        Governor, "decide",
        lambda self, reading, dt_s=1.0: decide(self, replace(reading, pressure=None), dt_s),
    )  # fmt: skip
    made.overrides = {"model_file_path": str(bundle_path), "state_path": str(tmp_path / "state")}
    return made


@pytest.fixture
def node(world):
    made = load_node().PlrEdgeNode()
    yield made
    made.free()


def recorded(tmp_path, frames, name="run"):
    """Write frames to a recording, each at its stamp, and read the messages back."""
    from rosbags.rosbag2 import Reader

    messages = [
        ("/camera", stamp_of(i), image_message(STORE, stamp_of(i), frame.image, "bgr8"))
        for i, frame in enumerate(frames)
    ]
    with Reader(write_bag(tmp_path / name, messages)) as reader:
        return [STORE.deserialize_cdr(data, c.msgtype) for c, _, data in reader.messages()]


def stamp_of(i):
    return START + i * NS // 30


def pictures(demo_frames, n_objects=2, n=8):
    names = list(dict.fromkeys(frame.label for frame in demo_frames))[:n_objects]
    return [f for name in names for f in [f for f in demo_frames if f.label == name][:n]]


def show(world, message):
    """Deliver an image, and return the answer to it."""
    before = len(world.of("/classification"))
    assert world.deliver("/image", message) == 1
    return world.wait_for(lambda: world.of("/classification")[before:])[0]


def best(answer):
    return answer.results[0].class_id if answer.results else None


def values_of(diagnostics):
    (status,) = diagnostics.status
    return {pair.key: pair.value for pair in status.values}


def texts(world, severity):
    return [text for kind, text in world.logged if kind == severity]


def test_a_node_learns_forgets_and_remembers_through_its_whole_life(
    world, node, tmp_path, demo_frames
):
    shown = pictures(demo_frames)
    images = recorded(tmp_path, shown)
    first, second = dict.fromkeys(frame.label for frame in shown)

    assert node.trigger_configure() == SUCCESS
    assert set(world.services) == {
        f"/plr_edge/{name}" for name in ("undo", "rollback", "save", "pause", "resume")
    }
    assert not world.subscriptions and not world.of("/label_info")
    idle = world.wait_for(lambda: world.of("/diagnostics"))[0]
    assert (idle.status[0].message, idle.status[0].level) == ("inactive", 0)

    assert node.trigger_activate() == SUCCESS
    assert world.wait_for(lambda: world.of("/label_info"))[0].class_map == []
    answers = [show(world, image) for image in images]
    assert [best(answer) for answer in answers] == [None] * 16
    assert answers[3].header.stamp == images[3].header.stamp
    assert answers[3].header.frame_id == "camera"

    for i, frame in enumerate(shown):
        world.deliver("/plr_edge/teach", classification(STORE, stamp_of(i), (frame.label, 1.0)))
    taught = world.wait_for(lambda: len(world.of("/plr_edge/taught")) == 16 and world.published)
    assert [best(message) for at, message in taught if at == "/plr_edge/taught"] == [
        frame.label for frame in shown
    ]
    assert [c.class_name for c in world.of("/label_info")[-1].class_map] == [first, second]
    right = [best(show(world, m)) == f.label for m, f in zip(images, shown, strict=True)]
    assert sum(right) >= 13
    answer = show(world, images[0])
    assert 0 < answer.results[-1].score <= answer.results[0].score <= 1

    model = node.adapter.robot.model
    world.wait_for(lambda: model.learned.version >= 1)
    assert Path(f"/proc/{model.trainer.process.child.pid}/oom_score_adj").read_text() == "800\n"
    done, message = world.call("/plr_edge/save")
    assert (done, message) == (True, "a generation is written; 16 labels are on disk")
    other = pictures(demo_frames, 3)[-1]  # not taught before, so not questioned
    show(world, image_message(STORE, stamp_of(99), other.image, "bgr8"))
    world.deliver("/plr_edge/teach", classification(STORE, 0, (second, 1.0)))  # a mistake
    world.wait_for(lambda: len(world.of("/plr_edge/taught")) == 17)
    assert world.call("/plr_edge/save")[0]
    assert world.call("/plr_edge/rollback") == (
        True, "back at the generation before; 1 label undone",
    )  # fmt: skip
    assert world.call("/plr_edge/undo") == (True, "1 label undone")
    assert best(show(world, images[0])) == first

    seen = values_of(world.of("/diagnostics")[-1])
    assert {"frames_per_s", "frames", "governor", "rss_bytes", "trainer_alive"} <= set(seen)
    assert "None" not in seen.values()

    assert node.trigger_deactivate() == SUCCESS
    assert world.deliver("/image", images[0]) == 0 and not world.subscriptions
    assert any("labels are on disk" in text for text in texts(world, "info"))
    with pytest.raises(StateError, match="in use"):
        Store(tmp_path / "state")
    assert node.trigger_activate() == SUCCESS
    assert best(show(world, images[0])) == first
    assert node.trigger_deactivate() == SUCCESS
    assert node.trigger_cleanup() == SUCCESS
    assert not world.services and not world.publishers
    with Store(tmp_path / "state") as store:
        assert store.last_seq == 17

    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
    assert best(show(world, images[0])) == first
    assert node.trigger_shutdown() == SUCCESS and node.fake["state"] == "finalized"
    with Store(tmp_path / "state"):
        pass
    assert not texts(world, "error") and not texts(world, "fatal")


def test_images_are_best_effort_labels_reliable_and_classes_latched(world, node):
    node.trigger_configure()
    node.trigger_activate()
    qos = {s.topic: s.qos_profile for s in world.subscriptions}
    assert (qos["/image"].depth, qos["/image"].reliability.name) == (1, "BEST_EFFORT")
    assert qos["/plr_edge/teach"].reliability.name == "RELIABLE"
    (latched,) = [p.qos_profile for p in world.publishers if p.topic == "/label_info"]
    assert (latched.depth, latched.durability.name) == (1, "TRANSIENT_LOCAL")
    groups = {s.topic: s.callback_group for s in world.subscriptions}
    assert groups["/image"] is not None and groups["/plr_edge/teach"] is None
    assert {s.callback_group for s in world.services.values()} == {node.for_requests}


def test_compressed_images_and_a_label_without_a_stamp(world, node, demo_frames):
    world.overrides["image_transport"] = "compressed"
    node.__init__()
    node.trigger_configure()
    node.trigger_activate()
    data = io.BytesIO()
    Image.fromarray(demo_frames[0].image).save(data, "JPEG")
    kind = STORE.types["sensor_msgs/msg/CompressedImage"]
    buffer = np.frombuffer(data.getvalue(), np.uint8)
    show(world, kind(header=header(STORE, START), format="rgb8; jpeg compressed bgr8", data=buffer))
    world.deliver("/plr_edge/teach", classification(STORE, 0, ("mug", 1.0)))
    (taught,) = world.wait_for(lambda: world.of("/plr_edge/taught"))
    assert (taught.header.stamp.sec, best(taught)) == (START // NS, "mug")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"model_file_path": ""}, "parameter model_file_path is not set"),
        ({"state_path": ""}, "parameter state_path is not set"),
        ({"model_file_path": "/nowhere"}, "/nowhere"),
        (
            {"image_transport": "theora"},
            "image_transport is 'theora'; it must be one of raw, compressed",
        ),
        ({"board": "tx2"}, "unknown board 'tx2'"),
        ({"duty": "much"}, "'much' is not an amount"),
        ({"cpus": "x"}, "cpus is 'x'; write numbers"),
        ({"cpus": "4095"}, "cpus is '4095'; this process may use"),
        ({"engine": "coral"}, "unknown engine 'coral'"),
        ({"schedule": "sometimes"}, "sometimes"),
        ({"trust": "/no.pem"}, "is not signed"),
    ],
)
def test_a_parameter_that_is_wrong_is_named_and_can_be_mended(world, overrides, words):
    good = dict(world.overrides)
    world.overrides.update(overrides)
    node = load_node().PlrEdgeNode()
    assert node.trigger_configure() == FAILURE and node.fake["state"] == "unconfigured"
    (error,) = texts(world, "error")
    assert words in error and "\n" not in error
    assert not world.publishers and not world.services
    world.overrides = good
    assert load_node().PlrEdgeNode().value("engine") == "onnx"


def test_a_state_that_is_in_use_is_refused_until_it_is_free(world, node, tmp_path):
    with Store(tmp_path / "state"):
        assert node.trigger_configure() == FAILURE
        assert "in use" in texts(world, "error")[0]
    assert node.trigger_configure() == SUCCESS


def test_parameters_reach_the_engine_and_the_budgets(world, monkeypatch):
    world.overrides |= {
        "engine": "tensorrt", "max_workspace_size": 1 << 26, "max_batch_size": 4, "duty": "30%",
        "force_engine_update": True, "providers": "cuda, cpu", "threads": 2, "cpus": "0",
        "trainer_threads": 3,
    }  # fmt: skip
    given = {}

    def opened(bundle, state, options, types, publish, **others):
        given.update(others, options=options, state=state)
        raise module.PlrEdgeError("enough")

    module = load_node()
    monkeypatch.setattr(module.RosAdapter, "open", opened)
    assert module.PlrEdgeNode().trigger_configure() == FAILURE
    assert given["plan"] == {
        "max_batch": 4, "workspace_bytes": 1 << 26, "why": "force_engine_update is set",
    }  # fmt: skip
    options = given["options"]
    assert (options.engine, options.threads, options.duty) == ("tensorrt", 2, "30%")
    assert options.trainer_threads == 3
    assert (options.providers, options.cpus, options.power) == (("cuda", "cpu"), "0", None)


def test_old_names_of_parameters_still_work_with_a_warning(world, monkeypatch):
    world.overrides |= {"memory": "600MB", "latents": "4MB"}
    given = {}

    def opened(bundle, state, options, *_, **__):
        given["options"] = options
        raise module.PlrEdgeError("enough")

    module = load_node()
    monkeypatch.setattr(module.RosAdapter, "open", opened)
    module.PlrEdgeNode().trigger_configure()
    options = given["options"]
    assert (options.memory_limit, options.latent_memory) == ("600MB", "4MB")
    assert sorted(texts(world, "warning")) == [
        "parameter latents is now called latent_memory; the old name will be removed",
        "parameter memory is now called memory_limit; the old name will be removed",
    ]
    world.overrides |= {"memory_limit": "700MB"}
    module.PlrEdgeNode().trigger_configure()
    assert given["options"].memory_limit == "700MB"


def test_a_plan_is_built_while_configuring(world, node, monkeypatch):
    asked = []

    def opened(bundle, **given):
        asked.append(given)
        raise EngineError("no GPU here")

    monkeypatch.setattr("plr_edge.engines.plan_cache.open_plan", opened)
    node.get_parameter("engine").value = "tensorrt"
    assert node.trigger_configure() == FAILURE
    assert asked == [{"max_batch": None, "workspace_bytes": None, "why": None}]
    assert texts(world, "error") == ["no GPU here"]


def test_what_cannot_be_used_is_logged_and_shows_in_the_diagnostics(world, node, demo_frames):
    node.trigger_configure()
    node.trigger_activate()
    bad = image_message(STORE, START, demo_frames[0].image)
    bad.encoding = "32FC1"
    for _ in range(3):
        world.deliver("/image", bad)
    status = world.wait_for(
        lambda: [s for d in world.of("/diagnostics") for s in d.status if s.level == 1]
    )[0]
    assert "images cannot be read" in status.message and "32FC1" in status.message
    assert sum("32FC1" in text for text in texts(world, "warning")) == 1
    show(world, image_message(STORE, START, demo_frames[0].image))
    for stamp_ns, results, words in [
        (START, [("a/b", 1.0)], "slash"),
        (START + 1, [("mug", 1.0)], "no such frame"),
        (START, [], "names no class"),
    ]:
        world.deliver("/plr_edge/teach", classification(STORE, stamp_ns, *results))
        world.wait_for(
            lambda w=words: [t for t in texts(world, "warning") if "not taught" in t and w in t]
        )
    assert not world.of("/plr_edge/taught")
    assert world.call("/plr_edge/undo")[0] is False
    assert world.call("/plr_edge/rollback")[0] is False
    done, message = world.call("/plr_edge/save")
    assert (done, message) == (
        True, "no generation was written (nothing was taught yet); 0 labels are on disk",
    )  # fmt: skip


def test_a_silent_topic_degrades_the_robot_until_an_image_comes(
    world, node, monkeypatch, demo_frames
):
    """Before the first image and after the last, but not while the node is inactive."""
    monkeypatch.setattr("plr_edge.robot.feeding._BLIND_S", 0.5)
    node.trigger_configure()
    robot, why = node.adapter.robot, "no images come from the topic"
    world.wait_for(lambda: len(world.of("/diagnostics")) > 1)
    assert robot.state != "degraded"
    node.trigger_activate()
    image = image_message(STORE, START, demo_frames[0].image, "rgb8")
    for _ in range(2):
        world.wait_for(lambda: (robot.state, robot.reason) == ("degraded", why))
        world.wait_for(lambda: world.of("/diagnostics")[-1].status[0].message.endswith(why))
        assert world.of("/diagnostics")[-1].status[0].level == 1
        for _ in range(3):
            show(world, image)
        world.wait_for(lambda: show(world, image) and robot.state != "degraded")
    broken = image_message(STORE, START, demo_frames[0].image, "rgb8")
    broken.encoding = "none"
    world.deliver("/image", broken)
    world.wait_for(lambda: robot.reason.startswith("images cannot be read: "))
    node.trigger_deactivate()
    world.wait_for(lambda: robot.state != "degraded")


def test_training_pauses_for_the_user_and_while_inactive(world, node):
    node.trigger_configure()
    robot = node.adapter.robot
    assert robot.state == "paused"
    node.trigger_activate()
    assert robot.state != "paused"
    assert world.call("/plr_edge/pause") == (True, "paused")
    node.trigger_deactivate()
    node.trigger_activate()
    assert robot.state == "paused"
    assert world.call("/plr_edge/resume")[0] and robot.state != "paused"


def test_what_is_still_on_its_way_after_cleanup_does_no_harm(world, node, demo_frames):
    node.trigger_configure()
    node.trigger_activate()
    image, teach = (s.callback for s in world.subscriptions)
    undo = world.services["/plr_edge/undo"].callback
    node.trigger_deactivate()
    node.trigger_cleanup()
    image(from_bag(image_message(STORE, START, demo_frames[0].image)))
    teach(from_bag(classification(STORE, START, ("mug", 1.0))))
    response = undo(Trigger.Request(), Trigger.Response())
    assert (response.success, response.message) == (False, "the node is not configured")


def test_an_exception_in_a_transition_is_told(world, node, monkeypatch):
    monkeypatch.setattr(node, "open_adapter", lambda: 1 / 0)
    assert node.trigger_configure() == ERROR and node.fake["state"] == "unconfigured"
    (error,) = texts(world, "error")
    assert "ZeroDivisionError" in error and "on_configure" in error
    assert not world.publishers


def run_main(world, monkeypatch):
    """Run `main` on a thread, as `ros2 run` would; returns the thread, its result, the node."""
    module, result = load_node(), []
    made = []
    monkeypatch.setattr(
        fake_rclpy.MultiThreadedExecutor, "add_node", lambda self, node: made.append(node)
    )
    thread = threading.Thread(target=lambda: result.append(module.main()))
    thread.start()
    while not made:
        time.sleep(0.01)
    assert made[0].trigger_configure() == SUCCESS and made[0].trigger_activate() == SUCCESS
    return thread, result, made[0]


def test_ctrl_c_keeps_what_was_taught(world, monkeypatch, tmp_path, demo_frames):
    thread, result, node = run_main(world, monkeypatch)
    show(world, image_message(STORE, START, demo_frames[0].image))
    world.deliver("/plr_edge/teach", classification(STORE, START, ("mug", 1.0)))
    world.wait_for(lambda: world.of("/plr_edge/taught"))
    fake_rclpy.try_shutdown()
    thread.join(30)
    assert result == [0] and node.fake["destroyed"]
    with Store(tmp_path / "state") as store:
        assert store.last_seq == 1


def test_a_robot_that_fails_ends_the_process_and_says_why(world, monkeypatch, demo_frames):
    thread, result, node = run_main(world, monkeypatch)
    monkeypatch.setattr(node.adapter.robot, "_take_frame", lambda frame: 1 / 0)
    world.deliver("/image", image_message(STORE, START, demo_frames[0].image))
    thread.join(30)
    assert result == [1]
    assert "ending: division by zero" in texts(world, "fatal")
    assert not logging.getLogger("plr_edge").handlers
