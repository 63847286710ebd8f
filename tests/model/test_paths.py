"""Which files are predicted, and what is written of them is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffmatch.domain import InputError
from diffmatch.model.paths import later, named, pairs, pairs_below, without_ending

PNG = (".png",)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["a/x.jpg", "a/y.tar.png", "a/b/x.jpg", "a/.hidden.png", "a/.ipynb_checkpoints/z.png", "c/x.png"]
    names += [f"set/{date}/{name}" for date in "AB" for name in ("1.png", "deep/2.png")]
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("")


@pytest.mark.usefixtures("tree")
def test_names_are_paths_without_endings_and_nothing_hidden_has_one() -> None:
    assert [name for name, _ in named([Path("a")], (".jpg", ".png"))] == ["b/x", "x", "y.tar"]
    twice = [Path("a"), Path("a/x.jpg")]
    assert list(dict(named(twice, (".jpg",)))) == ["b/x", "x"]  # one file, named twice
    with pytest.raises(InputError, match=r"c/x\.png: its mask would be called as that of .*a/x\.jpg"):
        list(named([Path("a"), Path("c")], (".jpg", ".png")))
    for path, message in {"a/x.jpg": "is no file", "a/b": "holds no file", "nowhere": "no such file"}.items():
        with pytest.raises(InputError, match=message):
            list(named([Path(path)], PNG))


def test_the_longest_ending_is_taken() -> None:
    assert without_ending("v.NII.gz", (".nii", ".nii.gz", ".gz")) == "v"
    assert without_ending("v.gz", (".nii.gz",)) is None


@pytest.mark.usefixtures("tree")
def test_two_dates_by_files_and_by_folders() -> None:
    both = {name: (Path("set/A", f"{name}.png"), Path("set/B", f"{name}.png")) for name in ("1", "deep/2")}
    assert pairs(Path("set/A"), Path("set/B"), PNG) == both
    assert pairs(Path("set/A/1.png"), Path("c/x.png"), PNG) == {"1": (Path("set/A/1.png"), Path("c/x.png"))}
    assert pairs_below([Path("set")], PNG) == pairs_below([Path("set/A")], PNG) == both
    assert pairs_below([Path("set/A/1.png")], PNG) == {"1": both["1"]}
    assert later(Path("set/A/1.png")) == Path("set/B/1.png")


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("set/A", "c/x.png", "a file and a folder"),
        ("set/A", "c", r"set/A/1\.png: c has no file of this name \(2 missing there\)"),
        ("nowhere.png", "c/x.png", r"nowhere\.png: no such file"),
    ],
)
def test_dates_that_do_not_fit(before: str, after: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pairs(Path(before), Path(after), PNG)


@pytest.mark.usefixtures("tree")
def test_one_date_where_two_are_needed() -> None:
    for path in ("a", "c/x.png", "a/x.jpg"):
        with pytest.raises(InputError, match="two dates are needed: name them with --before and --after"):
            pairs_below([Path(path)], PNG)
    with pytest.raises(InputError, match="two dates are needed: give the pair"):
        later(Path("c/x.png"))
    Path("set/B/1.png").unlink()
    with pytest.raises(InputError, match=r"set/A/1\.png: two dates are needed"):
        later(Path("set/A/1.png"))
    with pytest.raises(InputError, match=r"set/A/1\.png: set/B has no file of this name"):
        pairs_below([Path("set")], PNG)
