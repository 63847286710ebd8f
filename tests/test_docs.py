"""The worked examples of the documentation run as they are printed."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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


def executed(page: str, shorter: list[str], install: Callable[[Path], object]) -> list[str]:
    """Run the blocks of a page from top to bottom in the working folder, and say which commands there were.

    A block after `name`: is written to that file; where it exists, its assignments take the place of those of the same
    names. Commands of `bench` get the words `shorter`.
    """
    actions = {
        "python": lambda words: runpy.run_path(words[0]) and 0,
        "diffmatch": lambda words: invoke(words + shorter * (words[0] == "bench")),
        "pip": lambda words: install(Path(words[-1])) and 0,
        "cp": lambda words: shutil.copytree(words[-2], words[-1]) and 0,
    }
    text, ran = (DOCS / page).read_text(), []
    for file, kind, block in re.findall(r"(?:`([^`\s]+)`[^`\n]*:\n\n)?```(\w+)\n(.*?)```", text, re.DOTALL):
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
    return [*dict.fromkeys(ran)]


def test_your_own_domain_in_ten_minutes(stub, tmp_path, monkeypatch, install_plugin):
    monkeypatch.chdir(tmp_path)
    shorter = [
        word for key, value in stub(train__steps=2, network__stride=4).items() for word in ("--set", f"{key}={value}")
    ]
    ran = executed("own-domain.md", shorter, install_plugin)
    assert ran == [
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
    assert {path.name for path in Path("masks").glob("*.png")} == {f"{number:03d}.png" for number in range(50, 60)}


def test_from_a_bare_clone_to_masks_for_five_pictures(stub, tmp_path, monkeypatch, capsys):
    """What is said of the files is so, and three ways to the same model give the same masks."""
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    changes = {"train__steps": 40, "network__stride": 4, "train__batch": 4, "train__optimizer": "adamw"}
    shorter = [word for key, value in stub(**changes).items() for word in ("--set", f"{key}={value}")]
    ran = executed("own-pictures.md", shorter, lambda _: 1)
    assert ran == [
        "python draw.py",
        "diffmatch bench",
        "diffmatch predict",
        "cp -r",
        "python use.py",
        "diffmatch export",
        "python use_onnx.py",
    ]
    printed = capsys.readouterr().out
    assert "['ground', 'pond', 'hut'] (80, 96) (3, 80, 96)" in printed and "(1, 80, 96)" in printed
    five = [f"{number}" for number in range(60, 65)]
    files = {f"{name}{end}" for name in five for end in (".png", "_overlay.png", "_uncertainty.npz")}
    assert {path.name for path in Path("masks").iterdir()} == files | {".diffmatch.json"}
    for name in five:
        first, second = (np.asarray(Image.open(f"{folder}/{name}.png")) for folder in ("masks", "masks-again"))
        assert np.array_equal(first, second) and set(np.unique(first)) <= {0, 1, 2}
    warm = next(record for record in (run.record() for run in find_runs(Path("runs"))) if record.init)
    assert warm.method == "unimatch" and warm.init.source == "ponds.safetensors"


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
