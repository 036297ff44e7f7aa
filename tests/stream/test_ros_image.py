"""Any encoding, from an image to the bytes of a message and back."""

import array
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plr_edge.errors import StreamError
from plr_edge.stream.pixels import PixelRange
from plr_edge.stream.ros_image import ENCODINGS, image_of
from tests.stream.bags import encoded

GREY = ["mono8", "mono16", "8UC1", "16UC1"]
FULL = PixelRange(65535)  # these images are too small to find it
EXACT = sorted(n for n in ENCODINGS if not n.startswith(("bayer", "yu", "uy", *GREY)))
YUV = ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"]
BAYER = sorted(n for n in ENCODINGS if n.startswith("bayer"))


def message(image, encoding, padding=0, bigendian=False, **other):
    data, step, big = encoded(image, encoding, padding, bigendian)
    fields = {
        "encoding": encoding, "height": image.shape[0], "width": image.shape[1], "step": step,
        "is_bigendian": int(big), "data": data,
    }  # fmt: skip
    return SimpleNamespace(**{**fields, **other})


def noise(seed, height, width):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


shapes = st.tuples(st.integers(1, 12), st.integers(1, 12)).map(lambda s: (2 * s[0], 2 * s[1]))


def test_every_encoding_is_in_one_of_the_properties():
    assert set(EXACT) | set(GREY) | set(YUV) | set(BAYER) == set(ENCODINGS)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(EXACT + GREY), shapes, st.integers(0, 9), st.integers(0, 99), st.booleans())
def test_colours_and_greys_come_back_exactly(encoding, shape, padding, seed, bigendian):
    image = noise(seed, shape[0] - 1, shape[1] - 1)  # odd sides too
    if encoding in GREY:
        image = np.repeat(image[..., :1], 3, axis=2)
    back = image_of(message(image, encoding, padding, bigendian), "m", FULL)
    np.testing.assert_array_equal(back, image)
    assert back.flags.c_contiguous and back.flags.writeable and back.dtype == np.uint8


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(YUV), shapes, st.integers(0, 9), st.integers(0, 99))
def test_yuv_comes_back_where_pairs_share_their_colour(encoding, shape, padding, seed):
    image = np.repeat(noise(seed, shape[0], shape[1] // 2), 2, axis=1)
    back = image_of(message(image, encoding, padding), "m").astype(int)
    # half a step of Y, U and V each, times at most 1.164, 2.017 (U to blue), 1.596 (V to red)
    assert np.abs(back - image).max() <= 2


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(BAYER), shapes, st.integers(0, 9), st.integers(0, 99), st.booleans())
def test_bayer_keeps_what_was_sampled_and_lies_between_elsewhere(
    encoding, shape, padding, seed, bigendian
):
    image = noise(seed, *shape)
    back = image_of(message(image, encoding, padding, bigendian), "m", FULL)
    for place, colour in enumerate(encoding[6:10]):
        at = (slice(place // 2, None, 2), slice(place % 2, None, 2))
        channel = "rgb".index(colour)
        np.testing.assert_array_equal(back[at][..., channel], image[at][..., channel])
    flat = np.broadcast_to(image[:1, :1], image.shape)
    np.testing.assert_array_equal(image_of(message(flat, encoding), "m", FULL), flat)


@pytest.mark.parametrize("encoding", BAYER)
def test_bayer_reproduces_a_linear_ramp_inside(encoding):
    y, x = np.mgrid[:8, :10]
    image = np.stack([10 + 4 * x + 6 * y, 90 + 8 * x - 4 * y, 5 + 2 * x + 20 * y], axis=2)
    image = image.astype(np.uint8)
    back = image_of(message(image, encoding), "m", FULL)
    np.testing.assert_array_equal(back[1:-1, 1:-1], image[1:-1, 1:-1])


def test_yuv_is_what_opencv_makes_of_it():
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    data = noise(3, 6, 8)[..., :2].copy()
    for encoding, code in (
        ("yuv422", cv2.COLOR_YUV2RGB_UYVY), ("yuv422_yuy2", cv2.COLOR_YUV2RGB_YUY2),
    ):  # fmt: skip
        made = message(noise(0, 6, 8), encoding, data=data.ravel())
        expected = cv2.cvtColor(data, code).astype(int)
        assert np.abs(image_of(made, "m").astype(int) - expected).max() <= 1  # rounding


def test_data_may_be_what_rclpy_delivers():
    image = noise(1, 4, 6)
    made = message(image, "rgb8", data=array.array("B", image.tobytes()))
    np.testing.assert_array_equal(image_of(made, "m"), image)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoding": "32FC1"}, "encoding '32FC1'; supported are .*bgr8"),
        ({"encoding": "32SC1"}, "encoding '32SC1'"),
        ({"data": np.zeros(10, np.uint8)}, "10 bytes of 72"),
        ({"data": np.zeros(0, np.uint8)}, "0 bytes of 72"),
        ({"step": 3}, "step of 3 bytes; a row needs 18"),
        ({"width": 0}, "0 x 4 rgb8"),
        ({"height": 2**32 - 1}, "bytes of"),
        ({"encoding": "yuv422", "width": 5}, "is not an image"),
        ({"encoding": "bayer_rggb8", "height": 1}, "is not an image"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(change, words):
    made = message(noise(0, 4, 6), "rgb8")
    with pytest.raises(StreamError, match=words) as caught:
        image_of(SimpleNamespace(**{**vars(made), **change}), "bag#/image:7")
    assert "bag#/image:7" in str(caught.value) and "\n" not in str(caught.value)


def test_compressed_images_are_decoded_and_depth_is_refused():
    import io

    from PIL import Image

    image, stream = noise(0, 8, 8), io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    data = np.frombuffer(stream.getvalue(), np.uint8)
    made = SimpleNamespace(format="rgb8; png compressed bgr8", data=data)
    np.testing.assert_array_equal(image_of(made, "m"), image)
    with pytest.raises(StreamError, match="depth image"):
        image_of(SimpleNamespace(format="16UC1; compressedDepth png", data=data), "m")
    with pytest.raises(StreamError, match="m is damaged"):
        image_of(SimpleNamespace(format="png", data=data[:-30]), "m")
