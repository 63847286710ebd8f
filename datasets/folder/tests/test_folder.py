"""The folder plugin: the class table, three ways to part, the card, refusals by name, and the invented set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import diffmatch_folder
from diffmatch.data.splits import make_split
from diffmatch.domain import Cache, InputError, Item, Scene
from diffmatch.readers import masks, pictures
from diffmatch.readers.outside import of_file
from diffmatch_folder import Folder
from diffmatch_folder_layout import read_classes

SHAPE = (12, 16)
Array = NDArray[Any]


def colour(seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)


def labels(seed: int = 0, values: tuple[int, ...] = (0, 1, 2, 255)) -> Array:
    return np.random.default_rng(seed).choice(values, SHAPE).astype(np.uint8)


def save(path: Path, pixels: Array | Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **options)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten pictures with masks, three without, three classes."""
    (tmp_path / "classes.csv").write_text("0,background\n1,pond\n2,hut,#102030\n")
    for n in range(13):
        save(tmp_path / f"images/p{n:02d}.png", colour(n))
        if n < 10:
            save(tmp_path / f"masks/p{n:02d}.png", labels(n))
    return tmp_path


def move(root: Path, part_of: Callable[[int], str]) -> None:
    for folder in ("images", "masks"):
        for path in sorted((root / folder).glob("*.png")):
            target = root / folder / part_of(int(path.stem[1:]))
            target.mkdir(exist_ok=True)
            path.rename(target / path.name)


def counts(domain: Folder) -> list[int]:
    return [len(domain.index(part)) for part in ("train", "val", "test")]


def only(domain: Folder, name: str) -> Item:
    return next(item for part in ("train", "val", "test") for item in domain.index(part) if item.id == name)


def table(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "classes.csv"
    path.write_text(text)
    return read_classes(path)


def test_the_class_table(tmp_path: Path) -> None:
    found = table(tmp_path, "value,name,color\n7,hut,#102030\n\n0, Background\n3,pond\n4,pond\n9,void\n11,\n")
    assert [c.name for c in found.infos] == ["Background", "pond", "hut"] and found.background
    assert found.mapping == {0: 0, 3: 1, 4: 1, 7: 2, 9: 255, 11: 255, 255: 255}
    assert found.infos[0].color == (0, 0, 0) and found.infos[2].color == (16, 32, 48)
    assert not table(tmp_path, "\ufeff1,water\r\n2,land\r\n").background
    assert table(tmp_path, "0,land\n255,water\n").mapping == {0: 0, 255: 1}
    assert 255 not in table(tmp_path, "0,land\n1,water\n").mapping, "of two values, 255 may be the second class"
    assert table(tmp_path, "0,land\n1,water\n255,\n").mapping[255] == 255
    many = table(tmp_path, "".join(f"{n},class {n}\n" for n in range(30)))
    assert len({c.color for c in many.infos}) == 30


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,a\nb,1\n", "line 2: 'b,1' is not value,name"),
        ("0;a\n1;b\n", "line 1: '0;a' is not"),
        ("0,a\n1,b,red\n", "line 2"),
        ("0,a\n1,b\n1,c\n", "line 3: the value 1 has a row already"),
        ("0,a\n1,void\n", "1 classes; at least 2"),
        ("", "0 classes"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_by_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=r"classes\.csv") as caught:
        table(tmp_path, text)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_card_is_that_of_the_folder(root: Path) -> None:
    domain = Folder(root)
    assert domain.card.names == ["background", "pond", "hut"] and domain.card.background and domain.card.channels == 3
    assert domain.card.head_tail.model_dump()["k"] == 1 and domain.recipe.paper["data.mean"] == (0.485, 0.456, 0.406)
    assert domain.recipe.paper["data.crop"] == 32 and "data.resize" not in domain.recipe.quick
    for path in (root / "images").iterdir():
        save(path, np.zeros((300, 700), np.uint8))
    domain = Folder(root)
    assert (
        domain.card.channels == 1
        and domain.recipe.paper["data.mean"] == (0.5,)
        and domain.recipe.paper["data.std"] == (0.25,)
    )
    assert domain.recipe.paper["data.crop"] == 513 and domain.recipe.quick["data.resize"] == 256
    assert Folder.card.channels == 3 and "data.mean" not in Folder.recipe.paper, "the class's own card is untouched"


def test_a_draw_parts_the_pictures_with_masks(root: Path) -> None:
    domain = Folder(root)
    assert (
        counts(domain) == [10, 1, 2]
        and "draw" in domain.layout
        and "13 pictures, 10 of them with masks" in domain.layout
    )
    assert {i.id for i in domain.index("train") if not i.masked} == {"p10", "p11", "p12"}
    for budget, labelled in (("3", 3), ("1/4", 3), ("50%", 5)):
        split = make_split(domain, budget, 0)
        assert len(split.labelled) == labelled and all(i.masked for i in split.labelled)
    with pytest.raises(InputError, match="asks for 9 images, only 7 have masks"):
        make_split(domain, "9", 0)


@pytest.mark.parametrize("with_test", [True, False])
def test_subfolders_are_parts_and_names_may_recur(root: Path, with_test: bool) -> None:
    move(root, lambda n: "train" if n > 4 else "val" if n > 2 or not with_test else "test")
    save(root / "images/train/p00.png", colour(99))
    domain = Folder(root)
    assert counts(domain) == ([9, 2, 3] if with_test else [9, 0, 5])
    assert ("val is the test" in domain.layout) is not with_test
    assert only(domain, "train/p00").masked is False and only(domain, "test/p00" if with_test else "val/p00").masked
    assert Folder.listed("images/train/p00.png masks/train/p00.png") == Folder.listed("train/p00") == "train/p00"


def test_lists_are_parts(root: Path) -> None:
    (root / "images/p00.png").rename(root / "images/my pond.v2.png")
    (root / "masks/p00.png").rename(root / "masks/my pond.v2.png")
    (root / "train.txt").write_text("images/p01.png masks/p01.png\np02\np11.png")
    (root / "val.txt").write_text("p03\n")
    (root / "test.txt").write_text("my pond.v2.png\n./images/p04.png\n")
    domain = Folder(root)
    assert counts(domain) == [3, 1, 2] and [i.id for i in domain.index("test")] == ["my pond.v2", "p04"]
    assert "7 pictures are in no list" in domain.remarks()[0]
    assert {path.name for path in domain.files()} >= {"classes.csv", "train.txt", "val.txt", "test.txt", "p12.png"}
    (root / "val.txt").write_text("p01\n")
    with pytest.raises(InputError, match="id 'p01' is both in"):
        make_split(Folder(root), "1", 0)


def test_a_one_bit_mask_of_a_two_class_set(root: Path) -> None:
    (root / "classes.csv").write_text("0,land\n1,water\n")
    save(root / "masks/p00.png", labels(0, (0, 1)) > 0)
    domain = Folder(root)
    assert np.array_equal(domain.read(only(domain, "p00")).mask, labels(0, (0, 1)))
    save(root / "masks/p01.png", labels(0, (0, 255)))
    with pytest.raises(InputError, match=r"p01\.png: label value 255 on \d+ pixels is not in the map \(0, 1\)"):
        domain.read(only(domain, "p01"))


def test_a_mask_is_not_opened_when_not_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = Folder(root)
    items = domain.index("train")
    monkeypatch.setattr(masks, "read", lambda path: pytest.fail(f"{path} opened"))
    assert all(domain.read(item, mask=False).mask is None for item in items)
    assert domain.read(only(domain, "p12")).mask is None


def lists(root: Path, **parts: str) -> None:
    for part, text in parts.items():
        (root / f"{part}.txt").write_text(text)


def cut(path: Path, at: int) -> None:
    path.write_bytes(path.read_bytes()[:at])


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no table": (lambda r: (r / "classes.csv").unlink(), r"classes\.csv: no such file.*value,name"),
    "no images": (lambda r: (r / "images").rename(r / "pictures"), r"images: no such folder; put pictures"),
    "no masks": (lambda r: [p.unlink() for p in (r / "masks").iterdir()], r"13 pictures, 0 masks"),
    "stray mask": (lambda r: (r / "images/p03.png").unlink(), r"masks/p03\.png: no picture of this name"),
    "one name twice": (lambda r: save(r / "images/p03.jpg", colour(3)), r"p03\.png: has the name of p03\.jpg"),
    "foreign file": (lambda r: (r / "images/p99.heic").touch(), r"p99\.heic: not one of"),
    "foreign subfolder": (lambda r: (r / "images/old").mkdir(), r"images: subfolder 'old' is none of train, val, test"),
    "loose and parted": (
        lambda r: save(r / "images/train/p90.png", colour(0)),
        r"images: files \(p\d\d\.png\) beside the subfolders",
    ),
    "list of the absent": (lambda r: lists(r, train="p00\np77\n"), r"train\.txt: names 1 pictures .*\(p77\)"),
    "no test list": (lambda r: lists(r, train="p00"), r"the lists give 1 pictures to train and 0 to test"),
    "list that leaves": (lambda r: lists(r, test="../p00"), r"test\.txt: .*leaves the data root"),
    "test without mask": (lambda r: lists(r, train="p00", test="p11"), r"p11\.png: belongs to test"),
    "other channels": (
        lambda r: save(r / "images/p05.png", colour(0)[..., 0]),
        r"p05\.png: 1 channels, but p00\.png and 12 of 13 pictures have 3",
    ),
    "cut off": (lambda r: cut(r / "images/p05.png", 300), r"p05\.png: cannot be read"),
    "coloured mask": (lambda r: save(r / "masks/p05.png", colour(5)), r"masks/p05\.png: .*holds colours.*index ="),
    "unknown value": (
        lambda r: save(r / "masks/p05.png", labels(5, (0, 77))),
        r"masks/p05\.png: label value 77 on \d+ pixels",
    ),
    "other size": (
        lambda r: save(r / "masks/p05.png", labels()[1:]),
        r"masks/p05\.png: 16 x 11 pixels, but p05\.png has 16 x 12",
    ),
    "lossy mask": (
        lambda r: (Image.open(r / "masks/p05.png").save(r / "masks/p05.JPG"), (r / "masks/p05.png").unlink()),
        r"p05\.JPG: a mask as JPEG",
    ),
    "cut off mask": (lambda r: cut(r / "masks/p05.png", 80), r"masks/p05\.png: cannot be read"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_told_by_its_name(root: Path, what: str) -> None:
    spoil, message = BAD[what]
    spoil(root)
    with pytest.raises(InputError, match=message) as caught:
        domain = Folder(root)
        for item in (item for part in ("train", "val", "test") for item in domain.index(part)):
            domain.read(item)
    assert "\n" not in str(caught.value)


def test_what_other_programs_leave_is_ignored_and_headers_are_read_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (".DS_Store", "._p00.png", "Thumbs.db", "p00.tif.aux.xml"):
        (root / "images" / name).touch()
    domain = Folder(root)
    domain.prepare(Cache(root / "cache"))
    assert counts(domain) == [10, 1, 2]
    again = Folder(root)
    again.prepare(Cache(root / "cache"))
    monkeypatch.setattr(diffmatch_folder, "header", lambda path: pytest.fail(f"{path} opened again"))
    assert counts(again) == [10, 1, 2]


def test_dark_16_bit_pictures_are_remarked_with_what_to_set(root: Path) -> None:
    assert Folder(root).remarks() == []
    dark = np.full(SHAPE, 100, np.uint16)
    dark[0, 0] = 4000
    for path in (root / "images").iterdir():
        save(path, dark)
    (told,) = Folder(root).remarks()
    assert f"'data.mean=[{dark.mean() / 4095:.4f}]'" in told


def test_the_invented_set_is_skewed_and_of_several_kinds(tmp_path: Path) -> None:
    Folder.fabricate(tmp_path)
    domain = Folder(tmp_path)
    assert counts(domain) == [135, 15, 30]
    assert domain.card.classes == Folder.card.classes and domain.card.head_tail == Folder.card.head_tail
    assert {Image.open(path).mode for path in domain.masks.values()} == {"L", "P", "I;16"}
    pixels = np.zeros(256, np.int64)
    for item in domain.index("test"):
        mask = domain.read(item).mask
        assert mask is not None
        pixels += np.bincount(mask.ravel(), minlength=256)
    assert 0 < pixels[5] < 0.02 * pixels[0] and pixels[255] > 0


def test_four_channels_of_16_bits_make_a_card_of_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And files from elsewhere, large ones by windows, are read as the folder's own."""
    rasterio = pytest.importorskip("rasterio")

    def geotiff(path: Path, bands: NDArray[Any]) -> Path:
        shape = dict(zip(("count", "height", "width"), bands.shape, strict=True))
        with rasterio.open(path, "w", driver="GTiff", dtype=bands.dtype, photometric="minisblack", **shape) as file:
            file.write(bands)
        return path

    (tmp_path / "classes.csv").write_text("0,land\n1,water\n")
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for n in range(5):
        geotiff(tmp_path / f"images/{n}.tif", np.full((4, 12, 16), 6554, np.uint16))
        geotiff(tmp_path / f"masks/{n}.tif", np.ones((1, 12, 16), np.uint8))
    domain = Folder(tmp_path)
    assert (
        domain.card.channels == 4
        and domain.recipe.paper["data.mean"] == (0.5,) * 4
        and domain.recipe.paper["data.std"] == (0.25,) * 4
    )
    sample = domain.read(domain.index("test")[0])
    assert sample.image.shape == (1, 4, 12, 16) and sample.mask is not None and sample.mask.all()
    monkeypatch.setattr(pictures, "LARGE", 0)
    large = of_file(tmp_path / "images" / "0.tif", domain.card, domain.reading)
    assert isinstance(large, Scene) and np.array_equal(large.read(0, 0, 12, 16), sample.image)
    with pytest.raises(InputError, match=r"rgb\.tif: 3 channels, the model was trained on 4"):
        of_file(geotiff(tmp_path / "rgb.tif", np.zeros((3, 12, 16), np.uint16)), domain.card, domain.reading)
