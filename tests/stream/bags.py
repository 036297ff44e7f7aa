"""Messages and recordings for tests, written by rosbags."""

import numpy as np

NS = 1_000_000_000
_VISION = {
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score\n",
    "vision_msgs/msg/Classification": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesis[] results\n"
    ),
    "vision_msgs/msg/VisionClass": "uint16 class_id\nstring class_name\n",
    "vision_msgs/msg/LabelInfo": (
        "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n"
    ),
}


def typestore():
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    for name, text in _VISION.items():
        store.register(get_types_from_msg(text, name))
    return store


def header(store, stamp_ns, frame_id="camera"):
    stamp = store.types["builtin_interfaces/msg/Time"](sec=stamp_ns // NS, nanosec=stamp_ns % NS)
    return store.types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)


def image_message(store, stamp_ns, image, encoding="rgb8"):
    data, step, bigendian = encoded(image, encoding)
    height, width = image.shape[:2]
    return store.types["sensor_msgs/msg/Image"](
        header=header(store, stamp_ns), height=height, width=width, encoding=encoding,
        is_bigendian=int(bigendian), step=step, data=data,
    )  # fmt: skip


def text(store, value):
    return store.types["std_msgs/msg/String"](data=value)


def classification(store, stamp_ns, *results):
    kind = store.types["vision_msgs/msg/ObjectHypothesis"]
    made = [kind(class_id=name, score=score) for name, score in results]
    return store.types["vision_msgs/msg/Classification"](
        header=header(store, stamp_ns), results=made
    )


def write_bag(path, messages, kind="mcap", compress=False):
    """Write (topic, recorded_ns, message) to a new folder; returns it."""
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

    store = typestore()
    plugin = StoragePlugin.MCAP if kind == "mcap" else StoragePlugin.SQLITE3
    writer = Writer(path, version=9, storage_plugin=plugin)
    if compress:
        writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for topic, recorded_ns, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(
                    topic, message.__msgtype__, typestore=store
                )
            data = store.serialize_cdr(message, message.__msgtype__)
            writer.write(connections[topic], recorded_ns, data)
    return path


def encoded(image, encoding, padding=3, bigendian=False):
    """Encode (H, W, 3) uint8 RGB; returns bytes as uint8, step, bigendian."""
    bits = 16 if "16" in encoding else 8
    planes = _planes(image, encoding)  # (H, W, channels) uint8
    if bits == 16:
        planes = (planes.astype(np.uint16) * 257).astype(">u2" if bigendian else "<u2")
    rows = np.ascontiguousarray(planes).view(np.uint8).reshape(image.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=7)
    return rows.ravel(), rows.shape[1], bigendian


def _planes(image, encoding):
    if encoding.startswith("bayer_"):
        out = np.empty((*image.shape[:2], 1), np.uint8)
        for place, colour in enumerate(encoding[6:10]):
            at = (slice(place // 2, None, 2), slice(place % 2, None, 2))
            out[at][..., 0] = image[at][..., "rgb".index(colour)]
        return out
    if encoding in ("yuv422", "uyvy", "yuv422_yuy2", "yuyv"):
        return _yuv(image, luma_at=1 if encoding in ("yuv422", "uyvy") else 0)
    if encoding in ("mono8", "mono16", "8UC1", "16UC1"):
        return image[..., :1]
    if "UC" in encoding or encoding.startswith("bgr"):
        image = image[..., ::-1]
    if encoding[:4] in ("rgba", "bgra") or encoding.endswith("C4"):
        return np.concatenate([image, np.full_like(image[..., :1], 200)], axis=2)
    return image


def _yuv(image, luma_at):
    """BT.601 in floats, of pairs of pixels that share their chroma."""
    r, g, b = (image[..., i].astype(float) for i in range(3))
    y = 16 + (65.481 * r + 128.553 * g + 24.966 * b) / 255
    u = 128 + (-37.797 * r - 74.203 * g + 112.0 * b) / 255
    v = 128 + (112.0 * r - 93.786 * g - 18.214 * b) / 255
    chroma = np.stack([u[:, 0::2], v[:, 1::2]], axis=2).reshape(y.shape)
    pair = (y, chroma) if luma_at == 0 else (chroma, y)
    return np.stack(pair, axis=2).round().clip(0, 255).astype(np.uint8)
