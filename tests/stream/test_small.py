"""Images of strangers: what they cost is known from their header."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from plr_edge.errors import StreamError
from plr_edge.stream import small
from plr_edge.stream.decode import decode_image
from plr_edge.stream.small import SmallImage


def png(width, height, depth=8, colour=2):
    """A PNG of zeros, however large: kilobytes."""
    row = b"\0" + bytes(width * {0: 1, 2: 3, 6: 4}[colour] * depth // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()

    def chunk(name, content):
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = (b"IHDR", head), (b"IDAT", data), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def saved(mode, size, kind, **options):
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, kind, **options)
    return stream.getvalue()


TOO_LARGE = {
    "grey of 16 bits": lambda: png(9400, 9400, 16, 0),
    "colour": lambda: png(5000, 1000),
    "with transparency": lambda: png(2100, 2100, 8, 6),
    "colour of 16 bits": lambda: png(1000, 1000, 16, 2),
    "progressive": lambda: saved("RGB", (2000, 2000), "JPEG", progressive=True),
    "JPEG": lambda: saved("L", (6000, 6000), "JPEG", quality=1),
    "WebP": lambda: saved("RGB", (1500, 1500), "WEBP"),
    "GIF": lambda: saved("P", (1500, 1500), "GIF"),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_too_many_pixels_are_refused_before_one_is_decoded(name, monkeypatch):
    data = TOO_LARGE[name]()
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    tracemalloc.start()
    with pytest.raises(StreamError, match="million"):
        SmallImage(data)
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"II*\0" + bytes(100), b"%!PS-Adobe-3.0 EPSF-3.0\n",
     b"\xff\xd8\xff" + bytes(50), png(8, 8)[:40],
     png(8, 8).replace(struct.pack(">II", 8, 8), struct.pack(">II", 30000, 30000))],
)  # fmt: skip
def test_what_is_none_of_the_formats_or_damaged_is_refused(data):
    with pytest.raises(StreamError):
        SmallImage(data).decode()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_a_small_image_is_decoded_as_from_a_file(kind, demo_frames):
    stream = io.BytesIO()
    Image.fromarray(demo_frames[0].image).save(stream, kind)
    data = stream.getvalue()
    assert np.array_equal(SmallImage(data).decode(), decode_image(data, "image"))


def test_sixteen_bits_become_eight_as_from_a_file():
    values = (np.arange(64 * 64).reshape(64, 64) % 4096).astype(np.uint16)  # 12 bits of a camera
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    one = SmallImage(stream.getvalue()).decode()
    assert one.dtype == np.uint8 and one.max() == 255
    assert np.array_equal(one, decode_image(stream.getvalue(), "image"))
    large = np.tile(values, (25, 25))  # 2.6 million pixels
    stream = io.BytesIO()
    Image.fromarray(large).save(stream, "PNG")
    reduced = SmallImage(stream.getvalue()).decode()
    assert reduced.dtype == np.uint8 and reduced.shape[2] == 3
    assert reduced.max() == 251  # 4030 of 4095: every other pixel is left
    assert reduced.shape[0] * reduced.shape[1] <= small.KEPT_PIXELS


def test_a_photograph_is_reduced_while_it_is_decoded_and_turned_upright():
    picture = Image.new("RGB", (4000, 3000), (200, 30, 30))
    picture.paste((30, 30, 200), (0, 0, 4000, 1500))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    stream = io.BytesIO()
    picture.save(stream, "JPEG", exif=exif)
    opened = SmallImage(stream.getvalue())
    assert opened.n_pixels == 12_000_000 and opened.cost_pixels < 5_000_000
    image = opened.decode()
    assert image.shape[0] > image.shape[1] and image.size <= 3 * small.KEPT_PIXELS
    assert image[10, -10, 2] > 150 and image[10, 10, 0] > 150


def test_only_a_jpeg_in_one_scan_may_be_large():
    whole = saved("RGB", (64, 64), "JPEG")
    assert small._in_one_scan(whole)
    assert not small._in_one_scan(saved("RGB", (64, 64), "JPEG", progressive=True))
    at = whole.index(b"\xff\xda")  # as if its first scan had one component of three
    assert not small._in_one_scan(whole[: at + 4] + b"\x01" + whole[at + 5 :])
    assert not small._in_one_scan(whole[:20]) and not small._in_one_scan(b"\xff\xd8")
