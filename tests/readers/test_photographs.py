"""What a domain of photographs gets from its base class: listing, reading, values, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffmatch.domain import VOID, Card, InputError
from diffmatch.readers.image import by_stem
from diffmatch.readers.photographs import Pair, Photographs, paired

MASK = np.array([[0, 50, 255], [9, 9, 0]], np.uint8)


class Ponds(Photographs):
    card = Card(
        name="ponds", title="Ponds", classes=("land", "water"), licence="l", citation="c", source="ask the author"
    )
    labels = {0: 0, 50: 1, 9: 1, 255: VOID}  # noqa: RUF012
    needs = ("images", "masks")

    def index(self, split):
        return paired(self.root / "images", self.root / "masks") if split == "train" else []


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three photographs, two of them with a mask, and files that are no pictures."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for name in ("b.JPG", "a.png", "a-1.png"):
        Image.new("RGB", (3, 2), (255, 0, 0)).save(tmp_path / "images" / name)
    for name in ("a", "b"):
        Image.fromarray(MASK).save(tmp_path / "masks" / f"{name}.png")
    for name in ("._a.png", "Thumbs.db"):
        (tmp_path / "images" / name).write_bytes(b"x")
    return tmp_path


def test_items_are_the_photographs_in_the_order_of_their_names(root: Path) -> None:
    items = Ponds(root).index("train")
    assert [(item.id, item.case, item.masked) for item in items] == [
        ("a", "a", True),
        ("a-1", "a-1", False),
        ("b", "b", True),
    ]
    assert items[2].ref == Pair(root / "images" / "b.JPG", root / "masks" / "b.png")
    assert by_stem(root / "nowhere") == {}


def test_masks_pass_the_map_and_stay_closed_unless_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = Ponds(root)
    masked, bare, _ = domain.index("train")
    sample = domain.read(masked)
    assert sample.image.shape == (1, 3, 2, 3) and sample.image[0, 0].min() > 0.99
    assert sample.mask is not None and sample.mask.tolist() == [[0, 1, 255], [1, 1, 0]]
    assert domain.read(bare).mask is None
    monkeypatch.setattr("diffmatch.readers.masks.read", lambda path: pytest.fail(f"{path} was opened"))
    assert domain.read(masked, mask=False).mask is None


def test_values_are_the_first_number_of_each_class(root: Path) -> None:
    class Plain(Ponds):
        labels = {}  # noqa: RUF012

    assert Ponds(root).reading.values == (0, 50)
    assert Plain(root).reading.values == (0, 1)
    with pytest.raises(InputError, match=r"a\.png: label value 9 on 2 pixels"):
        Plain(root).read(Plain(root).index("train")[0])


def test_the_files_are_those_that_the_items_refer_to(root: Path) -> None:
    names = [path.relative_to(root).as_posix() for path in Ponds(root).files()]
    assert names == ["images/a-1.png", "images/a.png", "images/b.JPG", "masks/a.png", "masks/b.png"]


def test_what_does_not_fit_together_is_named(root: Path) -> None:
    Image.fromarray(MASK[:1]).save(root / "masks" / "a.png")
    with pytest.raises(InputError, match=r"masks/a\.png: 3 x 1 pixels, but a\.png has 3 x 2"):
        Ponds(root).read(Ponds(root).index("train")[0])
    Image.fromarray(MASK).save(root / "masks" / "c.png")
    with pytest.raises(InputError, match=r"masks/c\.png: no image of this name in .*images"):
        Ponds(root).index("train")
    Image.new("RGB", (3, 2)).save(root / "images" / "b.png")
    with pytest.raises(InputError, match=r"images/b\.png: b\.JPG is there too"):
        by_stem(root / "images")


def test_a_missing_folder_is_named_with_where_to_get_it(root: Path) -> None:
    (root / "masks").rename(root / "labels")
    with pytest.raises(InputError, match=r"no masks there; ask"):
        Ponds(root)
