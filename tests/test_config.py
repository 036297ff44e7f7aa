import dataclasses
import warnings

import pytest

import plr_edge
from plr_edge.config import AdaptConfig, EngineConfig, LearningConfig
from plr_edge.errors import ConfigError


def test_settings_of_learning_and_of_engines_have_no_name_in_common():
    learning, engines = (
        {field.name for field in dataclasses.fields(config)}
        for config in (LearningConfig, EngineConfig)
    )
    assert not learning & engines


def test_the_old_configuration_still_works_and_warns_where_it_is_written():
    with pytest.warns(DeprecationWarning, match="use LearningConfig, and EngineConfig") as caught:
        config = plr_edge.AdaptConfig(bits=8, seed=3, n_threads=2, providers=("cpu",))
    assert caught[0].filename == __file__
    assert config.split() == (
        LearningConfig(bits=8, seed=3),
        EngineConfig(n_threads=2, providers=("cpu",)),
    )
    names = {field.name for field in dataclasses.fields(AdaptConfig)}
    parts = (LearningConfig, EngineConfig)
    assert names == {field.name for part in parts for field in dataclasses.fields(part)}


def test_the_old_configuration_has_the_same_defaults_and_checks():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert AdaptConfig().split() == (LearningConfig(), EngineConfig())
        with pytest.raises(ConfigError, match="n_threads is 0"):
            AdaptConfig(n_threads=0)
        with pytest.raises(ConfigError, match="memory_bytes is 0"):
            AdaptConfig(memory_bytes=0)
