"""The worked examples of the documentation run as they are printed."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import sys
import types
from pathlib import Path

import pytest

from diffmatch.cli import invoke
from diffmatch.conformance.method import CHECKS as METHOD_CHECKS
from diffmatch.domain import InputError
from diffmatch.learning import registry
from diffmatch.records.folder import find_runs
from diffmatch.running import grid
from diffmatch.running.plan import plan

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PRINTED = [
    pytest.param(command, path.read_text()[command.end() :], id=f"{path.stem}-{Path(command[2]).stem}")
    for path in sorted(DOCS.glob("*.md"))
    for command in re.finditer(r"^    diffmatch (table (\S+) .*--form markdown)\n\n", path.read_text(), re.MULTILINE)
]
"""Commands of the documentation that a table follows, and the text from there on."""


@pytest.fixture
def entropy(monkeypatch):
    """The example's class, installed under the name that the text gives it."""
    text = (DOCS / "own-method.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    module = types.ModuleType("my_package")
    monkeypatch.setitem(sys.modules, "my_package", module)
    exec(compile(code[1], "docs/own-method.md", "exec"), module.__dict__)
    get = registry.methods.get
    monkeypatch.setattr(registry.methods, "get", lambda name: module.Entropy if name == "entropy" else get(name))
    return module.Entropy


def test_a_strangers_method_trains_scores_and_takes_its_own_settings(entropy, job, quietly, tmp_path):
    record = quietly(job(tmp_path, "entropy", train__steps=2, train__validations=0, method__weight=0.2)).record()
    assert record.status == "done" and record.settings["method"] == {"weight": 0.2}
    assert 0 <= record.metrics["test"]["primary"]["value"] <= 1
    with pytest.raises(InputError, match=r"did you mean 'method\.weight'"):
        plan(job(tmp_path, "entropy", method__wieght=1))


@pytest.mark.parametrize("name", METHOD_CHECKS)
def test_the_example_of_a_method_conforms(entropy, name):
    METHOD_CHECKS[name](entropy)


def rewritten(code: str, block: str) -> str:
    """The module with its top-level assignments replaced by those of the same names in the block."""
    new = {node.targets[0].id: ast.get_source_segment(block, node) for node in ast.parse(block).body}
    for node in reversed(ast.parse(code).body):
        if isinstance(node, ast.Assign) and node.targets[0].id in new:
            code = code.replace(ast.get_source_segment(code, node), new.pop(node.targets[0].id))
    assert not new, f"the plugin has no {', '.join(new)}"
    return code


def test_your_own_domain_in_ten_minutes(stub, tmp_path, monkeypatch, install_plugin):
    monkeypatch.chdir(tmp_path)
    shorter = [
        word for key, value in stub(train__steps=2, network__stride=4).items() for word in ("--set", f"{key}={value}")
    ]
    actions = {
        "python": lambda words: runpy.run_path(words[0]) and 0,
        "diffmatch": lambda words: invoke(words + shorter * (words[0] == "bench")),
        "pip": lambda words: install_plugin(Path(words[-1])) and 0,
    }
    text, ran = (DOCS / "own-domain.md").read_text(), []
    for file, kind, block in re.findall(r"(?:`([^`\s]+)`:\n\n)?```(\w+)\n(.*?)```", text, re.DOTALL):
        if file:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).write_text(rewritten(Path(file).read_text(), block) if Path(file).exists() else block)
        for line in block.splitlines() if kind == "sh" else ():
            command, *typed = shlex.split(line)
            words = [
                word
                for pattern in typed
                for word in (sorted(map(str, Path().glob(pattern))) if "*" in pattern else [pattern])
            ]
            assert actions[command](words) == 0, line
            ran.append(" ".join([command, *words[:1]]))
    assert [*dict.fromkeys(ran)] == [
        "python draw.py",
        "diffmatch doctor",
        "diffmatch bench",
        "diffmatch report",
        "diffmatch predict",
        "diffmatch new-domain",
        "pip install",
        "diffmatch check",
        "python arrange.py",
    ]
    records = {record.dataset: record for record in (folder.record() for folder in find_runs(Path("runs")))}
    classes = {name: [c["name"] for c in record.card["classes"]] for name, record in records.items()}
    assert classes == {"folder": ["background", "pond", "hut"], "ponds": ["land", "water"]}
    assert all(record.status == "done" and not record.data.fabricated for record in records.values())
    assert Path("report/index.html").is_file()
    assert {path.name for path in Path("masks").iterdir()} == {f"{number:03d}.png" for number in range(50, 60)}


@pytest.mark.skipif(not (ROOT.parent / "shared" / "data").is_dir(), reason="the tables' data are not at ../shared/data")
@pytest.mark.parametrize(("command", "text"), PRINTED)
def test_a_table_is_what_the_command_above_it_prints_from_the_records(command, text, monkeypatch, capsys):
    def nothing(found, console):
        assert [entry.folder.path for entry in found if not entry.done] == [], "a number without its record"

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(grid, "run_missing", nothing)
    assert invoke(shlex.split(command[1])) == 0
    printed = capsys.readouterr().out.rstrip()
    assert text.startswith(f"{printed}\n")


def test_there_are_such_tables():
    assert len(PRINTED) >= 10
