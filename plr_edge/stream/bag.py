"""rosbag2 recordings, sqlite3 and MCAP, by `rosbags` (extra `ros`). Needs no ROS, knows no node.

A bag is a folder with `metadata.yaml`, or one .mcap or .db3 file. Frames come in the order in which
they were recorded; `bag_labels` says what labels them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge.errors import StreamError, load
from plr_edge.stream.bag_labels import (
    ByStamp,
    LabelOf,
    Latched,
    best_class,
    stamp_ns_of,
    unlabelled,
)
from plr_edge.stream.bag_topics import (
    CLASSIFICATION,
    IMAGE_TYPES,
    LABEL_TYPES,
    STRING,
    choose_topic,
)
from plr_edge.stream.base import Entry, Repeatable, Stream, one_line, take_per_class
from plr_edge.stream.ros_image import image_of

_FILES = (".mcap", ".db3")
_OBJECT_HYPOTHESIS = "vision_msgs/msg/ObjectHypothesis"
_DEFINITIONS = {  # of vision_msgs 4, which rosbags does not bring
    _OBJECT_HYPOTHESIS: "string class_id\nfloat64 score\n",
    CLASSIFICATION: "std_msgs/Header header\nvision_msgs/ObjectHypothesis[] results\n",
}


def is_bag(path: Path) -> bool:
    """Say whether a path is a recording, by its names alone."""
    if not path.is_dir():
        return path.suffix in (*_FILES, ".bag")
    try:
        return (path / "metadata.yaml").is_file() or any(p.suffix in _FILES for p in path.iterdir())
    except OSError:
        return False


def open_bag(
    path: Path,
    strict: bool,
    limit_per_class: int | None = None,
    *,
    topic: str | None = None,
    labels: str | None = None,
) -> Stream:
    """Open a recording.

    Args:
        path: folder or file.
        strict: stop at a message that is no image.
        limit_per_class: take the first so many of each class.
        topic: of the images; may be left out where there is one.
        labels: topic of what labels them; None for no labels.

    Raises:
        MissingExtraError: `rosbags` is not installed.
        StreamError: there is no such topic, or the recording is damaged.
    """
    bag = _Bag(_file_of(path))
    with bag.reading() as reader:
        images = choose_topic(path, reader.connections, topic, IMAGE_TYPES, "--topic")
        label_of = bag.read_labels(reader, labels) if labels else unlabelled
    n_frames = sum(connection.msgcount for connection in images)
    limited = limit_per_class is not None and labels is not None
    make = partial(bag.entries, images[0].topic, label_of, labels)
    return Stream(
        Repeatable(lambda: take_per_class(make(), limit_per_class)),
        n_frames=None if limited else n_frames,
        strict=strict,
        labelled=bool(labels),
    )


class _Bag:
    """One recording, opened anew by every reading."""

    def __init__(self, path: Path) -> None:
        self._rosbag2 = load("rosbags.rosbag2", "ros", why="reading a ROS bag")
        typesys = load("rosbags.typesys", "ros", why="reading a ROS bag")
        self.path = path
        self._store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
        for name, text in _DEFINITIONS.items():
            self._store.register(typesys.get_types_from_msg(text, name))

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """Open the recording for a while.

        Raises:
            StreamError: it is damaged.
        """
        try:
            reader = self._rosbag2.Reader(self.path)
            reader.open()
        except Exception as error:  # each storage and compression has errors of its own
            raise self._damaged(error) from None
        try:
            yield reader
        finally:
            reader.close()

    def messages(self, reader: Any, topic: str) -> Iterator[tuple[Any, int, bytes]]:
        """Yield connection, time of recording in ns and bytes of the messages of a topic.

        Raises:
            StreamError: the recording is damaged.
        """
        chosen = [connection for connection in reader.connections if connection.topic == topic]
        source = reader.messages(connections=chosen)
        while True:
            try:
                message = next(source)
            except StopIteration:
                return
            except Exception as error:  # as above
                raise self._damaged(error) from None
            yield message

    def entries(self, topic: str, label_of: LabelOf, labels: str | None) -> Iterator[Entry]:
        """Yield the images of a topic."""
        with self.reading() as reader:
            for position, message in enumerate(self.messages(reader, topic)):
                connection, recorded_ns, data = message
                source = f"{self.path}#{topic}:{position}"
                try:
                    image = self._read(connection, data, source)
                except StreamError as error:
                    yield Entry(partial(_refuse, error), None, recorded_ns, source)
                    continue
                stamp_ns = stamp_ns_of(image.header.stamp) or recorded_ns
                label = label_of(stamp_ns, recorded_ns)
                load = partial(image_of, image, source)
                yield Entry(load, label, stamp_ns, source, f"{self.path}#{labels}")
        if isinstance(label_of, ByStamp):
            label_of.warn_of_unused(self.path, str(labels))

    def read_labels(self, reader: Any, topic: str) -> LabelOf:
        """Read all messages of the topic that labels.

        Raises:
            StreamError: there is none, or it cannot label.
        """
        found = choose_topic(self.path, reader.connections, topic, LABEL_TYPES, "--labels")
        said = [
            (recorded_ns, self._read(connection, data, f"{self.path}#{topic}"))
            for connection, recorded_ns, data in self.messages(reader, topic)
        ]
        if found[0].msgtype == STRING:
            return Latched([at for at, _ in said], [m.data for _, m in said])
        return ByStamp({stamp_ns_of(m.header.stamp): best_class(m) for _, m in said})

    def _read(self, connection: Any, data: bytes, source: str) -> Any:
        try:
            return self._store.deserialize_cdr(data, connection.msgtype)
        except Exception as error:  # whatever it stumbles on
            reason = one_line(error, 80) or type(error).__name__
            raise StreamError(
                f"{one_line(source)} is no whole message ({reason}); record it again"
            ) from None

    def _damaged(self, error: Exception) -> StreamError:
        return StreamError(
            f"{one_line(self.path)} is no whole recording ({one_line(error, 120) or repr(error)}); "
            "copy it again, or mend it with `mcap recover` or `ros2 bag reindex`"
        )


def _refuse(error: StreamError) -> np.ndarray:
    raise error


def _file_of(path: Path) -> Path:
    """Return what to read: the folder where it has its metadata, else the one file in it."""
    if path.suffix == ".bag" and not path.is_dir():
        raise StreamError(
            f"{one_line(path)} is a bag of ROS 1; convert it with `rosbags-convert --src "
            f"{one_line(path)} --dst NEW`"
        )
    if not path.is_dir() or (path / "metadata.yaml").is_file():
        return path
    files = [file for file in path.iterdir() if file.suffix in _FILES]
    if len(files) == 1:
        return files[0]
    raise StreamError(
        f"{one_line(path)} holds {len(files)} recordings and no metadata.yaml; give one of them, "
        "or run `ros2 bag reindex`"
    )
