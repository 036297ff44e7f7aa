import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from plr_edge.errors import ConfigError
from plr_edge.replay.latent_codec import LinearCodec, pool_matrix

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
