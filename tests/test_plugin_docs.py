"""Every installed dataset plugin documents features, format, classes, citation and licence in fixed sections."""

from __future__ import annotations

import inspect
import re

import pytest

from diffmatch import plugins

SOUND = list(plugins.domains.usable())
SECTIONS = (
    "Dataset features:",
    "Dataset format:",
    "Dataset classes:",
    "If you use this dataset in your research, please cite the following papers?:",
    "Dataset licence:",
)
FROM_THE_DATA = ("folder", "msd")
"""Domains whose classes are those of the user's files."""


@pytest.mark.parametrize("dataset", SOUND)
def test_the_docstring_has_the_sections_in_order(dataset):
    text = inspect.getdoc(plugins.domain(dataset)) or ""
    found = [re.search(f"^{section}$", text, re.MULTILINE) for section in SECTIONS]
    assert all(found), f"{dataset}: one each of {', '.join(SECTIONS)}"
    starts = [match.start() for match in found if match]
    assert starts == sorted(starts), f"{dataset}: the sections follow each other as {', '.join(SECTIONS)}"
    parts = [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
    for section, part in zip(SECTIONS, parts, strict=True):
        assert re.search(r"^(\* |\d+\. )\S", part, re.MULTILINE), f"{dataset}: '{section}' lists nothing"


@pytest.mark.parametrize("dataset", [name for name in SOUND if name not in FROM_THE_DATA])
def test_the_classes_are_those_of_the_card(dataset):
    domain = plugins.domain(dataset)
    text = inspect.getdoc(domain) or ""
    listed = [name for _, name in re.findall(r"^(\d+)\. (.+)$", text, re.MULTILINE)]
    others = re.search(r"^1 to (\d+) are ", text, re.MULTILINE)
    assert listed == domain.card.names[: len(listed)]
    assert len(listed) + (int(others[1]) if others else 0) == len(domain.card.classes)


@pytest.mark.parametrize("dataset", SOUND)
def test_licence_and_citation_agree_with_the_card(dataset):
    domain = plugins.domain(dataset)
    text = " ".join((inspect.getdoc(domain) or "").split())
    assert all(part.strip().split(": ")[-1] in text for part in domain.card.licence.split(";")), domain.card.licence
    assert domain.card.citation.split(",")[0] in text
