"""Large frames cost little, and are prepared like small ones."""

import time

import numpy as np
import pytest
from PIL import Image

from plr_edge import Perception, open_bundle
from plr_edge.bundle.preprocessing import Preprocessing
from plr_edge.stream.base import Frame


def prepare(size):
    return Preprocessing(size=size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def resized(image, size):
    """What the whole square gives."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(image).crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.BILINEAR), np.float32)


@pytest.mark.parametrize("shape", [(480, 640), (719, 1280), (600, 800), (100, 40), (33, 959)])
@pytest.mark.parametrize("size", [32, 96, 224])
def test_ordinary_frames_are_resized_to_the_bit_as_before(shape, size):
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    assert np.array_equal(prepare(size)([image])[0].transpose(1, 2, 0), resized(image, size))


@pytest.mark.parametrize("width_height", [(1280, 720), (1080, 1920), (3840, 2160), (4001, 3003)])
@pytest.mark.parametrize("size", [32, 96, 224])
def test_large_frames_are_nearly_the_same(width_height, size, demo_frames):
    for frame in demo_frames[::24]:
        small = Image.fromarray(frame.image)
        image = np.asarray(small.resize(width_height, Image.Resampling.BICUBIC))
        got = prepare(size)([image])[0].transpose(1, 2, 0)
        # bicubic films of these objects differ by 0.1 to 0.8 grey levels of 255
        assert np.abs(got - resized(image, size)).mean() < 1.5


def test_large_frames_have_the_features_of_the_same_frames_in_small(bundle_path, demo_frames):
    perception = Perception(open_bundle(bundle_path))
    for frame in demo_frames[::9]:
        small = Image.fromarray(frame.image)
        both = [
            perception.perceive([Frame(np.asarray(small.resize(size)), None, 0, "x")]).features[0]
            for size in ((640, 480), (1920, 1440), (3840, 2880))
        ]
        units = [x / np.linalg.norm(x) for x in both]
        assert units[0] @ units[1] > 0.995 and units[0] @ units[2] > 0.995


@pytest.mark.alone
def test_large_frames_cost_little_more_than_ordinary_ones(bundle_path, demo_frames):
    """Processor time, one thread, the sizes in turn; the median of 41, as others run here."""
    perception = Perception(open_bundle(bundle_path))
    sizes = [(640, 480), (1920, 1080), (3840, 2160)]
    small = Image.fromarray(demo_frames[0].image)
    frames = [Frame(np.asarray(small.resize(size)), None, 0, "x") for size in sizes]
    spent = [[], [], []]
    for _ in range(41):
        for i, frame in enumerate(frames):
            start = time.process_time()
            perception.predict_many([frame])
            spent[i].append(time.process_time() - start)
    ordinary, full_hd, uhd = (float(np.median(each)) for each in spent)
    assert full_hd <= 1.5 * ordinary and uhd <= 2.5 * ordinary
