import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from plr_edge.errors import ConfigError
from plr_edge.replay.latent_axes import checked_axes, largest_pool, pool_matrix
from plr_edge.replay.linear_codec import LinearCodec

SHAPES = [(3, 4, 4), (5, 3, 3), (7,), (1, 1, 1)]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_value_comes_back_within_half_a_step_of_its_channel(data):
    shape = data.draw(st.sampled_from(SHAPES))
    bits = data.draw(st.sampled_from([4, 8]))
    signed = data.draw(st.booleans())
    low = -1000.0 if signed else 0.0
    values = st.floats(low, 1000.0, width=32)
    latents = data.draw(hnp.arrays(np.float32, (2, *shape), elements=values))
    codec = LinearCodec(shape=shape, bits=bits, signed=signed)
    back = codec.decode(codec.encode(latents))
    channels = latents.reshape(2, codec._n_channels, -1)
    step = np.abs(channels).max(axis=2) / codec._max_code * 2 ** (1 / 16)  # scales round up
    floor = np.abs(latents).reshape(2, -1).max(axis=1)[:, None] * 2.0**-15
    error = np.abs(back - latents).reshape(channels.shape).max(axis=2)
    assert (error <= 0.5 * step * 1.001 + floor + 1e-6).all()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_records_have_the_length_that_the_codec_says(shape, bits):
    codec = LinearCodec(shape=shape, bits=bits)
    latents = np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32)
    records = codec.encode(latents)
    assert records.shape == (3, codec.record_bytes)
    assert records.dtype == np.uint8


def test_the_format_is_these_exact_bytes():
    codec = LinearCodec(shape=(2, 1, 2), bits=4)
    latents = np.array([[[[7.0, -7.0]], [[3.5, 0.0]]]], np.float32)
    # top scale 1.0 as float32, channel codes 0 and 16 (an octave), nibbles 7 -7 | 7 0
    expected = np.array([[0x00, 0x00, 0x80, 0x3F, 0, 16, 0x97, 0x07]], np.uint8)
    np.testing.assert_array_equal(codec.encode(latents), expected)


def test_pooling_keeps_the_mean_and_enlarges_back():
    codec = LinearCodec(shape=(2, 4, 4), pool=2)
    latents = np.random.default_rng(1).standard_normal((1, 2, 4, 4)).astype(np.float32)
    back = codec.decode(codec.encode(latents))
    assert back.shape == latents.shape
    pooled = latents.reshape(1, 2, 2, 2, 2, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(back[:, :, ::2, ::2], pooled, atol=0.02)


def test_pool_matrix_averages():
    for size, cells in [(8, 2), (7, 3), (5, 5)]:
        np.testing.assert_allclose(pool_matrix(size, cells).sum(axis=1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(bad):
    latents = np.zeros((1, 2, 2, 2), np.float32)
    latents[0, 1, 1, 1] = bad
    with pytest.raises(ConfigError, match="NaN"):
        LinearCodec(shape=(2, 2, 2)).encode(latents)


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="4 or 8"):
        LinearCodec(shape=(2, 2, 2), bits=5)
    with pytest.raises(ConfigError, match="pool"):
        LinearCodec(shape=(2, 2, 2), pool=3)
    with pytest.raises(ConfigError, match="records"):
        LinearCodec(shape=(2, 2, 2)).decode(np.zeros((1, 3), np.uint8))


KINDS = [("CHW", (6, 4, 5)), ("HWC", (4, 5, 6)), ("ND", (9, 6)), ("CT", (6, 11)), ("D", (30,))]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("axes", "shape"), KINDS)
def test_every_channel_has_a_scale_whichever_axis_it_is_on(axes, shape, bits):
    """A channel of a thousandth of the others would be zero with a scale for all of them."""
    latents = np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32)
    codec = LinearCodec(shape=shape, bits=bits, axes=axes)
    if axes != "D":
        at = [slice(None)] * 4
        at[1 + {"CHW": 0, "HWC": 2, "ND": 1, "CT": 0}[axes]] = 2
        small = tuple(at[: latents.ndim])
        latents[small] /= 1000
        back = codec.decode(codec.encode(latents))
        assert np.corrcoef(back[small].ravel(), latents[small].ravel())[0, 1] > 0.98
        assert codec.record_bytes == 4 + 6 + -(-latents[0].size * bits // 8)
    back = codec.decode(codec.encode(latents))
    assert back.shape == latents.shape and back.flags.c_contiguous
    assert np.abs(back - latents).max() < 3.5 / (7 if bits == 4 else 127)


@pytest.mark.parametrize("pool", [None, 2, 4])
def test_a_map_with_channels_last_is_stored_as_one_with_channels_first(pool):
    first = np.random.default_rng(0).standard_normal((3, 6, 4, 4)).astype(np.float32)
    last = np.ascontiguousarray(first.transpose(0, 2, 3, 1))
    one = LinearCodec(shape=(6, 4, 4), pool=pool)
    two = LinearCodec(shape=(4, 4, 6), pool=pool, axes="HWC")
    np.testing.assert_array_equal(one.encode(first), two.encode(last))
    back = one.decode(one.encode(first)).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(two.decode(two.encode(last)), back)


def test_a_sequence_is_pooled_along_its_time():
    codec = LinearCodec(shape=(2, 8), pool=4, axes="CT")
    latents = np.random.default_rng(1).standard_normal((1, 2, 8)).astype(np.float32)
    back = codec.decode(codec.encode(latents))
    np.testing.assert_allclose(back[:, :, ::2], latents.reshape(1, 2, 4, 2).mean(3), atol=0.02)
    np.testing.assert_array_equal(back[:, :, ::2], back[:, :, 1::2])


@pytest.mark.parametrize(
    ("shape", "axes", "found", "pool"),
    [((6, 4, 5), "", "CHW", 4), ((4, 5, 6), "HWC", "HWC", 4), ((9, 6), "", "ND", None),
     ((6, 11), "CT", "CT", 11), ((30,), "", "D", None), ((1, 1, 1), "", "CHW", 1)],
)  # fmt: skip
def test_the_kind_of_a_latent_follows_from_its_shape_unless_it_is_given(shape, axes, found, pool):
    assert checked_axes(shape, axes) == found and largest_pool(shape, axes) == pool


@pytest.mark.parametrize(
    ("shape", "axes", "said"),
    [((4, 5), "CHW", "axes 'CHW'"), ((4, 5, 6, 7), "", "unknown"), ((3,), "XY", "axes 'XY'"),
     ((0, 4), "ND", r"\(0, 4\)")],
)  # fmt: skip
def test_axes_that_do_not_fit_are_refused(shape, axes, said):
    with pytest.raises(ConfigError, match=said):
        LinearCodec(shape=shape, axes=axes)
    with pytest.raises(ConfigError, match="cannot be pooled"):
        LinearCodec(shape=(9, 6), pool=2, axes="ND")
    with pytest.raises(ConfigError, match=r"1\.\.4"):
        LinearCodec(shape=(4, 5, 6), pool=5, axes="HWC")
