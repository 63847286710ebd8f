"""The worked example of the documentation runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from diffmatch import plugins
from diffmatch.domain import InputError
from diffmatch.planning import plan

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def entropy(monkeypatch):
    """The example's class, installed under the name that the text gives it."""
    text = (DOCS / "own-method.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    namespace: dict[str, object] = {"__name__": "my_package"}
    exec(compile(code[1], "docs/own-method.md", "exec"), namespace)
    found = plugins._found
    monkeypatch.setattr(plugins, "_found", lambda group, name: namespace["Entropy"] if name == "entropy" else found(group, name))
    return namespace["Entropy"]


def test_a_strangers_method_trains_scores_and_takes_its_own_settings(entropy, job, quietly, tmp_path):
    record = quietly(job(tmp_path, "entropy", train__steps=2, train__validations=0, method__weight=0.2)).record()
    assert record.status == "done" and record.settings["method"] == {"weight": 0.2}
    assert 0 <= record.metrics["test"]["primary"]["value"] <= 1
    with pytest.raises(InputError, match=r"did you mean 'method\.weight'"):
        plan(job(tmp_path, "entropy", method__wieght=1))
