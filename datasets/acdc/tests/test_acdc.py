"""The ACDC plugin: two layouts with one set of ids, the community's lists, refusals by name, the phantom."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from diffmatch.conformance.elsewhere import check_outside
from diffmatch.domain import Cache, Domain, InputError, Item
from diffmatch.readers.lists import read
from diffmatch_acdc import ACDC, BUDGETS, TEST, VAL, _split

SPLITS = Path(__file__).parents[3].parent / "shared" / "splits"
needs_lists = pytest.mark.skipif(not SPLITS.is_dir(), reason=f"the community's split lists are not at {SPLITS}")


@pytest.fixture(scope="module")
def fabricated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("acdc")
    ACDC.fabricate(root, seed=0)
    return root


@pytest.fixture
def raw(fabricated: Path, tmp_path: Path) -> Path:
    """A copy of a few patients that a test may damage: three labelled ones, patient090, one for val, one for test."""
    for name in ("patient038", "patient050", "patient099", "patient090", "patient002", "patient001"):
        shutil.copytree(fabricated / "training" / name, tmp_path / "raw" / "training" / name)
    return tmp_path / "raw"


def prepare_h5(raw: Path, out: Path) -> None:
    """The h5 layout of SSL4MIS from the raw one, by its published recipe.

    Min-max per volume, frames renamed, slices from 1.
    """
    (out / "data" / "slices").mkdir(parents=True)
    for folder in sorted((raw / "training").iterdir()):
        info = dict(line.split(": ") for line in (folder / "Info.cfg").read_text().splitlines())
        for phase, frame in enumerate((info["ED"], info["ES"]), 1):
            stem = folder / f"{folder.name}_frame{int(frame):02d}"
            image = np.asarray(nib.load(f"{stem}.nii.gz").dataobj).T.astype(np.float64)
            label = np.asarray(nib.load(f"{stem}_gt.nii.gz").dataobj).T
            image = (image - image.min()) / (image.max() - image.min())
            name = f"{folder.name}_frame{phase:02d}"
            files = {f"data/{name}.h5": (image, label)}
            files |= {f"data/slices/{name}_slice_{k + 1}.h5": (image[k], label[k]) for k in range(len(image))}
            for path, (x, y) in files.items():
                with h5py.File(out / path, "w") as file:
                    file["image"], file["label"] = x, y


def arrays(domain: Domain, item: Item) -> tuple[NDArray[Any], NDArray[Any]]:
    sample = domain.read(item)
    assert sample.mask is not None
    return sample.image, sample.mask


def members(domain: Domain, budget: str) -> tuple[str, ...]:
    published = domain.published(budget)
    assert published is not None and published.family == "ssl4mis"
    return published.ids


def find(domain: Domain, item_id: str) -> Item:
    return next(item for split in ("train", "val", "test") for item in domain.index(split) if item.id == item_id)


@pytest.mark.parametrize("inner", ["", "data"])
def test_both_layouts_hold_the_same_items_and_pixels(raw: Path, tmp_path: Path, inner: str) -> None:
    prepare_h5(raw, tmp_path / "h5")
    ours, theirs = ACDC(raw), ACDC(tmp_path / "h5" / inner)
    assert check_outside(ACDC, theirs.root) is None
    for split in ("train", "val", "test"):
        items = ours.index(split)
        assert [(i.id, i.case) for i in items] == [(i.id, i.case) for i in theirs.index(split)]
        for item in items[:: 13 if split == "train" else 1]:
            (image, mask), (their_image, their_mask) = arrays(ours, item), arrays(theirs, find(theirs, item.id))
            np.testing.assert_allclose(image, their_image, atol=1e-6)
            np.testing.assert_array_equal(mask, their_mask)
            assert theirs.read(find(theirs, item.id)).spacing is None


def test_shapes_ranges_and_spacing(raw: Path) -> None:
    domain = ACDC(raw / "training")
    item = domain.index("test")[0]
    image, mask = arrays(domain, item)
    assert image.shape == (1, 1, *mask.shape) and image.dtype == np.float32 and mask.dtype == np.uint8
    assert image.min() == 0 and image.max() == 1
    file = nib.load(raw / "training" / "patient001" / "patient001_frame01.nii.gz")
    assert mask.shape == file.shape[::-1]
    spacing = domain.read(item).spacing
    assert (
        spacing is not None and spacing == pytest.approx(file.header.get_zooms()[::-1]) and spacing[0] > 3 * spacing[1]
    )
    item = domain.index("train")[0]
    image, mask = arrays(domain, item)
    assert image.shape == (1, 1, *mask.shape) and mask.ndim == 2
    assert item.case == item.id[:10] and item.id.endswith("_frame01_slice_1")


def test_frames_come_from_info_cfg(raw: Path) -> None:
    folder = raw / "training" / "patient090"
    assert (folder / "patient090_frame04_gt.nii.gz").is_file() and not (folder / "patient090_frame01.nii.gz").exists()
    items = {item.id: item for item in ACDC(raw).index("train") if item.case == "patient090"}
    assert items["patient090_frame01_slice_1"].ref.image.name == "patient090_frame04.nii.gz"
    # The numbers decide, not the order of the files: with ED and ES exchanged, so are the frames.
    text = (folder / "Info.cfg").read_text()
    es = dict(re.findall(r"(ED|ES): (\d+)", text))["ES"]
    (folder / "Info.cfg").write_text(text.replace("ED: 4", f"ED: {es}").replace(f"ES: {es}", "ES: 4"))
    swapped = {item.id: item for item in ACDC(raw).index("train")}
    assert swapped["patient090_frame02_slice_1"].ref.image.name == "patient090_frame04.nii.gz"
    (folder / "Info.cfg").unlink()
    assert {item.id: item.ref for item in ACDC(raw).index("train") if item.case == "patient090"} == {
        k: v.ref for k, v in items.items()
    }


def test_4d_file_and_official_test_patients_are_left_alone(fabricated: Path, raw: Path) -> None:
    assert len(list(fabricated.rglob("*_4d.nii.gz"))) == 3
    shutil.copytree(raw / "training" / "patient001", raw / "testing" / "patient101")
    shutil.copytree(raw / "training" / "patient001", raw / "training" / "patient101")
    files = [path.name for path in ACDC(raw).files()]
    assert len(files) == 6 * 5 and not any("4d" in name for name in files)


def test_unlabelled_read_never_opens_a_mask(raw: Path, tmp_path: Path) -> None:
    domain = ACDC(raw)
    items = domain.index("train")
    for path in raw.rglob("*_gt.nii.gz"):
        path.unlink()
    domain.prepare(Cache(tmp_path / "cache"))
    for item in items:
        assert domain.read(item, mask=False).mask is None
    assert not list((tmp_path / "cache").glob("*mask*"))
    with pytest.raises(InputError, match=r"patient\d+_frame\d+_gt\.nii\.gz"):
        domain.read(items[0])


def test_a_volume_is_decompressed_once(raw: Path, tmp_path: Path) -> None:
    domain = ACDC(raw)
    domain.prepare(Cache(tmp_path / "cache"))
    items = [item for item in domain.index("train") if item.id.startswith("patient099_frame01")]
    fresh = [ACDC(raw).read(item) for item in items]
    domain.read(items[0])
    shutil.rmtree(raw)
    for item, sample in zip(items, fresh, strict=True):
        again = domain.read(item)
        np.testing.assert_array_equal(again.image, sample.image)
        np.testing.assert_array_equal(again.mask, sample.mask)


Change = Callable[[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]


def rewrite(path: Path, change: Change) -> None:
    volume = nib.load(path)
    array, affine = change(np.asarray(volume.dataobj).copy(), volume.affine.copy())
    nib.save(nib.Nifti1Image(array, affine), path)


def foreign_value(array: NDArray[Any], affine: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    array[:2, :3, 0] = 7
    return array, affine


REFUSALS: dict[str, tuple[Change, str]] = {
    "value": (foreign_value, r"label value 7 on 6 pixels"),
    "shape": (lambda a, m: (a[:-1], m), r"differs from its image's"),
    "place": (lambda a, m: (a, m @ np.diag([2.0, 1, 1, 1])), r"affines differ"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_bad_masks_are_refused_by_name(raw: Path, what: str) -> None:
    change, message = REFUSALS[what]
    rewrite(raw / "training" / "patient001" / "patient001_frame01_gt.nii.gz", change)
    domain = ACDC(raw)
    with pytest.raises(InputError, match=rf"patient001_frame01_gt\.nii\.gz: .*{message}") as caught:
        domain.read(domain.index("test")[0])
    assert "\n" not in str(caught.value)


def test_noise_in_the_affine_is_accepted(raw: Path) -> None:
    rewrite(raw / "training" / "patient001" / "patient001_frame01_gt.nii.gz", lambda a, m: (a, m * (1 + 1e-6)))
    domain = ACDC(raw)
    assert arrays(domain, domain.index("test")[0])[1].max() == 3


@pytest.mark.parametrize("keep", [5, 5000])
def test_truncated_nifti_is_named(raw: Path, keep: int) -> None:
    path = raw / "training" / "patient001" / "patient001_frame01.nii.gz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"patient001_frame01\.nii\.gz: .*copy or unpack it again"):
        domain = ACDC(raw)
        domain.read(domain.index("test")[0])


def test_bad_h5_is_named(raw: Path, tmp_path: Path) -> None:
    prepare_h5(raw, tmp_path / "h5")
    domain = ACDC(tmp_path / "h5")
    first, second, third = domain.index("train")[:3]
    first.ref.image.write_bytes(b"not h5")
    with h5py.File(second.ref.image, "a") as file:
        del file["label"]
    with h5py.File(third.ref.image, "a") as file:
        del file["label"]
        file["label"] = np.zeros((3, 3))
    for item in (first, second, third):
        with pytest.raises(InputError, match=item.ref.image.name):
            domain.read(item)
    assert domain.read(second, mask=False).mask is None


def test_missing_things_are_named(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither training/patient001/ nor data/slices.*creatis"):
        ACDC(tmp_path / "nothing")
    (told,) = ACDC(raw).remarks()
    assert (
        told.startswith("94 of the 100 patients are missing (patient003, patient004, ")
        and "19 of them the test's" in told
    )
    shutil.rmtree(raw / "training" / "patient038")
    with pytest.raises(InputError, match=r"budget 3 .* patient038,"):
        ACDC(raw).published("3")
    assert members(ACDC(raw), "1") == ("patient099",)
    (raw / "training" / "patient001" / "patient001_frame01_gt.nii.gz").unlink()
    with pytest.raises(InputError, match=r"patient001_frame01\.nii\.gz: its mask .* is missing"):
        ACDC(raw).index("test")


@needs_lists
def test_split_and_budgets_are_the_communitys() -> None:
    def patients(path: Path) -> set[int]:
        return {int(number) for number in re.findall(r"patient(\d{3})", path.read_text())}

    lists = SPLITS / "unimatch" / "acdc"
    assert patients(lists / "val.txt") == VAL == patients(SPLITS / "ssl4mis" / "ACDC" / "val.list")
    assert patients(lists / "test.txt") == TEST == patients(SPLITS / "ssl4mis" / "ACDC" / "test.list")
    assert patients(lists / "train_slices.txt") == {n for n in range(1, 101) if _split(n) == "train"}
    for budget, numbers in BUDGETS.items():
        assert patients(lists / budget / "labeled.txt") == set(numbers)


@needs_lists
@pytest.mark.parametrize(("budget", "count"), [("1", 32), ("3", 68), ("7", 136)])
def test_items_of_a_budget_are_the_communitys_slices(tmp_path: Path, budget: str, count: int) -> None:
    """A raw layout with the lists' slice counts gives exactly the lists' names."""
    listed = set(
        re.findall(
            r"patient\d+_frame\d+_slice_\d+", (SPLITS / "unimatch" / "acdc" / budget / "labeled.txt").read_text()
        )
    )
    for case in {name[:10] for name in listed}:
        folder = tmp_path / "training" / case
        folder.mkdir(parents=True)
        (folder / "Info.cfg").write_text("ED: 1\nES: 12\nGroup: NOR\n")
        for phase, frame in (("01", 1), ("02", 12)):
            depth = sum(name.startswith(f"{case}_frame{phase}_") for name in listed)
            for end in ("", "_gt"):
                nib.save(
                    nib.Nifti1Image(np.zeros((4, 4, depth), np.uint8), np.eye(4)),
                    folder / f"{case}_frame{frame:02d}{end}.nii.gz",
                )
    domain = ACDC(tmp_path)
    cases = members(domain, budget)
    ids = [item.id for item in domain.index("train") if item.case in cases]
    assert len(ids) == count and set(ids) == listed


def test_fabricated_set_serves_every_budget_and_protocol(fabricated: Path) -> None:
    domain = ACDC(fabricated)
    assert [len(members(domain, budget)) for budget in domain.card.budgets] == [1, 3, 7]
    assert len({item.case for item in domain.index("train")}) == 16
    assert (len(domain.index("val")), len(domain.index("test"))) == (6, 10)
    ids = [item.id for split in ("train", "val", "test") for item in domain.index(split)]
    assert len(set(ids)) == len(ids)


def test_fabrication_follows_its_seed(fabricated: Path, tmp_path: Path) -> None:
    def digest(root: Path, name: str) -> str:
        return hashlib.sha256(np.asarray(nib.load(root / "training" / name[:10] / name).dataobj).tobytes()).hexdigest()

    ACDC.fabricate(tmp_path / "same", seed=0)
    ACDC.fabricate(tmp_path / "other", seed=1)
    for name in ("patient099_frame01.nii.gz", "patient099_frame01_gt.nii.gz"):
        assert digest(fabricated, name) == digest(tmp_path / "same", name) != digest(tmp_path / "other", name)
    names = [sorted(path.name for path in root.rglob("*")) for root in (fabricated, tmp_path / "same")]
    assert names[0] == names[1]


def test_class_shares_are_as_skewed_as_the_real_ones(fabricated: Path) -> None:
    """Table 14 of the paper: background 96.20, myocardium 1.33, left ventricle 1.29, right ventricle 1.18 %."""
    domain, pixels = ACDC(fabricated), np.zeros(4)
    for item in (item for split in ("train", "val", "test") for item in domain.index(split)):
        if item.ref.plane in (None, 0):
            pixels += np.bincount(np.asarray(nib.load(item.ref.mask).dataobj).ravel(), minlength=4)
    assert 100 * pixels / pixels.sum() == pytest.approx([96.20, 1.18, 1.33, 1.29], abs=0.3)


@pytest.mark.parametrize("degree", [1, 3])
def test_brightness_alone_does_not_solve_the_phantom(fabricated: Path, degree: int) -> None:
    """Logistic regression on a pixel's own value stays far below 0.30.

    That is half of what a small network must reach with three cases.
    """
    domain, rng = ACDC(fabricated), np.random.default_rng(0)
    labelled = [arrays(domain, item) for item in domain.index("train") if item.case in members(domain, "3")]
    x = np.concatenate([image.ravel() for image, _ in labelled])
    y = np.concatenate([mask.ravel() for _, mask in labelled])
    some = rng.choice(len(x), 20_000, replace=False)
    test = [arrays(domain, item) for item in domain.index("test")[::2]]
    scores = []
    for weight in (None, "balanced"):
        features = PolynomialFeatures(degree, include_bias=False)
        model = make_pipeline(features, StandardScaler(), LogisticRegression(class_weight=weight, max_iter=300)).fit(
            x[some, None], y[some]
        )
        dice = []
        for image, mask in test:
            guess, truth = model.predict(image.reshape(-1, 1)), mask.ravel()
            dice.append(
                [2 * ((guess == c) & (truth == c)).sum() / ((guess == c).sum() + (truth == c).sum()) for c in (1, 2, 3)]
            )
        scores.append(np.mean(dice))
    assert max(scores) < 0.15


@needs_lists
@pytest.mark.parametrize("folder", ["unimatch/acdc", "ssl4mis/ACDC"])
def test_the_communitys_lists_are_known_by_their_hash(folder: str) -> None:
    assert {family.name for family in read(SPLITS / folder, ACDC)} == {"ssl4mis"}
