"""Images of more than 8 bits, written by Pillow, OpenCV and tifffile, beside their 8 bits."""

import io
import struct
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from plr_edge.errors import StreamError
from plr_edge.stream import decode_image, open_stream
from plr_edge.stream.pixels import PixelRange, to_8_bits, white_level
from plr_edge.stream.ros_image import image_of

cv2 = pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def photo():
    """(H, W, 3) uint8, with black and white in it."""
    image = np.array(next(iter(open_stream("demo"))).image)
    image[0, 0], image[0, 1] = 0, 255
    return image


@pytest.fixture(scope="module")
def grey(photo):
    grey = np.array(Image.fromarray(photo).convert("L"))
    grey[0, 0], grey[0, 1] = 0, 255
    return grey


def saved(array, form, **options):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, form, **options)
    return stream.getvalue()


def encoded(array, suffix):
    return cv2.imencode(suffix, array[..., ::-1] if array.ndim == 3 else array)[1].tobytes()


def tiff(array, **options):
    stream = io.BytesIO()
    pytest.importorskip("tifffile").imwrite(stream, array, **options)
    return stream.getvalue()


def grey_of(data):
    return decode_image(data, "x")[..., 0]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_grey_values_of_any_depth_are_those_of_8_bits(grey, bits):
    deep = grey.astype(np.uint16) << (bits - 8)
    for data in (saved(deep, "PNG"), encoded(deep, ".png"), encoded(deep, ".tiff"), tiff(deep),
                 tiff(deep, compression="zlib"), tiff(deep, byteorder=">"),
                 tiff(deep.astype(np.int32)), tiff(deep.astype(np.uint32)),
                 encoded(deep, ".pgm")):  # fmt: skip
        np.testing.assert_array_equal(grey_of(data), grey)
    assert np.abs(grey_of(encoded(deep, ".jp2")).astype(int) - grey).max() <= 3  # lossy
    inverted = grey_of(tiff(deep, photometric="miniswhite")).astype(int)
    assert np.abs(inverted - (255 - grey)).max() <= 1


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_colours_of_any_depth_are_those_of_8_bits(photo, bits):
    deep = photo.astype(np.uint16) << (bits - 8)
    opaque = np.dstack([deep[..., ::-1], np.full_like(deep[..., :1], 65535)])
    for data in (encoded(deep, ".png"), encoded(deep, ".tiff"), tiff(deep, photometric="rgb"),
                 tiff(deep, photometric="rgb", compression="zlib"), encoded(deep, ".ppm"),
                 tiff(deep, photometric="rgb", byteorder=">"),
                 cv2.imencode(".png", opaque)[1].tobytes()):  # fmt: skip
        np.testing.assert_array_equal(decode_image(data, "x"), photo)


def test_floats_are_read_from_0_to_1_or_from_0_to_255(grey):
    unit = (grey / 255).astype(np.float32)
    for data in (saved(unit, "TIFF"), encoded(unit, ".tiff"), tiff(unit),
                 tiff(grey.astype(np.float32)), tiff(unit * np.float32(1.004)),
                 saved(grey.astype(np.int32), "TIFF")):  # fmt: skip
        assert np.abs(grey_of(data).astype(int) - grey).max() <= 1
    unit[3, 3] = np.nan
    assert grey_of(tiff(unit))[3, 3] == 0


def png_with_sbit(values, bits):
    """A PNG of 16 bits that states its significant bits."""
    data, chunk = saved(values, "PNG"), b"sBIT" + bytes([bits])
    at = 8 + 25  # signature and IHDR
    return (
        data[:at] + struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[at:]
    )


def test_what_a_file_states_about_white_is_used(grey):
    dark = (grey // 8).astype(np.uint16)  # a night picture: its largest value says nothing
    expected = dark.astype(np.uint8)
    unscaled = png_with_sbit(dark << 4, 12)
    scaled = png_with_sbit((dark << 8) | dark, 12)
    np.testing.assert_array_equal(grey_of(unscaled), expected)
    np.testing.assert_array_equal(grey_of(scaled), expected)
    stated = tiff(dark << 4, extratags=[(281, "H", 1, 4095, True)])  # MaxSampleValue
    np.testing.assert_array_equal(grey_of(stated), expected)
    raw = tiff(dark << 6, extratags=[(50717, "I", 1, 16383, True)])  # WhiteLevel
    np.testing.assert_array_equal(grey_of(raw), expected)
    height, width = grey.shape
    pgm = b"P5\n# night\n%d %d\n1023\n" % (width, height) + (dark << 2).astype(">u2").tobytes()
    assert np.abs(grey_of(pgm).astype(int) - expected).max() <= 1
    colour = (
        b"P6 %d %d 4095\n" % (width, height)
        + np.repeat((dark << 4)[..., None], 3, 2).astype(">u2").tobytes()
    )
    assert np.abs(grey_of(colour).astype(int) - expected).max() <= 1


def write(folder, arrays):
    folder.mkdir(parents=True)
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"{i:02d}.png")


def test_one_white_level_holds_for_a_stream_and_is_stated_once(tmp_path, grey):
    deep = grey.astype(np.uint16) << 4
    write(tmp_path / "mug", [deep // 9, deep // 3, deep, deep // 5])
    stream = open_stream(tmp_path)
    images = [frame.image[..., 0] for frame in stream]
    np.testing.assert_array_equal(images[2], grey)
    np.testing.assert_array_equal(images[0], deep // 9 >> 4)  # dark, because others are brighter
    (note,) = stream.pixels.notes
    assert "4095 is taken for white" in note and "--white-level" in note
    list(stream)
    assert len(stream.pixels.notes) == 1
    resumed = open_stream(tmp_path)
    np.testing.assert_array_equal(list(resumed)[3].image[..., 0], deep // 5 >> 4)


def test_a_brighter_image_that_comes_late_is_named(tmp_path, grey):
    paths = []
    for i, values in enumerate((grey.astype(np.uint16) << 2, grey.astype(np.uint16) << 8)):
        Image.fromarray(values).save(tmp_path / f"{i}.png")
        paths.append(f"{tmp_path}/{i}.png\n")
    stream = open_stream("-", stdin=iter(paths))
    for frame in stream:
        np.testing.assert_array_equal(frame.image[..., 0], grey)
    assert len(stream.pixels.notes) == 2
    assert "1.png" in stream.pixels.notes[1] and "before it was 1023" in stream.pixels.notes[1]


def test_the_white_level_can_be_set(tmp_path, grey):
    write(tmp_path / "mug", [(grey // 8).astype(np.uint16) << 4])
    stream = open_stream(tmp_path, white_level=4095)
    np.testing.assert_array_equal(next(iter(stream)).image[..., 0], grey // 8)
    assert stream.pixels.notes == []
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(StreamError, match="white level"):
            open_stream(tmp_path, white_level=wrong)


@pytest.mark.parametrize(("encoding", "shift"), [("mono16", 4), ("16UC1", 2), ("mono16", 8)])
def test_ros_images_of_16_bits_are_read_like_files(grey, encoding, shift):
    data = (grey.astype("<u2") << shift).view(np.uint8).ravel()
    height, width = grey.shape
    made = SimpleNamespace(encoding=encoding, height=height, width=width, step=2 * width,
                           is_bigendian=0, data=data)  # fmt: skip
    np.testing.assert_array_equal(image_of(made, "x")[..., 0], grey)
    one = PixelRange()
    image_of(made, "x", one)
    made.data = (grey.astype("<u2") // 9 << shift).view(np.uint8).ravel()
    np.testing.assert_array_equal(image_of(made, "x", one)[..., 0], grey // 9)


@given(st.integers(8, 16), st.integers(1, 255))
def test_the_level_is_that_of_the_bits_of_the_largest_value(bits, top):
    largest = top << (bits - 8)
    level = white_level(largest)
    assert level * 1.02 >= largest and level + 1 in (256, 1024, 4096, 16384, 65536)
    assert to_8_bits(np.array([[0, int(level)]], np.uint16), level).tolist() == [[0, 255]]


def test_floats_in_colour_say_what_to_do(photo):
    with pytest.raises(StreamError, match="8 or 16 bits per channel"):
        decode_image(tiff(photo.astype(np.float32), photometric="rgb"), "x")


def jpeg_of(size, **options):
    """A photograph of a phone, of one colour on the left and another on the right."""
    image = Image.new("RGB", size, (200, 40, 20))
    image.paste((10, 90, 200), (size[0] // 2, 0, *size))
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


def test_a_photograph_of_108_megapixels_is_read_reduced():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode_image(jpeg_of((12000, 9000), exif=exif), "x")
    assert image.shape == (6000, 4500, 3)
    assert np.abs(image[10, 10].astype(int) - (200, 40, 20)).max() < 4
    assert np.abs(image[-10, -10].astype(int) - (10, 90, 200)).max() < 4


def test_200_megapixels_are_read_and_more_than_256_are_not():
    assert decode_image(jpeg_of((16320, 12240)), "x").shape == (3060, 4080, 3)
    with pytest.raises(StreamError, match=r"too many pixels, 400 million; at most 256"):
        decode_image(jpeg_of((20000, 20000)), "x")


def test_other_formats_of_108_megapixels_are_read_reduced():
    stream = io.BytesIO()
    Image.new("L", (12000, 9000), 77).save(stream, "PNG", compress_level=1)
    image = decode_image(stream.getvalue(), "x")
    assert image.shape == (4500, 6000, 3) and (image == 77).all()


def test_a_watched_folder_warns_of_the_white_level_that_it_took(grey, caplog):
    live = PixelRange(log_level=30)
    live.to_rgb(grey.astype(np.uint16) << 4, "x")
    assert "4095 is taken for white" in caplog.text
