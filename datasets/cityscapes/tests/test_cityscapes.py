"""The Cityscapes plugin.

Two numberings told by their values, licence plates, the community's lists, refusals by name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from diffmatch.domain import InputError, Mask
from diffmatch.learning import registry
from diffmatch.readers import lists
from diffmatch.readers import masks as reader
from diffmatch.running.plan import settings_of
from diffmatch_cityscapes import Cityscapes
from diffmatch_cityscapes_labels import CLASSES, LABEL_IDS, TRAIN_IDS

SPLITS = Path(__file__).parents[3].parent / "shared" / "splits" / "unimatch" / "cityscapes"
needs_lists = pytest.mark.skipif(not SPLITS.is_dir(), reason=f"the community's split lists are not at {SPLITS}")

IDS = np.arange(36, dtype=np.uint8).reshape(4, 9)
IDS[3, 7:] = 255, 7
TRAIN = np.array([TRAIN_IDS.get(i, 255) for i in range(27)], np.uint8).reshape(3, 9)
FIRST, SECOND = "jena_000078_000019", "zurich_000001_000019"
IDS_FILE, TRAIN_FILE = "labelIds", "labelTrainIds"


def write(root: Path, split: str, frame: str, mask: NDArray[Any] | Image.Image | None, ending: str = IDS_FILE) -> Path:
    """A photograph of the mask's size, and the mask; returns the mask's path."""
    image, masks = (root / kind / split / frame.split("_")[0] for kind in ("leftImg8bit", "gtFine"))
    image.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(mask) if isinstance(mask, np.ndarray) else mask
    Image.new("RGB", picture.size if picture else (9, 4), (10, 20, 30)).save(image / f"{frame}_leftImg8bit.png")
    path = masks / f"{frame}_gtFine_{ending}.png"
    if picture:
        picture.save(path)
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    write(tmp_path, "train", FIRST, IDS)
    write(tmp_path, "val", "lindau_000000_000019", IDS)
    return tmp_path


@pytest.fixture(scope="module")
def fabricated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Names drawn, no lists installed."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("cityscapes")
        patch.setenv("DIFFMATCH_SPLITS", str(root / "no lists"))
        Cityscapes.fabricate(root / "data", seed=0)
    return root / "data"


def mask_of(root: Path, number: int = 0) -> Mask:
    domain = Cityscapes(root)
    mask = domain.read(domain.index("train")[number]).mask
    assert mask is not None
    return mask


def test_label_ids_of_every_value(tiny: Path) -> None:
    v = 255
    expected = [
        v,
        v,
        v,
        v,
        v,
        v,
        v,
        0,
        1,
        v,
        v,
        2,
        3,
        4,
        v,
        v,
        v,
        5,
        v,
        6,
        7,
        8,
        9,
        10,
        11,
        12,
        13,
        14,
        15,
        v,
        v,
        16,
        17,
        18,
        v,
        0,
    ]
    assert mask_of(tiny).ravel().tolist() == expected
    assert sorted(set(LABEL_IDS.values())) == [*range(len(CLASSES)), 255]


@pytest.mark.parametrize(("storage", "plate"), [("8 bits", 255), ("16 bits", 65535), ("signed", -1)])
def test_licence_plates_are_void_in_every_storage(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, storage: str, plate: int
) -> None:
    """PNG has no signed numbers: a mask with -1 can only come through another writer, so the array is handed in."""
    raw = np.where(IDS == 255, plate, IDS.astype(np.int32))
    if storage == "signed":
        monkeypatch.setattr(reader, "read", lambda path: reader.IndexMask(path, raw))
    else:
        write(tiny, "train", FIRST, raw.astype(np.uint8 if plate == 255 else np.uint16))
    mask = mask_of(tiny)
    assert mask[3, 7] == 255 and mask[3, 8] == 0 and mask[0, 7] == 0


@pytest.mark.parametrize("ending", [IDS_FILE, TRAIN_FILE])
def test_values_decide_and_not_the_name(tmp_path: Path, ending: str) -> None:
    """Whatever the file is called; a mask with only small values is read as the rest of its set is."""
    small = np.array([[7, 8, 11, 13]], np.uint8)
    for root, full in ((tmp_path / "ids", IDS), (tmp_path / "train ids", TRAIN)):
        write(root, "val", "lindau_000000_000019", full, ending)
        write(root, "train", FIRST, full, ending)
        write(root, "train", SECOND, small, ending)
    assert mask_of(tmp_path / "ids").tolist() != mask_of(tmp_path / "train ids").tolist()
    np.testing.assert_array_equal(mask_of(tmp_path / "train ids"), TRAIN)
    assert mask_of(tmp_path / "ids", 1).tolist() == [[0, 1, 2, 4]]
    assert mask_of(tmp_path / "train ids", 1).tolist() == [[7, 8, 11, 13]]
    for name, held in (("ids", "labelIds"), ("train ids", "trainIds")):
        misnamed = (held == "labelIds") != (ending == IDS_FILE)
        assert any(f"hold {held} by their values" in text for text in Cityscapes(tmp_path / name).remarks()) == misnamed


def test_train_and_val_may_differ_in_numbering(tiny: Path) -> None:
    write(tiny, "train", FIRST, TRAIN)
    np.testing.assert_array_equal(mask_of(tiny), TRAIN)


def test_both_files_side_by_side_and_other_renderings(tiny: Path) -> None:
    write(tiny, "train", FIRST, TRAIN, TRAIN_FILE)
    write(tiny, "train", FIRST, Image.new("RGB", (9, 4)), "color")
    write(tiny, "train", SECOND, TRAIN, TRAIN_FILE)
    domain = Cityscapes(tiny)
    assert [item.ref.mask.name for item in domain.index("train")] == [
        f"{FIRST}_gtFine_labelIds.png",
        f"{SECOND}_gtFine_labelTrainIds.png",
    ]
    assert len(list(domain.files())) == 6
    np.testing.assert_array_equal(mask_of(tiny, 1), TRAIN)


def test_splits_and_cases(tiny: Path) -> None:
    write(tiny, "train", SECOND, None)
    write(tiny, "test", "berlin_000000_000019", np.zeros((4, 9), np.uint8))
    domain = Cityscapes(tiny)
    assert [(i.id, i.case, i.masked) for i in domain.index("train")] == [
        (FIRST, "jena", True),
        (SECOND, "zurich", False),
    ]
    assert domain.index("val") == [] and [i.id for i in domain.index("test")] == ["lindau_000000_000019"]
    assert any(SECOND in text for text in domain.remarks()) and "withheld" in domain.card.note
    assert domain.read(domain.index("train")[1]).mask is None


def test_archives_side_by_side(tiny: Path, tmp_path: Path) -> None:
    for name in ("leftImg8bit", "gtFine"):
        (tmp_path / f"{name}_trainvaltest").mkdir()
        (tiny / name).rename(tmp_path / f"{name}_trainvaltest" / name)
    assert len(Cityscapes(tmp_path).index("train")) == 1


Damage = Callable[[Path], object]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def image_of(mask: Path) -> Path:
    return mask.parents[3] / "leftImg8bit" / "train" / "jena" / f"{FIRST}_leftImg8bit.png"


def mix(mask: Path) -> None:
    write(mask.parents[3], "train", SECOND, IDS)
    write(mask.parents[3], "train", FIRST, TRAIN)


REFUSALS: dict[str, tuple[Damage, str]] = {
    "unknown value": (
        lambda mask: Image.fromarray(IDS + 1).save(mask),
        rf"{FIRST}_gtFine_labelIds\.png: label value 34 on 1 pixels",
    ),
    "colours": (
        lambda mask: Image.new("RGB", (9, 4)).save(mask),
        rf"{FIRST}_gtFine_labelIds\.png: .* mode RGB .* index =",
    ),
    "size": (lambda mask: Image.new("L", (4, 9)).save(mask), rf"{FIRST}_gtFine_labelIds\.png: 4 x 9 pixels"),
    "cut mask": (cut, rf"{FIRST}_gtFine_labelIds\.png: .* copy it again"),
    "cut image": (lambda mask: cut(image_of(mask)), rf"{FIRST}_leftImg8bit\.png: .* copy it again"),
    "no image": (lambda mask: image_of(mask).unlink(), rf"{FIRST}_leftImg8bit\.png: missing"),
    "mixed": (mix, rf"{FIRST}_gtFine_labelIds\.png: looks like trainIds"),
    "val mask": (
        lambda mask: next((mask.parents[3] / "gtFine" / "val").glob("*/*")).unlink(),
        r"lindau_000000_000019_left.*: neither",
    ),
    "no gtFine": (lambda mask: mask.parents[2].rename(mask.parents[3] / "gt"), r"gtFine: no such folder; register"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_bad_input_is_refused_by_name(tiny: Path, what: str) -> None:
    damage, message = REFUSALS[what]
    damage(tiny / "gtFine" / "train" / "jena" / f"{FIRST}_gtFine_labelIds.png")
    with pytest.raises(InputError, match=message) as caught:
        mask_of(tiny)
    assert "\n" not in str(caught.value)


def test_masks_stay_closed_unless_asked_for(fabricated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "read", lambda path: pytest.fail(f"{path} was opened"))
    domain = Cityscapes(fabricated)
    assert domain.read(domain.index("train")[0], mask=False).mask is None


@needs_lists
def test_the_communitys_lists_are_known_and_name_our_ids() -> None:
    families = lists.read(SPLITS, Cityscapes)
    assert {family.name for family in families} == {"unimatch"}
    assert {family.budget: len(family.labelled or ()) for family in families} == {"1/30": 100, **Cityscapes.sizes}
    for family in families:
        assert (
            len({*(family.labelled or ()), *(family.unlabelled or ())}) == 2975
            and len(family.test or ()) == 500
            and family.val == ()
        )
    assert families[0].test is not None and families[0].test[0] == "frankfurt_000001_062250"


def test_u2pl_lines_name_the_same_ids() -> None:
    assert (
        Cityscapes.listed(f"leftImg8bit/train/jena/{FIRST}_leftImg8bit.png")
        == FIRST
        == Cityscapes.listed(f"{FIRST}_gtFine_labelTrainIds.png")
    )


@needs_lists
def test_fabricated_names_are_the_communitys_if_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFMATCH_SPLITS", str(tmp_path / "lists"))
    monkeypatch.setattr("diffmatch_cityscapes_phantom.SHAPE", (60, 80))
    monkeypatch.setattr("diffmatch_cityscapes_phantom.VAL", 3)
    lists.install(Cityscapes, SPLITS)
    Cityscapes.fabricate(tmp_path / "data")
    domain = Cityscapes(tmp_path / "data")
    names, families = {item.id for item in domain.index("train")}, lists.installed(Cityscapes)
    for family in families:
        assert (set(family.labelled or ()) <= names) == (family.budget in ("1/30", "1/16"))
    assert len(names) >= 372 and [item.id for item in domain.index("test")] == sorted((families[0].test or ())[:3])


def test_fabrication_is_skewed_and_has_the_quirks(fabricated: Path) -> None:
    domain = Cityscapes(fabricated)
    assert len(domain.index("train")) == 2 * domain.sizes["1/16"] and len(domain.index("test")) == 32
    pixels, frames = np.zeros(256), np.zeros(256)
    for item in domain.index("train")[::2]:
        mask = domain.read(item).mask
        assert mask is not None
        count = np.bincount(mask.ravel(), minlength=256)
        pixels, frames = pixels + count, frames + (count > 0)
    assert pixels[0] > 100 * pixels[:19].min() > 0 and frames[:19].min() >= 6 and pixels[255] > 0
    raw = [reader.read(item.ref.mask).values for item in domain.index("train")]
    assert {array.dtype for array in raw} == {np.dtype(np.uint8), np.dtype(np.uint16)}
    assert any((array == 255).any() for array in raw) and any((array == 65535).any() for array in raw)
    assert (fabricated / "leftImg8bit" / "test").is_dir()


def test_fabrication_follows_its_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffmatch_cityscapes_phantom.SHAPE", (60, 80))
    monkeypatch.setattr("diffmatch_cityscapes_phantom.LABELLED", 4)
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        Cityscapes.fabricate(tmp_path / folder, seed)
    content = [[path.read_bytes() for path in sorted((tmp_path / folder).rglob("*.png"))] for folder in "abc"]
    assert content[0] == content[1] != content[2]


def test_unimatch_s_threshold_of_0_holds_where_the_network_has_its_weights() -> None:
    assert settings_of(Cityscapes, registry.method("unimatch"), "paper", {}).method.threshold == 0
    assert settings_of(Cityscapes, registry.method("unimatch"), "quick", {}).method.threshold == 0.95
