"""Two runs are comparable when all but method, its settings and seed agree; otherwise words say what differs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from diffmatch.records.comparable import Conditions
from diffmatch.records.schema import DataId, Init, Labels, RunRecord, SplitId

SETTINGS = {
    "network": {"decoder": "unet", "encoder": "plain8", "weights": "none", "stride": 2, "dim": 32, "layers": 4},
    "train": {"steps": 600, "epochs": 80.0, "batch": 4, "lr": 0.01, "loss": "ce"},
    "data": {"crop": 64, "resize": 96, "jitter": 0.5},
    "diffusion": {"steps": 3},
    "method": {"threshold": 0.95},
}
START = Init(source="old", dataset="acdc", method="cps", sha256="ab" * 32, fitted=1, fresh=[], unused=[])


@pytest.fixture
def conditions() -> Callable[..., Conditions]:
    """`conditions(record fields, dotted__settings=...)`: of a record with these changes."""

    def make(protocol: str = "volume", **changes: Any) -> Conditions:
        settings = {section: dict(own) for section, own in SETTINGS.items()}
        for name in [name for name in changes if "__" in name]:
            section, key = name.split("__")
            settings[section][key] = changes.pop(name)
        record = RunRecord(
            status="done",
            dataset=changes.pop("dataset", "acdc"),
            method=changes.pop("method", "diffmatch"),
            seed=changes.pop("seed", 0),
            preset=changes.pop("preset", "quick"),
            overrides={},
            labels=Labels(budget="3", unit="cases", items=["a"], pixels={}),
            split=SplitId(family="seeded-0", sha256=changes.pop("sha", "ab12cd34" * 8), counts={}),
            data=DataId(
                root="acdc",
                fabricated=changes.pop("fabricated", False),
                fingerprint="77aa88bb" * 8,
                fingerprint_of=changes.pop("kind", "names and sizes"),
            ),
            card={"version": changes.pop("card", 1)},
            settings=changes.pop("settings", settings),
            hash="0f3a9c21",
            parameters={},
            timing={},
            environment={},
            init=changes.pop("init", None),
        )
        assert not changes
        return Conditions.of(record, protocol)

    return make


@pytest.mark.parametrize(
    "change",
    [
        {"method": "fixmatch"},
        {"seed": 3},
        {"method__threshold": 0.5},
        {"diffusion__steps": 1},
        {"network__layers": 2},
        {"train__lr": 0.1},
        {"train__loss": "ohem"},
        {"data__jitter": 0.0},
        {"train__epochs": 20.0},  # 600 steps are set
    ],
)
def test_methods_their_settings_and_seeds_may_differ(conditions: Any, change: dict[str, Any]) -> None:
    assert conditions(**change) == conditions() and not conditions(**change).differences(conditions())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dataset": "msd"}, "dataset: acdc against msd"),
        ({"fabricated": True}, "data: real 77aa88bb against invented 77aa88bb"),
        ({"kind": "contents"}, "data: real 77aa88bb against real 77aa88bb of contents"),
        ({"card": 2}, "card: version 1 against version 2"),
        ({"sha": "ff00ff00" * 8}, "labelled split: ab12cd34 against ff00ff00"),
        ({"protocol": "slice"}, "protocol: volume against slice"),
        ({"preset": "paper"}, "preset: quick against paper"),
        ({"network__weights": "package:lite0"}, "weights: none against package:lite0"),
        ({"network__encoder": "resnet50"}, "encoder: plain8 against resnet50"),
        ({"network__dim": 64}, "channels: 32 against 64"),
        ({"init": START}, "started from: none against abababab"),
        ({"train__steps": 2400}, "steps: 600 against 2400"),
        ({"train__steps": 0}, "steps: 600 against 80.0 epochs"),
        ({"train__batch": 8}, "batch: 4 against 8"),
        ({"data__resize": None}, "resize: 96 against None"),
    ],
)
def test_whatever_else_differs_is_told(conditions: Any, change: dict[str, Any], told: str) -> None:
    other = conditions(**change)
    assert conditions() != other and conditions().differences(other) == [told]


def test_what_is_asked_for_is_left_out_of_the_words(conditions: Any) -> None:
    words = conditions().words(without=("split", "network.weights", "train.epochs"))
    assert not {"labelled split", "weights", "steps"} & set(words) and words["encoder"] == "plain8"


def test_a_record_without_settings_has_conditions(conditions: Any) -> None:
    assert conditions(settings={}).encoder == "" and conditions(settings={}) != conditions()
