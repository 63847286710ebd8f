"""LEVIR-CD: whole images and ready patches give the same items, names divide, torchgeo reads the same pixels."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

import diffmatch_levir_cd
from diffmatch.data.splits import make_split
from diffmatch.domain import SPLITS, Cache, InputError, Item
from diffmatch.invented.aerial import write_patches
from diffmatch.readers import pairs
from diffmatch.readers.lists import install, read
from diffmatch_levir_cd import LEVIRCD, PUBLISHED

LISTS = Path(__file__).parents[3].parent / "shared" / "splits" / "unimatch" / "levir"
needs_lists = pytest.mark.skipif(not LISTS.is_dir(), reason=f"the community's split lists are not at {LISTS}")
IMAGES = {"train": ["train_1", "train_2", "train_10"], "val": ["val_1"], "test": ["test_7"]}
SIDE = 64


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("levir")
    for split, names in IMAGES.items():
        write_patches(root / split, names, seed=95, side=4 * SIDE)
    return root


@pytest.fixture
def whole(drawn: Path, tmp_path: Path) -> Path:
    """A copy of five whole images, scaled down to 256 pixels, that a test may damage."""
    return Path(shutil.copytree(drawn, tmp_path / "whole"))


def cut(whole: Path, out: Path, flat: bool) -> Path:
    """Patches as SemiCD prepares them: 4 x 4, row by row, from 1."""
    for split, names in IMAGES.items():
        for folder in pairs.FOLDERS:
            place = out / folder if flat else out / split / folder
            place.mkdir(parents=True, exist_ok=True)
            for name in names:
                pixels = np.asarray(Pillow.open(whole / split / folder / f"{name}.png"))
                for n in range(16):
                    top, left = n // 4 * SIDE, n % 4 * SIDE
                    Pillow.fromarray(pixels[top : top + SIDE, left : left + SIDE]).save(place / f"{name}_{n + 1}.png")
    return out


def arrays(domain: LEVIRCD, item: Item) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    sample = domain.read(item)
    assert sample.mask is not None
    return sample.image, sample.mask


@pytest.mark.parametrize("flat", [True, False])
def test_images_and_patches_hold_the_same_items_and_pixels(whole: Path, tmp_path: Path, flat: bool) -> None:
    images, patches = LEVIRCD(whole), LEVIRCD(cut(whole, tmp_path / "cut", flat))
    images.prepare(Cache(tmp_path / "cache"))
    assert images.layout.startswith("images, 16 patches each") and patches.layout.startswith("patches in A, B, label")
    changed = 0
    for split in SPLITS:
        ours, theirs = images.index(split), patches.index(split)
        assert [(i.id, i.case) for i in ours] == [(i.id, i.case) for i in theirs]
        assert [i.id for i in ours] == [f"{name}_{n}" for name in IMAGES[split] for n in range(1, 17)]
        for item, other in zip(ours[::3], theirs[::3], strict=True):
            (image, mask), (their_image, their_mask) = arrays(images, item), arrays(patches, other)
            np.testing.assert_array_equal(image, their_image)
            np.testing.assert_array_equal(mask, their_mask)
            assert image.shape == (2, 3, SIDE, SIDE) and image.dtype == np.float32 and mask.shape == (SIDE, SIDE)
            changed += int(mask.sum())
    assert changed > 0


def test_an_image_is_decoded_once(whole: Path, tmp_path: Path) -> None:
    domain = LEVIRCD(whole)
    domain.prepare(Cache(tmp_path / "cache"))
    first, *others = domain.index("val")
    domain.read(first, mask=False)
    assert not [path for path in (tmp_path / "cache").iterdir() if "label" in path.name]
    arrays(domain, first)
    for folder in pairs.FOLDERS:
        (whole / "val" / folder / "val_1.png").unlink()
    assert any(arrays(domain, item)[1].any() for item in [first, *others])


def test_torchgeos_reader_agrees(whole: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchgeo.datasets", reason="torchgeo is not installed")
    flat = tmp_path / "flat"
    for split in SPLITS:
        shutil.copytree(whole / split, flat, dirs_exist_ok=True)
    domain, theirs = LEVIRCD(flat), datasets.LEVIRCD(str(flat), "test")[0]
    for n, item in enumerate(domain.index("test")):
        image, mask = arrays(domain, item)
        part = (..., slice(n // 4 * SIDE, (n // 4 + 1) * SIDE), slice(n % 4 * SIDE, (n % 4 + 1) * SIDE))
        np.testing.assert_array_equal(np.rint(image * 255), theirs["image"].numpy()[part])
        np.testing.assert_array_equal(mask, theirs["mask"].numpy()[0][part])


def test_remarks_tell_a_part_from_the_whole(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = LEVIRCD(whole)
    told = " ".join(domain.remarks())
    assert "48 / 16 / 16 patches, the whole set has 7,120 / 1,024 / 2,048" in told and "64 x 64 pixels" in told
    item = domain.index("train")[0]
    monkeypatch.setitem(vars(domain), "items", {split: [item] * count for split, count in PUBLISHED.items()})
    assert "the whole set" in domain.remarks()[0]


def test_bad_files_are_named(whole: Path) -> None:
    def fails(message: str) -> None:
        domain = LEVIRCD(whole)
        with pytest.raises(InputError, match=message) as caught:
            for item in domain.index("val"):
                domain.read(item)
        assert "\n" not in str(caught.value)

    label, after = whole / "val" / "label" / "val_1.png", whole / "val" / "B" / "val_1.png"
    mask = np.asarray(Pillow.open(label))
    Pillow.fromarray(mask // 255).save(label)
    domain = LEVIRCD(whole)
    with pytest.raises(InputError, match=r"val_1\.png: changed is stored as 1, but .*train_\d+\.png has it as 255"):
        for split in ("train", "val"):
            for item in domain.index(split):
                domain.read(item)
    Pillow.fromarray(np.where(mask > 0, 38, 0).astype(np.uint8)).save(label)
    fails(r"label/val_1\.png: label value 38")
    Pillow.fromarray(mask).convert("RGB").save(label)
    fails(r"label/val_1\.png: a mask of mode RGB")
    Pillow.new("RGB", (250, 256)).save(after)
    fails(r"B/val_1\.png: 250 x 256 pixels, other images of this set have 256 x 256")
    after.write_bytes(after.read_bytes()[:200])
    fails(r"B/val_1\.png: cannot be read as an image")
    after.rename(after.with_stem("val_2"))
    fails(r"B/val_2\.png: has no counterpart in A/ \(1 missing")


def test_bad_layouts_are_named(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither A/ nor train/A/"):
        LEVIRCD(tmp_path / "nothing")
    write_patches(tmp_path / "odd", ["photo_1", "train_2"], seed=0, side=16)
    with pytest.raises(InputError, match=r"photo_1\.png: .*names must begin with train_"):
        LEVIRCD(tmp_path / "odd").index("train")
    write_patches(tmp_path / "mixed", ["train_1", "train_2_3"], seed=0, side=16)
    with pytest.raises(InputError, match=r"train_1\.png: a whole image beside the patch train_2_3\.png"):
        LEVIRCD(tmp_path / "mixed").index("train")
    write_patches(tmp_path / "uneven", ["train_1"], seed=0, side=18)
    with pytest.raises(InputError, match=r"train_1\.png: 18 x 18 pixels give no 4 x 4"):
        LEVIRCD(tmp_path / "uneven").index("train")
    write_patches(tmp_path / "scored", ["test_1_1"], seed=0, side=16)
    with pytest.raises(InputError, match=r"no training pairs"):
        LEVIRCD(tmp_path / "scored").index("test")


@needs_lists
def test_budgets_are_the_communitys() -> None:
    families = read(LISTS, LEVIRCD)
    assert {f.budget: len(f.labelled or ()) for f in families} == LEVIRCD.sizes
    known = {f"{split}_{i // 16 + 1}_{i % 16 + 1}" for split, count in PUBLISHED.items() for i in range(count)}
    for family in families:
        assert family.name == "unimatch"
        parts = [set(part or ()) for part in (family.labelled, family.unlabelled, family.val, family.test)]
        assert set().union(*parts) == known and sum(map(len, parts)) == len(known)


def touch(root: Path, names: list[str], seed: int) -> None:
    for folder in pairs.FOLDERS:
        (root / folder).mkdir(parents=True)
        for name in names:
            (root / folder / f"{name}.png").touch()


@needs_lists
def test_installed_lists_name_the_fabricated_patches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(LEVIRCD, LISTS)
    monkeypatch.setattr(diffmatch_levir_cd, "write_patches", touch)
    LEVIRCD.fabricate(tmp_path / "patches")
    split = make_split(LEVIRCD(tmp_path / "patches"), "5%", seed=0, partial=True)
    assert (split.family, len(split.labelled), len(split.unlabelled), len(split.val), len(split.test)) == (
        "unimatch",
        356,
        356,
        40,
        40,
    )


def test_fabricated_names_have_the_real_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffmatch_levir_cd, "write_patches", touch)
    for name, seed, size in (("one", 0, 1), ("same", 0, 1), ("other", 1, 2)):
        LEVIRCD.fabricate(tmp_path / name, seed, size)
    one, same, other = (LEVIRCD(tmp_path / name) for name in ("one", "same", "other"))
    assert [len(one.index(s)) for s in SPLITS] == [712, 40, 40] and [len(other.index(s)) for s in SPLITS] == [
        1068,
        80,
        80,
    ]
    assert one.index("train") != other.index("train") and [i.id for i in one.index("train")] == [
        i.id for i in same.index("train")
    ]
    for item in one.index("train"):
        image, patch = (int(n) for n in item.id.split("_")[1:])
        assert 1 <= image <= 445 and 1 <= patch <= 16 and item.case == f"train_{image}"
