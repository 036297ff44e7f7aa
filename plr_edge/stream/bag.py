"""rosbag2 recordings in SQLite or MCAP, read by `rosbags` (extra `ros`). Needs no ROS.

A bag is a folder with `metadata.yaml`, or one .mcap or .db3 file. Frames come in the order in which
they were recorded. `bag_labels` labels them.
"""

from __future__ import annotations

import tempfile
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
from plr_edge.stream.base import (
    Entry,
    Repeatable,
    Stream,
    check_label_at,
    one_line,
    take_per_class,
)
from plr_edge.stream.ros_image import values_of

_FILES = (".mcap", ".db3")
_OBJECT_HYPOTHESIS = "vision_msgs/msg/ObjectHypothesis"
_DEFINITIONS = {  # vision_msgs 4, which rosbags does not include
    _OBJECT_HYPOTHESIS: "string class_id\nfloat64 score\n",
    CLASSIFICATION: "std_msgs/Header header\nvision_msgs/ObjectHypothesis[] results\n",
}


def is_bag(path: Path) -> bool:
    """Return whether a path is a recording, judged by file names alone."""
    if not path.is_dir():
        return path.suffix.lower() in (*_FILES, ".bag") or _is_packed(path)
    try:
        return (path / "metadata.yaml").is_file() or any(
            p.suffix.lower() in _FILES or _is_packed(p) for p in path.iterdir()
        )
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
        strict: stop at a message that is not an image.
        limit_per_class: maximum number of frames per class.
        topic: topic of the images. Required if there are several.
        labels: topic of the labels. None for no labels.

    Raises:
        MissingExtraError: `rosbags` is not installed.
        StreamError: there is no such topic, or the recording is damaged.
    """
    bag = _Bag(_file_of(path))
    with bag.reading() as reader:
        images = choose_topic(path, reader.connections, topic, IMAGE_TYPES, "--topic")
        label_of = bag.read_labels(reader, labels) if labels else unlabelled
    names = sorted(label_of.names) if isinstance(label_of, (Latched, ByStamp)) else []
    for label in names:
        check_label_at(label, f"{path}#{labels}")
    n_frames = sum(connection.msgcount for connection in images)
    limited = limit_per_class is not None and labels is not None
    make = partial(bag.entries, images[0].topic, label_of, labels)
    return Stream(
        Repeatable(lambda: take_per_class(make(), limit_per_class)),
        n_frames=None if limited else n_frames,
        strict=strict,
        labelled=bool(labels),
        labels=dict.fromkeys(names, f"{path}#{labels}"),
    )


class _Bag:
    """One recording, which each reading opens again."""

    def __init__(self, path: Path) -> None:
        self._rosbag2 = load("rosbags.rosbag2", "ros", why="reading a ROS bag")
        typesys = load("rosbags.typesys", "ros", why="reading a ROS bag")
        self.path = path
        self._store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
        for name, text in _DEFINITIONS.items():
            self._store.register(typesys.get_types_from_msg(text, name))

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """Open the recording as a context.

        Raises:
            StreamError: the recording is damaged.
        """
        with _small_suffix(self.path) as path:
            try:
                reader = self._rosbag2.Reader(path)
                reader.open()
            except Exception as error:  # each storage and compression raises its own types
                raise self._damaged(error) from None
            try:
                yield reader
            finally:
                reader.close()

    def messages(self, reader: Any, topic: str) -> Iterator[tuple[Any, int, bytes]]:
        """Yield the messages of a topic: connection, time of recording in ns, bytes.

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
                load = partial(values_of, image, source)
                yield Entry(load, label, stamp_ns, source, f"{self.path}#{labels}")
        if isinstance(label_of, ByStamp):
            label_of.warn_of_unused(self.path, str(labels))

    def read_labels(self, reader: Any, topic: str) -> LabelOf:
        """Read all messages of the topic of labels.

        Raises:
            StreamError: there is no such topic, or its type cannot label.
        """
        found = choose_topic(self.path, reader.connections, topic, LABEL_TYPES, "--labels")
        messages = [
            (recorded_ns, self._read(connection, data, f"{self.path}#{topic}"))
            for connection, recorded_ns, data in self.messages(reader, topic)
        ]
        if found[0].msgtype == STRING:
            return Latched([at for at, _ in messages], [m.data for _, m in messages])
        return ByStamp({stamp_ns_of(m.header.stamp): best_class(m) for _, m in messages})

    def _read(self, connection: Any, data: bytes, source: str) -> Any:
        try:
            return self._store.deserialize_cdr(data, connection.msgtype)
        except Exception as error:  # damaged bytes raise many types
            reason = one_line(error, 80) or type(error).__name__
            raise StreamError(
                f"{one_line(source)} is a damaged message ({reason}); record it again"
            ) from None

    def _damaged(self, error: Exception) -> StreamError:
        reason = one_line(error, 120) or repr(error)
        return StreamError(
            f"{one_line(self.path)} is a damaged recording ({reason}); "
            "copy it again, or repair it with `mcap recover` or `ros2 bag reindex`"
        )


@contextmanager
def _small_suffix(path: Path) -> Iterator[Path]:
    """Yield a path whose suffix is in small letters, as `rosbags` needs it."""
    if path.is_dir() or path.suffix == path.suffix.lower():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"recording{path.suffix.lower()}"
        link.symlink_to(path.resolve())
        yield link


def _is_packed(path: Path) -> bool:
    return path.name.lower().endswith(tuple(f"{suffix}.zstd" for suffix in _FILES))


def _refuse(error: StreamError) -> np.ndarray:
    raise error


def _file_of(path: Path) -> Path:
    """Return the path to read: a folder with metadata, or the single file in it."""
    if path.suffix.lower() == ".bag" and not path.is_dir():
        raise StreamError(
            f"{one_line(path)} is a ROS 1 bag; convert it with `rosbags-convert --src "
            f"{one_line(path)} --dst NEW`"
        )
    if path.is_dir() and (path / "metadata.yaml").is_file():
        return path
    files = [path] if not path.is_dir() else [
        file for file in path.iterdir() if file.suffix.lower() in _FILES or _is_packed(file)
    ]  # fmt: skip
    for file in files:
        if _is_packed(file):
            raise StreamError(
                f"{one_line(file)} is compressed as a whole, which its metadata.yaml would say; "
                "give the folder with metadata.yaml, or unpack it with `zstd -d`"
            )
    if len(files) == 1:
        return files[0]
    raise StreamError(
        f"{one_line(path)} contains {len(files)} recordings and no metadata.yaml; give one of "
        "them, or run `ros2 bag reindex`"
    )
