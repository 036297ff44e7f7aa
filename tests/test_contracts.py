"""What every engine, schedule, codec, classifier and meter promises, over their registries.

A new one is a file and a registry line; its tests begin here.
"""

import itertools
import math

import numpy as np
import pytest
from engines.conftest import fakes  # noqa: F401  (a fixture: TensorRT on the processor)
from fake_boards import BUILDERS, make_board

from benchmarks.methods.codecs import FloatCodec, ProductCodec
from plr_edge.bundle.reading import open_bundle
from plr_edge.classifiers import CLASSIFIERS
from plr_edge.engines.choice import ENGINES, make_frozen_engine
from plr_edge.errors import ConfigError, EngineError, PlrEdgeError, ScheduleError
from plr_edge.meters import METERS, PowerMeter
from plr_edge.replay.latent_codec import CODECS, make_codec
from plr_edge.replay.linear_codec import LinearCodec
from plr_edge.replay.schedule import SCHEDULES, Level, apportion, fully_connected, make_schedule
from plr_edge.replay.window import central

RNG = np.random.default_rng


# engines


@pytest.fixture(params=ENGINES)
def engine(request, bundle_path, fakes):  # noqa: F811
    if request.param == "tensorrt":
        fakes("10.3.0")
    return make_frozen_engine(open_bundle(bundle_path), request.param)


def pictures(n, seed=0):
    return RNG(seed).standard_normal((n, 3, 96, 96)).astype(np.float32)


def test_an_engine_answers_a_batch_with_a_float32_row_for_each(engine, bundle_path):
    bundle = open_bundle(bundle_path)
    for n in (1, 3, 1):
        x = pictures(n)
        before = x.copy()
        latents, taps = engine.run(x)
        assert latents.shape == (n, *bundle.latent_shape) and taps.shape == (n, bundle.taps_width)
        assert latents.dtype == taps.dtype == np.float32
        assert np.isfinite(latents).all() and np.isfinite(taps).all()
        np.testing.assert_array_equal(x, before)


def test_an_engine_answers_a_frame_alike_alone_and_in_a_batch_and_again(engine):
    x = pictures(3)
    first, again = engine.run(x), engine.run(x)
    alone = [engine.run(x[i : i + 1]) for i in range(3)]
    for part in range(2):
        np.testing.assert_array_equal(first[part], again[part])
        single = np.concatenate([one[part] for one in alone])
        np.testing.assert_allclose(first[part], single, rtol=1e-3, atol=1e-3)


def test_what_an_engine_returned_is_not_overwritten_by_the_next_batch(engine):
    kept = engine.run(pictures(2, 1))[0]
    copy = kept.copy()
    engine.run(pictures(2, 2))
    np.testing.assert_array_equal(kept, copy)


@pytest.mark.parametrize("shape", [(2, 3, 96), (2, 1, 96, 96), (1, 3, 95, 96)])
def test_an_engine_refuses_another_shape_in_one_line(engine, shape):
    with pytest.raises(EngineError) as error:
        engine.run(np.zeros(shape, np.float32))
    assert "\n" not in str(error.value)
    assert engine.run(pictures(1))[0].shape[0] == 1  # and goes on


# schedules

LEVELS = {
    "one": fully_connected((8, 4)),
    "wide to narrow": fully_connected((1024, 2000, 2000, 100)),
    "no weights": (Level(name="a", shape=(3, 4, 4), weights=0, macs=0),
                   Level(name="b", shape=(5,), weights=20, macs=20)),
    "sixteen": fully_connected(tuple(range(40, 23, -1))),
}  # fmt: skip


@pytest.mark.parametrize("name", [*SCHEDULES, "measured"])
@pytest.mark.parametrize("levels", LEVELS)
def test_a_schedule_divides_rehearsal_over_the_levels_whatever_they_are(name, levels):
    levels = LEVELS[levels]
    costs = [float(i) for i in range(len(levels), 0, -1)]
    schedule = make_schedule(name, levels, costs)
    assert schedule.name == name and len(schedule.shares) == len(levels)
    assert all(math.isfinite(share) and share >= 0 for share in schedule.shares)
    assert sum(schedule.shares) == pytest.approx(1.0, abs=1e-9)
    assert list(schedule.reach) == sorted(schedule.reach)
    assert schedule.reach[-1] == pytest.approx(1.0)
    assert schedule.relative_cost([1.0] * len(levels)) <= 1.0 + 1e-9
    assert make_schedule(name, levels, costs) == schedule
    for n in (0, 1, 7, 64):
        assert sum(apportion(schedule.shares, n)) == n


@pytest.mark.parametrize("name", [*SCHEDULES, "measured"])
def test_a_schedule_is_named_where_one_is_unknown(name):
    with pytest.raises(ScheduleError, match=name):
        make_schedule("nonsense", LEVELS["one"])


# codecs

SHAPES = [(3, 4, 4), (10, 3, 3), (7,), (10, 1, 1)]
OTHER_SHAPES = {"HWC": (4, 4, 3), "ND": (5, 8), "CT": (3, 6)}


def codecs():
    variants = itertools.product(CODECS, LinearCodec.ALLOWED_BITS, (True, False), SHAPES)
    for codec, bits, signed, shape in variants:
        pools = (None, 2, 3) if len(shape) == 3 and shape[1] > 2 else (None,)
        for pool in pools:
            kept = make_codec(codec, shape, bits=bits, pool=pool, signed=signed)
            name = f"{codec} {bits} bits {'signed' if signed else 'unsigned'} {shape} pool {pool}"
            yield pytest.param(kept, shape, signed, id=name)
    for codec, (axes, shape) in itertools.product(CODECS, OTHER_SHAPES.items()):
        for pool in (None, 2) if axes != "ND" else (None,):
            kept = make_codec(codec, shape, bits=4, pool=pool, axes=axes)
            yield pytest.param(kept, shape, True, id=f"{codec} {axes} {shape} pool {pool}")
    for shape in SHAPES:
        yield pytest.param(FloatCodec(shape), shape, True, id=f"float {shape}")
    fitted = ProductCodec(RNG(0).standard_normal((300, 10, 2, 2)).astype(np.float32))
    yield pytest.param(fitted, (10, 2, 2), True, id="product")


VARIANTS = list(codecs())


@pytest.mark.parametrize(
    ("codec", "shape", "signed"),
    [v for v in VARIANTS if isinstance(v.values[0], LinearCodec) and len(v.values[1]) == 3],
)
def test_a_window_of_records_is_that_of_the_latents(codec, shape, signed):
    side = -(-shape[1] // 2)
    small = codec.of_window(side)
    if small is None:
        assert codec.pool or codec.axes != "CHW"  # these have no window
        return
    records = codec.encode(RNG(1).standard_normal((5, *shape)).astype(np.float32))
    cropped = codec.crop(records, side)
    assert cropped.shape[1] == small.record_bytes <= codec.record_bytes
    np.testing.assert_array_equal(small.decode(cropped), central(codec.decode(records), side))


def test_a_codec_is_named_where_one_is_unknown():
    with pytest.raises(ConfigError, match="unknown codec 'nonsense'; choose one of linear"):
        make_codec("nonsense", (7,))


def latents_of(shape, signed, n, seed=0):
    made = RNG(seed).standard_normal((n, *shape)).astype(np.float32)
    return made if signed else np.abs(made)


@pytest.mark.parametrize(("codec", "shape", "signed"), VARIANTS)
def test_a_codec_keeps_a_batch_in_as_many_bytes_as_it_says(codec, shape, signed):
    for n in (0, 1, 5):
        latents = latents_of(shape, signed, n)
        before = latents.copy()
        records = codec.encode(latents)
        assert records.shape == (n, codec.record_bytes) and records.dtype == np.uint8
        back = codec.decode(records)
        assert back.shape == latents.shape and back.dtype == np.float32
        assert np.isfinite(back).all()
        np.testing.assert_array_equal(latents, before)


@pytest.mark.parametrize(("codec", "shape", "signed"), VARIANTS)
def test_a_codec_encodes_a_latent_alike_alone_in_a_batch_and_from_any_memory(codec, shape, signed):
    latents = latents_of(shape, signed, 6)
    records = codec.encode(latents)
    np.testing.assert_array_equal(codec.encode(latents[2:3]), records[2:3])
    np.testing.assert_array_equal(codec.encode(latents[::2]), records[::2])
    np.testing.assert_array_equal(codec.encode(np.asfortranarray(latents)), records)
    np.testing.assert_array_equal(codec.decode(records[::-1]), codec.decode(records)[::-1])


@pytest.mark.parametrize(("codec", "shape", "signed"), VARIANTS)
def test_what_came_out_of_a_codec_goes_through_it_nearly_unchanged(codec, shape, signed):
    """Where cells of a pooled map do not overlap."""
    if getattr(codec, "pool", None) and shape[1] % codec.pool:
        pytest.skip("a value that lies in two cells is averaged again")
    once = codec.decode(codec.encode(latents_of(shape, signed, 5)))
    twice = codec.decode(codec.encode(once))
    size = float(np.abs(once).max())
    np.testing.assert_allclose(twice, once, atol=0.075 * size)


# classifiers

K, D = 4, 12


def clusters(seed=0, n=30, lift=0.0):
    rng = RNG(seed)
    centres = 3 * RNG(99).standard_normal((K, D)) + lift
    labels = rng.permutation(np.repeat(np.arange(K), n))
    return (centres[labels] + rng.standard_normal((len(labels), D))).astype(np.float32), labels


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_learns_in_any_order_and_in_any_batches(name):
    x, labels = clusters()
    test, truth = clusters(1)
    whole, parts = CLASSIFIERS[name](D), CLASSIFIERS[name](D)
    whole.learn_many(x, labels)
    for rows in np.array_split(RNG(2).permutation(len(x)), 7):
        parts.learn_many(x[rows], labels[rows])
    scores = whole.scores_many(test)
    assert scores.shape == (len(test), K) and scores.dtype == np.float32
    assert (scores.argmax(1) == truth).mean() > 0.9
    np.testing.assert_allclose(parts.scores_many(test), scores, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_takes_classes_at_any_time_and_never_answers_one_it_has_not_seen(name):
    x, labels = clusters()
    classifier = CLASSIFIERS[name](D)
    classifier.learn_many(x[labels == 2], labels[labels == 2])
    first = classifier.scores_many(x)
    assert first.shape == (len(x), 3) and set(first.argmax(1)) == {2}
    classifier.learn_many(x[labels != 1], labels[labels != 1])
    assert set(classifier.scores_many(x).argmax(1)) == {0, 2, 3}
    classifier.learn_many(x[labels == 1], labels[labels == 1])
    assert set(classifier.scores_many(x).argmax(1)) == {0, 1, 2, 3}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_keeps_its_input_and_takes_nothing_as_nothing(name):
    x, labels = clusters()
    classifier = CLASSIFIERS[name](D)
    classifier.learn_many(x, labels)
    before = x.copy(), labels.copy(), classifier.scores_many(x).copy()
    classifier.learn_many(x[:0], labels[:0])
    np.testing.assert_array_equal(classifier.scores_many(x), before[2])
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(labels, before[1])
    assert classifier.scores_many(x[:0]).shape == (0, K)


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("how", ["zeros", "one frame", "constant value", "large"])
def test_a_classifier_is_finite_on_what_hardly_tells_anything(name, how):
    x, labels = clusters(n=3)
    if how == "zeros":
        x = np.zeros_like(x)
    elif how == "one frame":
        x, labels = x[:1], np.zeros(1, np.int64)
    elif how == "constant value":
        x[:, 0] = 7.0
    else:
        x = x * 1e6
    classifier = CLASSIFIERS[name](D)
    classifier.learn_many(x, labels)
    assert np.isfinite(classifier.scores_many(x)).all()


# meters


@pytest.mark.parametrize("name", METERS)
def test_a_meter_that_is_not_there_gives_one_line_that_says_why(name, tmp_path):
    found = METERS[name](tmp_path)
    if not isinstance(found, PowerMeter):
        assert isinstance(found, str) and found and "\n" not in found


@pytest.mark.parametrize("board", BUILDERS)
@pytest.mark.parametrize("name", METERS)
def test_a_meter_reads_what_it_names_and_can_be_used_again(name, board, tmp_path):
    fake = make_board(board, tmp_path / board)
    meter = METERS[name](fake.sysfs)
    if not isinstance(meter, PowerMeter):
        assert isinstance(meter, str) and "\n" not in meter
        return
    assert meter.name and meter.rails and len(set(meter.rails)) == len(meter.rails)
    assert meter.has_total == (bool(meter.total_rails) and
                               set(meter.total_rails) <= set(meter.rails))  # fmt: skip
    for _ in range(2):
        meter.start()
        meter.sample()
        reading = meter.stop()
        assert reading is meter.reading and reading.source == meter.name
        assert reading.samples >= 3 and reading.seconds >= 0
        assert set(reading.rails_mj) <= set(meter.rails)
        assert all(math.isfinite(mj) and mj >= 0 for mj in reading.rails_mj.values())
        assert (reading.total_mj is None) == (not meter.has_total)
    with meter:
        pass
    assert meter.reading is not reading


@pytest.mark.parametrize("name", METERS)
def test_a_meter_whose_files_go_away_gives_less_never_zero(name, tmp_path):
    for board in BUILDERS:
        fake = make_board(board, tmp_path / board)
        meter = METERS[name](fake.sysfs)
        if not isinstance(meter, PowerMeter) or not fake.values:
            continue
        meter.start()
        for file in fake.values:
            file.unlink()
        reading = meter.stop()
        assert reading.rails_mj == {} and reading.total_mj is None and reading.mean_w is None


def test_the_registries_are_not_empty():
    assert len(ENGINES) > 1 and len(SCHEDULES) > 5 and len(CLASSIFIERS) > 2 and len(METERS) > 3
    assert issubclass(EngineError, PlrEdgeError)
