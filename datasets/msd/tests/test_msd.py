"""The decathlon plugin.

What it takes from dataset.json, its splits, its axes, its refusals, and the real hippocampus task.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from diffmatch.domain import Cache, Domain, InputError, Item, Window
from diffmatch.readers import outside
from diffmatch_msd import MSD

SHARED = Path(__file__).parents[3].parent / "shared"
REAL = SHARED / "data" / "Task04_Hippocampus"
needs_data = pytest.mark.skipif(not REAL.is_dir(), reason=f"the hippocampus task is not at {REAL}")


@pytest.fixture
def task(tmp_path: Path) -> Path:
    MSD.fabricate(tmp_path / "Task", seed=0)
    return tmp_path / "Task"


def arrays(domain: Domain, item: Item) -> tuple[NDArray[Any], NDArray[Any]]:
    sample = domain.read(item)
    assert sample.mask is not None
    return sample.image, sample.mask


def write_task(
    root: Path, image: NDArray[Any], spacing: tuple[float, ...], modality: dict[str, str], **about: Any
) -> Path:
    """Three cases with the same image and a mask whose values are 0 and 5."""
    affine = np.diag([*spacing, 1.0])
    mask = np.zeros(image.shape[:3], np.uint8)
    mask[1, 2, 3] = 5
    for name in "abc":
        for array, folder in ((image, "imagesTr"), (mask, "labelsTr")):
            (root / folder).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, affine), root / folder / f"{name}.nii.gz")
    pairs = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in "abc"]
    told = {
        "name": "Invented",
        "modality": modality,
        "labels": {"0": "background", "5": "lesion"},
        "training": pairs,
    } | about
    (root / "dataset.json").write_text(json.dumps(told))
    return root


def test_card_is_the_tasks(task: Path) -> None:
    domain = MSD(task)
    assert domain.card.names == ["background", "Anterior", "Posterior"] and domain.card.title.startswith("Hippocampus")
    assert MSD.card.names == ["background", "foreground"], "the template must stay as it is"
    colors = [info.color for info in domain.card.classes]
    assert len(set(colors)) == 3 and domain.card.name == "msd"
    assert domain.recipe.paper["data.crop"] == 64


def test_items(task: Path) -> None:
    domain = MSD(task)
    cases = {split: {item.case for item in domain.index(split)} for split in ("train", "val", "test")}
    assert {split: len(names) for split, names in cases.items()} == {"train": 9, "val": 1, "test": 2}
    assert len(set.union(*cases.values())) == 12
    first = domain.index("train")[0]
    assert first.id == f"{first.case}_slice_000"
    image, mask = arrays(domain, first)
    assert image.shape == (1, 1, *mask.shape) and mask.ndim == 2 and image.dtype == np.float32
    image, mask = arrays(domain, domain.index("test")[0])
    assert image.shape == (1, 1, *mask.shape) and mask.ndim == 3 and set(np.unique(mask)) == {0, 1, 2}
    assert image.min() == 0 and image.max() == 1


def test_adding_macos_twins_changes_nothing(task: Path) -> None:
    before = [item.id for item in MSD(task).index("train")]
    for path in list(task.rglob("*.nii.gz")):
        path.with_name("._" + path.name).write_bytes(b"\x00\x05\x16\x07")
    about = json.loads((task / "dataset.json").read_text())
    about["training"].append(
        {"image": "./imagesTr/._hippocampus_001.nii.gz", "label": "./labelsTr/._hippocampus_001.nii.gz"}
    )
    (task / "dataset.json").write_text(json.dumps(about))
    domain = MSD(task)
    assert [item.id for item in domain.index("train")] == before and not any(
        path.name.startswith("._") for path in domain.files()
    )


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [((1, 1, 1), 2), ((0.8, 0.8, 0.7), 2), ((0.6, 0.6, 4.0), 2), ((5.0, 1, 1), 0), ((1, 3.0, 1), 1)],
)
def test_slices_are_cut_along_the_coarse_axis(tmp_path: Path, spacing: tuple[float, ...], axis: int) -> None:
    image = np.random.default_rng(0).normal(size=(4, 5, 6))
    domain = MSD(write_task(tmp_path, image, spacing, {"0": "MRI"}))
    volume = domain.read(domain.index("test")[0])
    order = (axis, *sorted({0, 1, 2} - {axis}, reverse=True))
    assert volume.spacing == pytest.approx([spacing[a] for a in order])
    pixels, mask = arrays(domain, domain.index("test")[0])
    assert mask.shape == tuple(image.shape[a] for a in order) and pixels.shape == (1, 1, *mask.shape)
    assert mask.tolist() == (np.arange(120).reshape(4, 5, 6) == 45).transpose(order).astype(int).tolist(), (
        "raw value 5 is class 1, in its place"
    )
    item = domain.index("test")[0]
    np.testing.assert_array_equal(outside.of_file(item.ref.image, domain.card, domain.reading), pixels)
    back = np.array(domain.reading.values)[outside.own_axes(mask, item.ref.image, domain.reading)]
    np.testing.assert_array_equal(back, np.asarray(nib.load(item.ref.mask).dataobj))
    planes = domain.index("train")
    assert len(planes) == 2 * mask.shape[0]
    for k in range(mask.shape[0]):
        np.testing.assert_array_equal(arrays(domain, planes[k])[1], mask[k])
        np.testing.assert_array_equal(arrays(domain, planes[k])[0][0, 0], pixels[0, 0, k])


def test_modalities_are_channels(tmp_path: Path) -> None:
    """CT keeps its unit, MRI has its own percentiles; channels stay apart."""
    hounsfield = np.linspace(-1000, 1000, 120).reshape(4, 5, 6)
    image = np.stack([hounsfield, hounsfield * 7 + 3], -1)
    domain = MSD(write_task(tmp_path / "a", image, (1, 1, 1), {"1": "T2 MRI", "0": "contrast CT"}))
    pixels, _ = arrays(domain, domain.index("test")[0])
    assert domain.card.channels == 2 == len(domain.recipe.paper["data.mean"])
    window = domain.reading.scaling[0]
    assert isinstance(window, Window)
    span = window.high - window.low
    np.testing.assert_allclose(pixels[0, 0], np.clip((hounsfield - window.low) / span, 0, 1).T, atol=1e-3)
    low, high = np.percentile(hounsfield, (0.5, 99.5))
    np.testing.assert_allclose(pixels[0, 1], np.clip((hounsfield - low) / (high - low), 0, 1).T, atol=1e-3)
    lung = MSD(write_task(tmp_path / "b", hounsfield, (1, 1, 1), {"0": "CT"}, name="Lung"))
    with pytest.raises(InputError, match=r"a\.nii\.gz: shape \(4, 5, 6\) does not fit dataset\.json's 2 modalities"):
        MSD(write_task(tmp_path / "c", hounsfield, (1, 1, 1), {"0": "T1", "1": "T2"}))
    with pytest.raises(InputError, match=r"\.nii\.gz: 2 channels, the model was trained on 1 \(Lung "):
        outside.of_file(domain.index("test")[0].ref.image, lung.card, lung.reading)


def test_missing_files_are_named(task: Path) -> None:
    for n in (1, 2, 3, 5):
        (task / "imagesTr" / f"hippocampus_{n:03d}.nii.gz").unlink()
    with pytest.raises(
        InputError, match=r"dataset\.json: 4 images are missing \(hippocampus_001\.nii\.gz, .*, \.\.\.\)"
    ):
        MSD(task)


def test_lists_that_do_not_fit_the_disk_are_refused(task: Path) -> None:
    about = task / "dataset.json"
    told = json.loads(about.read_text())
    (task / "labelsTr" / "hippocampus_004.nii.gz").unlink()
    with pytest.raises(InputError, match=r"1 masks are missing \(hippocampus_004"):
        MSD(task)
    about.write_text(
        json.dumps(
            told | {"training": [e for e in told["training"] if "_004" not in e["image"] and "_007" not in e["image"]]}
        )
    )
    with pytest.raises(InputError, match=r"1 masks have no entry \(hippocampus_007"):
        MSD(task)
    kept = [e for e in told["training"] if "_004" not in e["image"]]
    about.write_text(json.dumps(told | {"training": [*kept, kept[0]]}))
    with pytest.raises(InputError, match=r"1 cases are listed twice \(hippocampus_001"):
        MSD(task)
    about.write_text(json.dumps(told | {"training": kept}))
    assert len(MSD(task).index("train")) > 0


@pytest.mark.parametrize("entry", ["../elsewhere.nii.gz", "/etc/passwd"])
@pytest.mark.parametrize("key", ["image", "label"])
def test_a_path_that_leaves_the_root_is_refused(task: Path, entry: str, key: str) -> None:
    about = task / "dataset.json"
    told = json.loads(about.read_text())
    told["training"][0][key] = entry
    about.write_text(json.dumps(told))
    with pytest.raises(InputError, match=r"dataset\.json: .* leaves the data root"):
        MSD(task)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"labels": {"0": "background"}}',
        '{"labels": {"background": 0, "x": 1}, "modality": {"0": "CT"}, "training": []}',
    ],
)
def test_foreign_json_is_refused_in_one_line(task: Path, text: str) -> None:
    (task / "dataset.json").write_text(text)
    with pytest.raises(InputError, match=r"dataset\.json") as caught:
        MSD(task)
    assert "\n" not in str(caught.value)


def test_the_folder_of_all_tasks_is_answered_with_their_names(task: Path) -> None:
    with pytest.raises(InputError, match="name one task: Task"):
        MSD(task.parent)


def test_damaged_volumes_are_named(task: Path) -> None:
    domain = MSD(task)
    first, second = domain.index("test")
    path = first.ref.image
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(InputError, match=rf"{first.case}\.nii\.gz: pixels end early"):
        domain.read(first)
    mask = np.asarray(nib.load(second.ref.mask).dataobj).copy()
    mask[0, 0, :4] = 9
    nib.save(nib.Nifti1Image(mask, np.eye(4)), second.ref.mask)
    with pytest.raises(InputError, match=rf"{second.case}\.nii\.gz: label value 9 on 4 pixels"):
        domain.read(second)
    nib.save(nib.Nifti1Image(mask[1:], np.eye(4)), second.ref.mask)
    with pytest.raises(InputError, match="differs from its image's"):
        domain.read(second)
    nib.save(nib.Nifti1Image(mask, np.diag([1, 1, 2, 1])), second.ref.mask)
    with pytest.raises(InputError, match="affines differ"):
        domain.read(second)


def test_unlabelled_read_never_opens_a_mask_and_decodes_once(task: Path, tmp_path: Path) -> None:
    domain = MSD(task)
    domain.prepare(Cache(tmp_path / "cache"))
    items = domain.index("train")
    shutil.rmtree(task / "labelsTr")
    fresh = [domain.read(item, mask=False) for item in items]
    assert all(sample.mask is None for sample in fresh) and not list((tmp_path / "cache").glob("*mask*"))
    shutil.rmtree(task / "imagesTr")
    np.testing.assert_array_equal(domain.read(items[7], mask=False).image, fresh[7].image)


def test_fabrication_follows_its_seed(task: Path, tmp_path: Path) -> None:
    def digest(root: Path) -> str:
        return hashlib.sha256(
            b"".join(np.asarray(nib.load(path).dataobj).tobytes() for path in sorted(root.rglob("*.nii.gz")))
        ).hexdigest()

    MSD.fabricate(tmp_path / "same", seed=0)
    MSD.fabricate(tmp_path / "other", seed=1)
    assert digest(task) == digest(tmp_path / "same") != digest(tmp_path / "other")


def test_fabricated_classes_are_as_rare_as_the_real_ones_and_as_grey_as_the_rest(task: Path) -> None:
    domain = MSD(task)
    image, mask = (
        np.concatenate(parts)
        for parts in zip(*[[a.ravel() for a in arrays(domain, i)] for i in domain.index("train")], strict=True)
    )
    assert 100 * np.bincount(mask) / len(mask) == pytest.approx([94.8, 2.7, 2.5], abs=0.4)
    low, high = np.percentile(image[mask > 0], (10, 90))
    assert (mask[(image > low) & (image < high)] == 0).mean() > 0.75, (
        "most pixels with the hippocampus' grey values are not hippocampus"
    )


@needs_data
def test_real_hippocampus(tmp_path: Path) -> None:
    domain = MSD(REAL)
    domain.prepare(Cache(tmp_path))
    items = {split: domain.index(split) for split in ("train", "val", "test")}
    assert {split: len({item.case for item in found}) for split, found in items.items()} == {
        "train": 140,
        "val": 20,
        "test": 40,
    }
    ids = "\n".join(sorted(item.id for found in items.values() for item in found))
    held_out = "\n".join(item.id for item in items["test"])
    assert [hashlib.sha256(text.encode()).hexdigest()[:8] for text in (ids, held_out)] == ["206200f8", "471c3007"]
    pixels, shapes = np.zeros(3), []
    for item in items["val"] + items["test"] + items["train"][::5]:
        image, mask = arrays(domain, item)
        assert domain.read(item, mask=False).spacing == (None if mask.ndim == 2 else (1.0, 1.0, 1.0))
        assert np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1
        pixels += np.bincount(mask.ravel(), minlength=3)
        shapes.append(mask.shape)
    assert 100 * pixels / pixels.sum() == pytest.approx([94.8, 2.7, 2.5], abs=0.2)
    # Slices are cut along the last NIfTI axis, so rows run along the middle one, the longest here.
    assert np.mean([shape[-2] for shape in shapes]) > 45
