"""Recordings, written by rosbags and read as a stream."""

import dataclasses
import io
import logging
import threading
import time

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("rosbags", reason="rosbags is not installed: pip install 'plr-edge[ros]'")

from plr_edge.errors import LabelError, MissingExtraError, StreamError
from plr_edge.stream import open_stream
from plr_edge.stream.live_source import open_live
from tests.stream.bags import (
    NS,
    classification,
    header,
    image_message,
    text,
    typestore,
    write_bag,
)

STORE = typestore()
START = 1_700_000_000 * NS
IMAGE, TEACH = "/camera/image_raw", "/teach"


def picture(i, side=8):
    return np.random.default_rng(i).integers(0, 256, (side, side, 3), np.uint8)


def stamp_of(i):
    return START + i * NS // 30


def shots(n, topic=IMAGE, encoding="rgb8", delay_ns=5_000_000):
    """Messages of n pictures, each recorded `delay_ns` after its stamp."""
    return [
        (topic, stamp_of(i) + delay_ns, image_message(STORE, stamp_of(i), picture(i), encoding))
        for i in range(n)
    ]


def files_of(folder, kind):
    return next(folder.glob("*.mcap" if kind == "mcap" else "*.db3"))


@pytest.mark.parametrize("kind", ["mcap", "sqlite3"])
@pytest.mark.parametrize("whole", [True, False], ids=["folder", "file"])
def test_frames_come_with_their_pixels_and_stamps_and_can_be_read_again(tmp_path, kind, whole):
    folder = write_bag(tmp_path / "run", shots(6), kind)
    stream = open_stream(folder if whole else files_of(folder, kind))
    assert (stream.n_frames, stream.labelled, stream.live) == (6, False, False)
    for _ in range(2):
        frames = list(stream)
        assert [f.stamp_ns for f in frames] == [stamp_of(i) for i in range(6)]
        for i, frame in enumerate(frames):
            np.testing.assert_array_equal(frame.image, picture(i))
        assert frames[3].source.endswith("#/camera/image_raw:3") and frames[3].label is None
    assert [f.index for f in stream.frames_from(4)] == [4, 5]


def test_messages_that_are_compressed_are_read(tmp_path):
    folder = write_bag(tmp_path / "run", shots(3), "sqlite3", compress=True)
    assert len(list(open_stream(folder))) == 3


def test_a_compressed_image_topic_is_read(tmp_path):
    made = io.BytesIO()
    Image.fromarray(picture(0)).save(made, "PNG")
    kind = STORE.types["sensor_msgs/msg/CompressedImage"]
    data = np.frombuffer(made.getvalue(), np.uint8)
    message = kind(header=header(STORE, START), format="png", data=data)
    (frame,) = open_stream(write_bag(tmp_path / "run", [(IMAGE, START, message)]))
    np.testing.assert_array_equal(frame.image, picture(0))


def test_a_frame_without_a_stamp_has_that_of_its_recording(tmp_path):
    message = image_message(STORE, 0, picture(0))
    (frame,) = open_stream(write_bag(tmp_path / "run", [(IMAGE, START + 7, message)]))
    assert frame.stamp_ns == START + 7


def test_a_text_labels_what_is_recorded_after_it_until_the_next(tmp_path):
    messages = shots(8)
    at = [recorded for _, recorded, _ in messages]
    messages += [
        (TEACH, at[2], text(STORE, "mug")),  # with the frame: labels it
        (TEACH, at[4] + 1, text(STORE, "drill")),  # just after one: does not
        (TEACH, at[6] + 1, text(STORE, "")),
    ]
    messages.sort(key=lambda message: message[1])
    stream = open_stream(write_bag(tmp_path / "run", messages), labels=TEACH)
    assert stream.labelled
    labels = [frame.label for frame in stream]
    assert labels == [None, None, "mug", "mug", "mug", "drill", "drill", None]


def test_a_classification_labels_the_frame_of_its_stamp(tmp_path, caplog):
    messages = shots(5)
    late = messages[-1][1] + NS  # said long after
    messages += [
        (TEACH, late, classification(STORE, stamp_of(1), ("cup", 0.1), ("mug", 0.9))),
        (TEACH, late + 1, classification(STORE, stamp_of(2), ("drill", 1.0))),
        (TEACH, late + 2, classification(STORE, stamp_of(3), ("drill", 1.0))),
        (TEACH, late + 3, classification(STORE, stamp_of(3))),  # taken back
        (TEACH, late + 4, classification(STORE, stamp_of(2), ("mug", 1.0))),  # corrected
        (TEACH, late + 5, classification(STORE, stamp_of(2) + 1, ("lost", 1.0))),
    ]
    stream = open_stream(write_bag(tmp_path / "run", messages), labels=TEACH)
    with caplog.at_level(logging.WARNING):
        assert [frame.label for frame in stream] == [None, "mug", "mug", None, None]
    assert "1 of 4 labels on /teach match no frame by their stamps" in caplog.text


def test_the_first_of_each_class_can_be_taken(tmp_path):
    messages = [(TEACH, START, text(STORE, "mug")), *shots(6)]
    folder = write_bag(tmp_path / "run", messages)
    stream = open_stream(folder, labels=TEACH, limit_per_class=2)
    assert stream.n_frames is None and len(list(stream)) == 2


def test_several_image_topics_are_listed_and_one_is_chosen(tmp_path):
    messages = [*shots(2), *shots(3, "/rear/image_raw", "mono8"), (TEACH, START, text(STORE, "a"))]
    folder = write_bag(tmp_path / "run", messages)
    with pytest.raises(StreamError, match="2 topics of images; choose one with --topic") as caught:
        open_stream(folder)
    assert "/camera/image_raw (sensor_msgs/Image), /rear/image_raw" in str(caught.value)
    assert "/teach (std_msgs/String)" in str(caught.value)
    assert open_stream(folder, topic="/rear/image_raw").n_frames == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"topic": "/nothing"},
            "no topic /nothing; choose another --topic; its topics are /camera",
        ),
        ({"topic": TEACH}, "of type std_msgs/String; --topic needs sensor_msgs/Image or"),
        ({"labels": "/nothing"}, "no topic /nothing; choose another --labels"),
        ({"labels": IMAGE}, "--labels needs std_msgs/String or vision_msgs/Classification"),
    ],
)
def test_a_topic_that_is_wrong_is_named(tmp_path, options, words):
    folder = write_bag(tmp_path / "run", [*shots(2), (TEACH, START, text(STORE, "a"))])
    with pytest.raises(StreamError, match=words) as caught:
        open_stream(folder, **options)
    assert "\n" not in str(caught.value)


def test_a_bag_without_images_says_what_it_holds(tmp_path):
    folder = write_bag(tmp_path / "run", [(TEACH, START, text(STORE, "a"))])
    with pytest.raises(StreamError, match=r"0 topics of images.*its topics are /teach"):
        open_stream(folder)


@pytest.mark.parametrize("kind", ["mcap", "sqlite3"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.99])
def test_a_file_cut_anywhere_is_refused_in_one_line(tmp_path, kind, share):
    file = files_of(write_bag(tmp_path / "run", shots(40), kind), kind)
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    (tmp_path / "alone").mkdir()
    alone = file.rename(tmp_path / "alone" / file.name)
    with pytest.raises(StreamError, match="is a damaged recording") as caught:
        list(open_stream(alone))
    assert "\n" not in str(caught.value) and "copy it again" in str(caught.value)


@pytest.mark.parametrize("kind", ["mcap", "sqlite3"])
def test_bytes_that_were_changed_never_raise_anything_else(tmp_path, kind):
    file = files_of(write_bag(tmp_path / "run", shots(6), kind), kind)
    data, random = file.read_bytes(), np.random.default_rng(0)
    for _ in range(150):
        bad = np.frombuffer(data, np.uint8).copy()
        bad[random.integers(0, len(bad), 20)] = random.integers(0, 256, 20)
        changed = tmp_path / f"changed{file.suffix}"
        changed.write_bytes(bad.tobytes())
        try:
            list(open_stream(changed, topic=IMAGE))
        except StreamError as error:
            assert "\n" not in str(error)


def test_a_message_that_is_no_image_is_skipped_or_stops_a_strict_stream(tmp_path):
    messages = shots(3)
    messages[1][2].encoding = "32FC1"
    folder = write_bag(tmp_path / "run", messages)
    stream = open_stream(folder)
    assert [frame.index for frame in stream] == [0, 2]
    assert "encoding '32FC1'" in stream.skipped[0].reason
    with pytest.raises(StreamError, match="32FC1"):
        list(open_stream(folder, strict=True))


def test_a_label_that_no_class_may_have_names_its_topic(tmp_path):
    messages = [(TEACH, START, text(STORE, "a/b")), *shots(2)]
    with pytest.raises(LabelError, match="#/teach: label 'a/b'"):
        list(open_stream(write_bag(tmp_path / "run", messages), labels=TEACH))


def test_folders_without_metadata_and_bags_of_ros_1_are_explained(tmp_path):
    folder = write_bag(tmp_path / "run", shots(2))
    (folder / "metadata.yaml").unlink()
    assert len(list(open_stream(folder))) == 2
    (folder / "second.mcap").write_bytes(b"")
    with pytest.raises(StreamError, match=r"contains 2 recordings and no metadata\.yaml"):
        open_stream(folder)
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    with pytest.raises(StreamError, match="ROS 1 bag; convert it with `rosbags-convert"):
        open_stream(tmp_path / "old.bag")


def test_topics_are_refused_where_there_are_none(tmp_path):
    with pytest.raises(StreamError, match="are for ROS bags; demo is not one"):
        open_stream("demo", topic=IMAGE)


def test_without_rosbags_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    folder = write_bag(tmp_path / "run", shots(1))
    monkeypatch.setitem(sys.modules, "rosbags", None)
    with pytest.raises(MissingExtraError, match=r"plr-edge\[ros\]"):
        open_stream(folder)


def test_a_recording_is_played_at_its_own_rate(tmp_path):
    messages = [
        (IMAGE, START + i, image_message(STORE, START + i * NS // 10, picture(i))) for i in range(5)
    ]
    folder = write_bag(tmp_path / "run", messages)
    source = open_live(str(folder), threading.Event(), topic=IMAGE)
    start = time.monotonic()
    assert len(list(source)) == 5
    assert 0.39 < time.monotonic() - start < 1.5  # four periods; a busy machine is late


def test_a_robot_learns_from_a_recording_by_the_command_line(
    tmp_path, plr_edge, bundle_path, demo_frames
):
    names = list(dict.fromkeys(frame.label for frame in demo_frames))[:3]
    messages, at = [], START
    for frame in (f for f in demo_frames if f.label in names):
        at += NS // 30
        messages.append((IMAGE, at, image_message(STORE, at, frame.image, "bgr8")))
        messages.append((TEACH, at + 1, classification(STORE, at, (frame.label, 1.0))))
    folder = write_bag(tmp_path / "run", messages)
    file, state = str(files_of(folder, "mcap")), str(tmp_path / "state")
    arguments = [str(bundle_path), file, "--state", state, "--topic", IMAGE]
    result = plr_edge("adapt", *arguments, "--labels", TEACH)
    assert result.exit_code == 0, result.output
    assert "36 frames, 36 taught" in result.output and "3 classes" in result.output
    result = plr_edge("predict", *arguments)
    lines = result.output.splitlines()
    right = sum(f'"top": [["{f.label}"' in line for f, line in zip(
        (f for f in demo_frames if f.label in names), lines, strict=True))  # fmt: skip
    assert right >= 34
    result = plr_edge("adapt", *arguments[:-1], "/nothing")
    assert result.exit_code == 2 and "no topic /nothing" in result.output


@pytest.mark.parametrize("kind", ["mcap", "sqlite3"])
def test_capitals_in_the_name_of_a_recording_do_not_matter(tmp_path, kind):
    folder = write_bag(tmp_path / "run", shots(3), kind)
    (file,) = (f for f in folder.iterdir() if f.suffix != ".yaml")
    loud = tmp_path / f"RUN{file.suffix.upper()}"
    file.rename(loud)
    assert len(list(open_stream(loud))) == 3
    (tmp_path / "folder").mkdir()
    loud.rename(tmp_path / "folder" / loud.name)
    frames = list(open_stream(tmp_path / "folder"))
    assert len(frames) == 3 and loud.name in frames[0].source


def test_a_recording_that_is_compressed_as_a_whole_says_what_is_missing(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run_0.db3.zstd").write_bytes(b"(\xb5/\xfd")
    for path in (tmp_path / "run", tmp_path / "run" / "run_0.db3.zstd"):
        with pytest.raises(StreamError, match=r"metadata\.yaml.*zstd -d"):
            open_stream(path)


def test_a_packet_of_a_video_is_named(tmp_path):
    message = STORE.types["sensor_msgs/msg/CompressedImage"](
        header=header(STORE, START), format="bgr8; h264", data=np.zeros(9, np.uint8)
    )
    stream = open_stream(write_bag(tmp_path / "run", [(IMAGE, START, message)]))
    assert list(stream) == [] and "packet of a video" in stream.skipped[0].reason


@pytest.mark.parametrize(("encoding", "shift"), [("mono16", 4), ("16UC1", 2)])
def test_a_recording_of_12_or_10_bits_is_read_with_one_white_level(tmp_path, encoding, shift):
    images = [np.full((8, 8, 3), value, np.uint8) for value in (9, 250, 30)]
    messages = []
    for i, image in enumerate(images):
        made = image_message(STORE, START + i, image, encoding)
        data = (image[..., 0].astype("<u2") << shift).view(np.uint8).ravel()
        messages.append((IMAGE, START + i, dataclasses.replace(made, data=data, step=16)))
    stream = open_stream(write_bag(tmp_path / "run", messages))
    for frame, image in zip(stream, images, strict=True):
        np.testing.assert_array_equal(frame.image, image)
    assert len(stream.pixels.notes) == 1
