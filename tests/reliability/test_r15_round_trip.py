"""R15: a stored configuration comes back as it was, byte for byte; what is unknown in it is refused."""

import json

import pytest
from harness import full, record
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import configs, counts

from equisct.app import presets
from equisct.app.runs import folder
from equisct.app.settings import codec
from equisct.app.settings.check import check

EXAMPLES = 400 if full() else 25


def round_trip(config, place):
    """Dump, load, dump; before that the paths as every command takes them, since some may be there."""
    config = codec.whole_paths(config)
    folder.write_json(place / "first.json", codec.to_json(config))
    again = folder.read_config_file(place / "first.json")
    folder.write_json(place / "second.json", codec.to_json(again))
    assert again == config
    assert (place / "first.json").read_bytes() == (place / "second.json").read_bytes()


def test_any_valid_configuration_comes_back(tmp_path):
    tried = passed = 0

    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(configs())
    def any_valid(config):
        nonlocal tried, passed
        tried += 1
        check(config)
        round_trip(config, tmp_path)
        passed += 1

    try:
        any_valid()
    finally:
        record("R15", tried="valid configurations, dumped, loaded, dumped", passed=passed, of=tried)


@pytest.mark.parametrize("name", presets.PRESETS)
@counts("R15", "presets")
def test_presets_come_back(name, tmp_path):
    preset = presets.PRESETS[name][1]
    check(preset)
    round_trip(preset, tmp_path)


@counts("R15", "unknown keys anywhere")
@settings(max_examples=EXAMPLES, deadline=None, database=None)
@given(st.sampled_from(sorted(presets.PRESETS)), st.text(), st.data())
def test_an_unknown_key_anywhere_is_refused(name, key, data):
    stored = codec.to_json(presets.PRESETS[name][1])
    group = data.draw(st.sampled_from([None, *(name for name, value in stored.items() if isinstance(value, dict))]))
    place = stored if group is None else stored[group]
    known = set(place)
    if key in known:
        key += "_"
    place[key] = 1
    with pytest.raises(ValueError, match=r"config(\.\w+)?\.(.|\n)*: expected one of (.|\n)*, found an unknown field"):
        codec.from_json(json.loads(json.dumps(stored)))
