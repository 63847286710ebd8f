"""The tree of settings: layers, files, the command line, and one-line refusals."""

from __future__ import annotations

import pytest
from pydantic import Field

from diffmatch.domain import InputError
from diffmatch.settings import Section, flatten, parse_assignments, read_layer, resolve


class Options(Section):
    threshold: float = Field(default=0.95, ge=0, le=1)


def test_later_layers_lie_over_earlier_ones():
    found = resolve(
        Options, {"train.lr": 1, "train.batch": 4, "method.threshold": 0.5}, {"train.lr": 2}, {"train.lr": 0.25}
    )
    assert (found.train.lr, found.train.batch, found.method.threshold) == (0.25, 4, 0.5)
    assert resolve(Options).method.threshold == 0.95


def test_flat_settings_resolve_to_the_same_settings():
    found = resolve(
        Options, {"data.crop": 64, "network.encoder": "plain16", "data.scale": [0.5, 1.5], "method.threshold": 0.1}
    )
    assert resolve(Options, found.flat()) == found
    assert found.flat()["data.scale"] == [0.5, 1.5]


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("train.stepz", "train.steps"),
        ("train.learning", None),
        ("network.encodr", "network.encoder"),
        ("method.treshold", "method.threshold"),
    ],
)
def test_an_unknown_key_suggests_the_near_one(key, near):
    with pytest.raises(InputError, match=f"unknown setting '{key}'") as told:
        resolve(Options, {key: 1})
    assert "\n" not in str(told.value)
    if near:
        assert f"did you mean '{near}'?" in str(told.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.steps", "abc"),
        ("train.batch", 0),
        ("train.lr", -1),
        ("train.optimizer", "lion"),
        ("data.scale", [1]),
        ("data.scale", "wide"),
        ("method.threshold", 2),
        ("diffusion.adjustment", "yes"),
        ("data.crop", None),
        ("train.steps", 1.5),
    ],
)
def test_a_value_that_does_not_fit_is_told_in_one_line_with_key_and_value(key, value):
    with pytest.raises(InputError, match=f"setting '{key}") as told:
        resolve(Options, {key: value})
    assert "\n" not in str(told.value)
    assert "got" in str(told.value)


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("5e-4", 0.0005),
        ("50", 50),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ("resnet50", "resnet50"),
        ("'1e-3'", "1e-3"),
        ('"32"', "32"),
        ("a=b", "a=b"),
    ],
)
def test_values_are_read_as_yaml_and_numbers_are_numbers(text, value):
    found = parse_assignments([f"x.y={text}"])
    assert found == {"x.y": value}
    assert type(found["x.y"]) is type(value)


@pytest.mark.parametrize("text", ["32", "'32'", "16", "bf16", "auto"])
def test_every_precision_can_be_asked_for(text):
    assert resolve(Options, parse_assignments([f"train.precision={text}"])).train.precision == text.strip("'")


@pytest.mark.parametrize("text", ["train.steps", "train.scale=[1", "x: y"])
def test_what_is_no_assignment_is_told(text):
    with pytest.raises(InputError, match="--set") as told:
        parse_assignments([text])
    assert "\n" not in str(told.value)


def test_the_last_of_two_assignments_counts():
    assert parse_assignments(["a.b=1", "a.b=2"]) == {"a.b": 2}


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_may_be_nested_or_dotted(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("train:\n  lr: 1e-3\n  batch: 4\ndata.crop: 64\ndata:\n  scale: [1, 2]\n")
    layer = read_layer(path)
    assert layer.keys() == {"train.lr", "train.batch", "data.crop", "data.scale"}
    found = resolve(Options, layer)
    assert (found.train.lr, found.train.batch, found.data.crop, found.data.scale) == (0.001, 4, 64, (1, 2))


@pytest.mark.parametrize("content", ["- a\n- b\n", "just text", "", "a: [1", "\x00", "a: b: c"])
def test_a_file_that_is_no_mapping_is_told_with_its_name(tmp_path, content):
    path = tmp_path / "s.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=r"s\.yaml") as told:
        read_layer(path)
    assert "\n" not in str(told.value)


def test_missing_files_folders_and_pictures_are_told(tmp_path):
    (tmp_path / "p.yaml").write_bytes(b"\x89PNG\xff\xfe")
    for path in (tmp_path / "none.yaml", tmp_path, tmp_path / "p.yaml"):
        with pytest.raises(InputError, match="cannot be read"):
            read_layer(path)


def test_keys_that_are_no_text_are_unknown_settings(tmp_path):
    (tmp_path / "s.yaml").write_text("1: 2\n")
    with pytest.raises(InputError, match="unknown setting '1'"):
        resolve(Options, read_layer(tmp_path / "s.yaml"))


def test_flattening_keeps_lists_whole():
    assert flatten({"a": {"b": [1, {"c": 2}], "d": {"e": 3}}}) == {"a.b": [1, {"c": 2}], "a.d.e": 3}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.lr", float("inf")),
        ("train.lr", float("nan")),
        ("data.scale", [2, 1]),
        ("data.scale", [0, 1]),
        ("data.scale", [-1, 1]),
        ("data.std", [0.2, 0, 0.2]),
        ("data.mean", [0.5, float("inf"), 0.5]),
    ],
)
def test_a_value_that_no_training_can_use_is_told_in_one_line(key, value):
    with pytest.raises(InputError, match=f"setting '{key}") as told:
        resolve(Options, {key: value})
    assert "\n" not in str(told.value)
