"""The worked example of the documentation runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.console import Console

from diffmatch import plugins
from diffmatch.domain import InputError
from diffmatch.jobs import Job, plan, run

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


def test_a_strangers_method_trains_scores_and_takes_its_own_settings(entropy, tmp_path):
    small = {
        "network.encoder": "plain2", "network.dim": 16, "network.heads": 2, "network.layers": 1, "data.crop": 32, "data.resize": 32,
        "train.batch": 2, "train.steps": 2, "train.audits": 1, "train.validations": 0, "eval.samples": 1, "method.weight": 0.2,
    }  # fmt: skip
    job = Job("acdc", "entropy", "3", overrides=small, out=tmp_path, workers=0)
    record = run(job, Console(quiet=True)).record()
    assert record.status == "done" and record.settings["method"] == {"weight": 0.2}
    assert 0 <= record.metrics["test"]["primary"]["value"] <= 1
    with pytest.raises(InputError, match=r"did you mean 'method\.weight'"):
        plan(Job("acdc", "entropy", "3", overrides={"method.wieght": 1}, out=tmp_path))
