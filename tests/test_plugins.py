"""Plugins: strict about names, and a broken one does not take the others down."""

from __future__ import annotations

import sys
import types
from importlib.metadata import EntryPoint

import pytest

from diffmatch import plugins
from diffmatch.domain import Card, ClassInfo, Domain, InputError, Protocol, TopBottom
from diffmatch.learning import registry
from diffmatch.methods.supervised import Supervised


def card(**changes) -> Card:
    base = {
        "version": 1,
        "name": "good",
        "title": "toy",
        "modality": "none",
        "label_unit": "images",
        "budgets": ("1",),
        "metric": "mean_iou",
        "classes": (ClassInfo(name="a", color=(0, 0, 0)), ClassInfo(name="b", color=(1, 1, 1))),
        "head_tail": TopBottom(k=1),
        "protocols": (Protocol(name="whole", title="whole", mode="image"),),
        "licence": "",
        "citation": "",
        "source": "",
    }
    return Card(**(base | changes))


class Good(Domain):
    card = card()


class OldInterface(Domain):
    card = card(api=99, name="old")


class WrongName(Domain):
    card = card(name="other")


class NoCard(Domain):
    pass


class SilentError(Exception):
    pass


class Distribution:
    def __init__(self, name):
        self.name = name


@pytest.fixture
def installed(monkeypatch):
    """Entry points of the test's own: name -> (module:attribute, distribution)."""
    module = types.ModuleType("plugin_under_test")
    module.Good, module.OldInterface, module.WrongName, module.NoCard = Good, OldInterface, WrongName, NoCard
    module.function, module.Method = (lambda: None), Supervised
    monkeypatch.setitem(sys.modules, "plugin_under_test", module)

    def install(group, points):
        made = []
        for name, value, distribution in points:
            point = EntryPoint(name, f"plugin_under_test:{value}" if ":" not in value else value, group)
            made.append(point._for(Distribution(distribution)))
        monkeypatch.setattr(plugins, "entry_points", lambda group: [p for p in made if p.group == group])
        plugins.domains.forget()
        registry.methods.forget()

    yield install
    plugins.domains.forget()
    registry.methods.forget()


BROKEN = [
    ("old", "OldInterface", "interface 99"),
    ("wrong", "WrongName", "'other'"),
    ("nocard", "NoCard", "AttributeError"),
    ("gone", "missing_module_xyz:X", "missing_module_xyz"),
    ("nothing", "Nothing", "Nothing"),
    ("function", "function", "not a subclass"),
]


def test_broken_plugins_are_named_and_the_others_work(installed):
    installed(plugins.DOMAINS, [("good", "Good", "d"), *((name, value, "d") for name, value, _ in BROKEN)])
    found = plugins.domains.all()
    assert list(found) == sorted(["good", *(name for name, *_ in BROKEN)])
    assert found["good"].loaded is Good
    assert found["good"].error is None
    for name, _, why in BROKEN:
        assert why in found[name].error, name
        assert found[name].loaded is None
        assert "\n" not in found[name].error
    assert plugins.domain("good") is Good


@pytest.mark.parametrize(("name", "value", "why"), BROKEN)
def test_asking_for_a_broken_plugin_tells_why(installed, name, value, why):
    installed(plugins.DOMAINS, [("good", "Good", "d"), (name, value, "d")])
    with pytest.raises(InputError, match=f"plugin '{name}'.*is broken: .*{why}"):
        plugins.domain(name)


def test_an_error_without_a_message_is_still_told(installed, monkeypatch):
    installed(plugins.DOMAINS, [("good", "Good", "d")])

    def load(self):
        raise SilentError

    monkeypatch.setattr(EntryPoint, "load", load)
    assert plugins.domains.all()["good"].error == "SilentError: no message"


def test_an_unknown_name_suggests_the_near_one(installed):
    installed(plugins.DOMAINS, [("good", "Good", "d")])
    with pytest.raises(InputError, match="unknown dataset 'goood'; did you mean 'good'"):
        plugins.domain("goood")
    with pytest.raises(InputError, match="installed: good"):
        plugins.domain("zzz")


def test_two_distributions_may_not_claim_one_name(installed):
    installed(plugins.DOMAINS, [("good", "Good", "one"), ("twin", "Good", "one"), ("twin", "WrongName", "two")])
    for ask in (lambda: plugins.domains.all(), lambda: plugins.domain("twin")):
        with pytest.raises(InputError, match="two plugins are called 'twin': one and two"):
            ask()
    assert plugins.domain("good") is Good


def test_methods_must_be_methods(installed):
    installed(plugins.METHODS, [("mine", "Method", "d"), ("function", "function", "d"), ("domain", "Good", "d")])
    found = registry.methods.all()
    assert found["mine"].loaded is Supervised
    assert "not a subclass" in found["function"].error
    assert "not a subclass" in found["domain"].error
    with pytest.raises(InputError, match="unknown method 'mien'; did you mean 'mine'"):
        registry.method("mien")


def test_names_load_nothing(installed):
    installed(plugins.DOMAINS, [("b", "missing_module_xyz:X", "d"), ("a", "Good", "d")])
    assert plugins.names(plugins.DOMAINS) == ["a", "b"]


def test_what_is_shipped_is_found():
    plugins.domains.forget()
    registry.methods.forget()
    assert {"supervised", "fixmatch", "discriminative", "diffmatch"} <= set(plugins.names(plugins.METHODS))
    assert registry.method("supervised") is Supervised
    assert not [p.error for p in registry.methods.all().values() if p.error]
