"""Invented data are those of the fabricator as it is now: an edited one of whatever plugin invents anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from diffmatch import plugins
from diffmatch.data.opening import fabricated_data, fabricator_source
from diffmatch_acdc import ACDC

PLUGIN = """
from diffmatch.domain import Card, Domain, Recipe
from .painting import paint
import ponds_colors

class Ponds(Domain):
    card = Card(name="ponds", title="", classes=("a", "b"), licence="", citation="", source="")
    recipe = Recipe(paper={}, quick={})
    def index(self, split): return []
    def read(self, item, mask=True): raise NotImplementedError
    @classmethod
    def fabricate(cls, root, seed=0, size=1):
        (root / "a.txt").write_text(paint() + ponds_colors.COLOR)
"""


@pytest.mark.parametrize("edited", ["ponds_of_mine/__init__.py", "ponds_of_mine/deep/painting.py", "ponds_colors.py"])
def test_a_stranger_s_fabricator_that_is_edited_invents_anew(
    edited: str, tmp_path: Path, install_plugin: Callable[[Path], Path]
) -> None:
    """The plugin is a package with a package in it, and a module beside it."""
    files = {
        "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "ponds-of-mine"\nversion = "1"\n'
        '[project.entry-points."diffmatch.domains"]\nponds = "ponds_of_mine:Ponds"\n'
        '[tool.setuptools]\npackages = ["ponds_of_mine", "ponds_of_mine.deep"]\npy-modules = ["ponds_colors"]\n',
        "ponds_of_mine/__init__.py": PLUGIN.replace(".painting", ".deep.painting"),
        "ponds_of_mine/deep/__init__.py": "",
        "ponds_of_mine/deep/painting.py": "def paint(): return 'water'\n",
        "ponds_colors.py": "COLOR = 'blue'\n",
    }
    for name, text in files.items():
        (tmp_path / "plugin" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "plugin" / name).write_text(text)
    site = install_plugin(tmp_path / "plugin")
    ponds = plugins.domain("ponds")
    root, source = fabricated_data(ponds), fabricator_source(ponds)
    assert fabricated_data(ponds) == root and (root / "a.txt").read_text() == "waterblue"
    with (site / edited).open("a") as handle:
        handle.write("# edited\n")
    assert fabricator_source(ponds) != source and fabricated_data(ponds) != root


def test_an_installed_plugin_s_fabricator_is_all_its_modules() -> None:
    source = fabricator_source(ACDC)
    folder = Path(__file__).parents[2] / "datasets" / "acdc"
    assert len(modules := sorted(folder.glob("diffmatch_acdc*.py"))) == 3
    assert all(path.read_bytes() in source for path in modules)
    assert b"class Trainer" not in source, "an edit of the engine leaves invented data alone"
