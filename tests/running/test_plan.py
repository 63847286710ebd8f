"""How a job's settings come together: a recipe may speak to the methods that have an option, and to them alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from diffmatch.card import Recipe
from diffmatch.domain import InputError
from diffmatch.learning import registry
from diffmatch.running.plan import settings_of

DOMAIN = SimpleNamespace(
    card=SimpleNamespace(name="some"),
    recipe=Recipe(paper={"method.threshold": 0.0, "train.lr": 0.5}, quick={"method.threshold": 0.7}),
)


def test_a_preset_that_the_recipe_lacks_is_refused():
    with pytest.raises(InputError, match="--preset standard: some has no such preset; it has quick, paper"):
        settings_of(DOMAIN, registry.method("supervised"), "standard", {})


@pytest.mark.parametrize(("preset", "threshold"), [("paper", 0.0), ("quick", 0.7)])
@pytest.mark.parametrize("method", ["fixmatch", "unimatch", "discriminative", "diffmatch"])
def test_a_recipe_s_option_holds_for_the_methods_that_have_it(preset, threshold, method):
    assert settings_of(DOMAIN, registry.method(method), preset, {}).method.threshold == threshold
    assert settings_of(DOMAIN, registry.method(method), preset, {"method.threshold": 0.9}).method.threshold == 0.9


def test_the_other_methods_do_not_hear_of_it():
    settings = settings_of(DOMAIN, registry.method("supervised"), "paper", {})
    assert settings.train.lr == 0.5
    assert "method.threshold" not in settings.flat()
    with pytest.raises(InputError, match=r"unknown setting 'method\.threshold'"):
        settings_of(DOMAIN, registry.method("supervised"), "paper", {"method.threshold": 0.9})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data__mean": [0.5, 0.5]}, "data.mean: 2 values for the 1 channels of acdc"),
        ({"data__std": [0.5, 0.5, 0.5]}, "data.std: 3 values for the 1 channels of acdc"),
    ],
)
def test_normalisation_has_a_value_for_each_channel(planned, changes, told):
    with pytest.raises(InputError, match=told):
        planned("supervised", **changes)


def test_heads_that_do_not_divide_the_width_are_told(planned):
    with pytest.raises(InputError, match=r"network\.dim=16 is not a multiple of network\.heads=3"):
        planned("diffmatch", network__heads=3).build()
