"""The Synapse plugin: two layouts with one set of ids, orientation, the organ map, anatomy, refusals by name."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from diffmatch.conformance.elsewhere import check_outside
from diffmatch.data import splits
from diffmatch.domain import Cache, Domain, InputError, Item
from diffmatch.readers import arrays as arrays_reader
from diffmatch.readers import lists, outside
from diffmatch_synapse import TEST, TRAIN, Synapse
from diffmatch_synapse_anatomy import CASCADE

LISTS = Path(__file__).parents[3].parent / "shared" / "splits" / "transunet" / "lists_Synapse"
needs_lists = pytest.mark.skipif(not LISTS.is_dir(), reason=f"TransUNet's lists are not at {LISTS}")
TRAINING = Path("RawData") / "Training"


@pytest.fixture
def raw(fabricated: Path, tmp_path: Path) -> Path:
    """A copy of two training and two test cases that a test may damage; case0021 is stored along other axes."""
    for name in ("img", "label"):
        (tmp_path / "raw" / TRAINING / name).mkdir(parents=True)
        for number in (5, 21, 1, 2):
            file = f"{name}/{name}{number:04d}.nii.gz"
            shutil.copy(fabricated / TRAINING / file, tmp_path / "raw" / TRAINING / file)
    return tmp_path / "raw"


def arrays(domain: Domain, item: Item) -> tuple[NDArray[Any], NDArray[Any]]:
    sample = domain.read(item)
    assert sample.mask is not None
    return sample.image, sample.mask


@pytest.fixture
def archive(raw: Path, tmp_path: Path) -> Path:
    """TransUNet's layout made of the same cases.

    Values of 0..1 become -0.15..1.2, as in the archive that circulates.
    """
    domain, out = Synapse(raw), tmp_path / "archive"
    (out / "train_npz").mkdir(parents=True)
    (out / "test_vol_h5").mkdir()
    for item in domain.index("train"):
        image, mask = arrays(domain, item)
        np.savez(out / "train_npz" / f"{item.id}.npz", image=image[0, 0] * 1.35 - 0.15, label=mask.astype(np.float32))
    for item in domain.index("test"):
        image, mask = arrays(domain, item)
        with h5py.File(out / "test_vol_h5" / f"{item.id}.npy.h5", "w") as file:
            file["image"], file["label"] = image[0, 0] * 1.35 - 0.15, mask.astype(np.float32)
    return out


def write_raw(
    root: Path, number: int, image: NDArray[Any], label: NDArray[Any], affine: NDArray[Any] | None = None
) -> None:
    for array, name in ((image, "img"), (label, "label")):
        (root / name).mkdir(parents=True, exist_ok=True)
        nib.save(
            nib.Nifti1Image(array, np.eye(4) if affine is None else affine), root / name / f"{name}{number:04d}.nii.gz"
        )


def rewrite(path: Path, change: Callable[[NDArray[Any]], NDArray[Any]], affine: NDArray[Any] | None = None) -> None:
    volume = nib.load(path)
    nib.save(
        nib.Nifti1Image(change(np.asarray(volume.dataobj).copy()), volume.affine if affine is None else affine), path
    )


def test_both_layouts_hold_the_same_items_and_pixels(raw: Path, archive: Path) -> None:
    ours, theirs = Synapse(raw), Synapse(archive)
    assert ours.layout.startswith("raw") and theirs.layout.startswith("TransUNet")
    for split in ("train", "val", "test"):
        pairs = list(zip(ours.index(split), theirs.index(split), strict=True))
        assert [(a.id, a.case) for a, _ in pairs] == [(b.id, b.case) for _, b in pairs]
        for mine, other in pairs[:: 7 if split == "train" else 1]:
            (image, mask), (their_image, their_mask) = arrays(ours, mine), arrays(theirs, other)
            np.testing.assert_allclose(image * 1.35 - 0.15, their_image, atol=1e-5)
            np.testing.assert_array_equal(mask, their_mask)
            assert (
                image.shape == (1, 1, *mask.shape)
                and image.dtype == their_image.dtype == np.float32
                and their_mask.dtype == np.uint8
            )
            assert theirs.read(other).spacing is None
    assert [item.id for item in ours.index("train")[:2]] == ["case0005_slice000", "case0005_slice001"]
    assert {item.case for item in ours.index("train")} == {"case0005", "case0021"}
    assert [item.id for item in ours.index("test")] == ["case0001", "case0002"] and not ours.index("val")


def test_an_archive_s_files_from_elsewhere_need_no_set(archive: Path) -> None:
    assert check_outside(Synapse, archive) is None
    item = Synapse(archive).index("train")[0]
    image, _ = arrays(Synapse(archive), item)
    np.testing.assert_array_equal(Synapse.outside(item.ref.image), image[:, :, None])


@pytest.mark.parametrize("inside", ["Abdomen/RawData/Training", "RawData/Training", "Training", "."])
def test_root_may_be_any_folder_above_or_at_the_images(tmp_path: Path, inside: str) -> None:
    write_raw(tmp_path / inside, 5, np.zeros((4, 4, 3), np.int16), np.zeros((4, 4, 3), np.uint8))
    assert len(Synapse(tmp_path).index("train")) == 3


@pytest.mark.parametrize("axes", ["RAS", "LAS", "LPS", "LPI", "PIR", "ASL", "SRP"])
def test_volumes_are_turned_by_their_affine(tmp_path: Path, axes: str) -> None:
    """However a volume is stored.

    Slices from feet to head, rows from front to back, columns from the patient's right to the left.
    """
    rng = np.random.default_rng(0)
    seen, organs = rng.integers(-125, 276, (3, 4, 5)).astype(np.int16), rng.integers(0, 14, (3, 4, 5)).astype(np.uint8)
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes))
    affine = np.diag([0.7, 0.8, 3.0, 1.0])
    for number in (5, 1):
        # seen[z, y, x] has z up, y to the back and x to the left; RAS wants x to the right, y to the front, z up
        stored = [nib.Nifti1Image(a.transpose(2, 1, 0)[::-1, ::-1], affine).as_reoriented(turn) for a in (seen, organs)]
        write_raw(tmp_path, number, *(np.asarray(v.dataobj) for v in stored), stored[0].affine)
    domain = Synapse(tmp_path)
    volume = domain.index("test")[0]
    image, mask = arrays(domain, volume)
    np.testing.assert_allclose(image[0, 0], (seen + 125) / 400, atol=3e-4)
    expected = np.array([0, 7, 4, 3, 2, 0, 5, 8, 1, 0, 0, 6, 0, 0])[organs]
    np.testing.assert_array_equal(mask, expected)
    assert domain.read(volume).spacing == pytest.approx((3.0, 0.8, 0.7))
    planes = domain.index("train")
    assert len(planes) == 3 and domain.read(planes[2]).spacing is None
    np.testing.assert_array_equal(arrays(domain, planes[2])[1], expected[2])
    raw = np.asarray(nib.load(volume.ref.mask).dataobj)
    kept = np.isin(raw, domain.reading.values)  # raw labels that are no organ here come back as background
    np.testing.assert_array_equal(
        np.array(domain.reading.values)[outside.own_axes(mask, volume.ref.image, domain.reading)],
        np.where(kept, raw, 0),
    )
    np.testing.assert_array_equal(outside.of_file(volume.ref.image, domain.card, domain.reading), image)


def test_raw_labels_become_the_eight_organs(tmp_path: Path) -> None:
    raw_names = {
        1: "spleen",
        2: "right kidney",
        3: "left kidney",
        4: "gallbladder",
        6: "liver",
        7: "stomach",
        8: "aorta",
        11: "pancreas",
    }
    write_raw(tmp_path, 1, np.zeros((14, 1, 1), np.int16), np.arange(14, dtype=np.uint8).reshape(14, 1, 1))
    domain = Synapse(tmp_path)
    organs = arrays(domain, domain.index("test")[0])[1].ravel()[::-1]
    assert [domain.card.names[c] for c in organs] == [raw_names.get(value, "background") for value in range(14)]


def test_hounsfield_units_are_clipped_and_scaled(tmp_path: Path) -> None:
    units = np.array([-3024, -1000, -125, 75, 275, 3071], np.int16).reshape(6, 1, 1)
    write_raw(tmp_path, 1, units, np.zeros((6, 1, 1), np.uint8))
    domain = Synapse(tmp_path)
    assert arrays(domain, domain.index("test")[0])[0].ravel()[::-1].tolist() == [0, 0, 0, 0.5, 1, 1]


def test_a_whole_raw_set_raises_no_doubt(fabricated: Path) -> None:
    (stored,) = Synapse(fabricated).remarks()
    assert "20 as LAS" in stored and "all are turned" in stored


def test_archives_are_looked_at(archive: Path) -> None:
    missing, values = Synapse(archive).remarks()
    assert missing.startswith("26 of the 30 cases are missing (case0003, ")
    assert "from -0.15 to 1.2 in" in values and "beyond [0, 1]" in values


def relabel(archive: Path, table: NDArray[Any]) -> None:
    for path in (archive / "test_vol_h5").glob("*.h5"):
        with h5py.File(path, "a") as file:
            file["label"][...] = table[file["label"][()].astype(int)]


def test_foreign_orders_of_the_organs_show_by_anatomy(archive: Path) -> None:
    relabel(archive, np.argsort(CASCADE))  # class index here -> value there
    assert "CASCADE's order" in Synapse(archive).remarks()[-1]
    relabel(archive, np.array(CASCADE))
    assert len(Synapse(archive).remarks()) == 2, "the conversion that the remark names puts it right"
    relabel(archive, np.array([0, 1, 2, 4, 3, 5, 6, 7, 8]))
    assert "left kidney lies nearer to the liver" in Synapse(archive).remarks()[-1]
    relabel(archive, np.array([0, 8, 7, 6, 5, 4, 3, 2, 1]))
    assert "largest organ is called right kidney" in Synapse(archive).remarks()[-1]


def test_headers_that_mirror_or_keep_silent_are_told(raw: Path) -> None:
    for path in raw.rglob("*.nii.gz"):
        volume = nib.load(path)
        affine = volume.affine.copy()
        affine[0] *= -1
        mirrored = nib.Nifti1Image(np.asarray(volume.dataobj), affine)
        mirrored.set_sform(affine, code=0)
        mirrored.set_qform(affine, code=2 if "0001" in path.name else 0)
        nib.save(mirrored, path)
    remarks = Synapse(raw).remarks()
    assert any("3 volumes do not say how they lie" in line for line in remarks)
    assert any("on each other's side" in line for line in remarks)


def test_unlabelled_read_never_opens_a_mask(
    raw: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = Synapse(raw)
    items = domain.index("train")
    shutil.rmtree(raw / TRAINING / "label")
    domain.prepare(Cache(tmp_path / "cache"))
    fresh = [domain.read(item, mask=False) for item in items]
    assert all(sample.mask is None for sample in fresh) and not list((tmp_path / "cache").glob("*mask*"))
    shutil.rmtree(raw / TRAINING / "img")  # a volume is converted once
    np.testing.assert_array_equal(domain.read(items[3], mask=False).image, fresh[3].image)
    keys: list[str] = []
    opened = arrays_reader.array
    monkeypatch.setattr(
        arrays_reader, "array", lambda path, key, like=None: (keys.append(key), opened(path, key, like))[1]
    )
    for item in Synapse(archive).index("train")[:3]:
        Synapse(archive).read(item, mask=False)
    assert set(keys) == {"image"}


def test_missing_things_are_named(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither RawData/Training/img nor train_npz/.*syn3193805"):
        Synapse(tmp_path / "nothing")
    (raw / TRAINING / "label" / "label0021.nii.gz").unlink()
    with pytest.raises(InputError, match=r"img0021\.nii\.gz: its label/label0021\.nii\.gz is missing"):
        Synapse(raw).index("train")
    (raw / TRAINING / "img" / "img0021.nii.gz").unlink()
    (raw / TRAINING / "img" / "img0002.nii.gz").unlink()
    with pytest.raises(InputError, match=r"label0002\.nii\.gz: its img/img0002\.nii\.gz is missing"):
        Synapse(raw).index("train")


def foreign(array: NDArray[Any]) -> NDArray[Any]:
    array[:2, :3, 0] = 14
    return array


@pytest.mark.parametrize(
    ("name", "change", "affine", "message"),
    [
        ("label", foreign, None, r"label value 14 on 6 pixels"),
        ("label", lambda a: a[:-1], None, r"differs from its image's"),
        ("label", lambda a: a, np.diag([9.0, 9, 9, 1]), r"affines differ"),
        ("img", lambda a: a[..., None].repeat(2, -1), None, r"expected a volume of 3 axes"),
        ("img", lambda a: np.where(a > 0, np.nan, 0), None, r"not finite"),
    ],
)
def test_bad_volumes_are_refused_by_name(raw: Path, name: str, change: Any, affine: Any, message: str) -> None:
    rewrite(raw / TRAINING / name / f"{name}0001.nii.gz", change, affine)
    with pytest.raises(InputError, match=rf"{name}0001\.nii\.gz: .*{message}") as caught:
        domain = Synapse(raw)
        domain.read(domain.index("test")[0])
    assert "\n" not in str(caught.value)


def test_an_affine_without_directions_is_refused(raw: Path) -> None:
    path = raw / TRAINING / "img" / "img0001.nii.gz"
    header = bytearray(gzip.decompress(path.read_bytes()))
    header[280:292] = bytes(12)  # the matrix's first row
    path.write_bytes(gzip.compress(header))
    with pytest.raises(InputError, match=r"img0001\.nii\.gz: its affine does not say how the volume lies"):
        Synapse(raw).index("test")


@pytest.mark.parametrize("keep", [5, 9000])
def test_truncated_nifti_is_named(raw: Path, keep: int) -> None:
    path = raw / TRAINING / "img" / "img0001.nii.gz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"img0001\.nii\.gz: .*unpack it again"):
        domain = Synapse(raw)
        domain.read(domain.index("test")[0])


def test_bad_archives_are_named(archive: Path) -> None:
    domain = Synapse(archive)
    train, (first, second) = domain.index("train"), domain.index("test")
    image = np.zeros((4, 4), np.float32)
    train[0].ref.image.write_bytes(train[0].ref.image.read_bytes()[:3000])
    np.savez(train[1].ref.image, image=image)
    np.savez(train[2].ref.image, image=image, label=np.zeros((3, 4)))
    np.savez(train[3].ref.image, image=image, label=np.full((4, 4), 9.0))
    np.savez(train[4].ref.image, image=image, label=np.full((4, 4), 0.5))
    first.ref.image.write_bytes(first.ref.image.read_bytes()[:3000])
    with h5py.File(second.ref.image, "a") as file:
        del file["label"]
    for item in (*train[:5], first, second):
        with pytest.raises(InputError, match=item.ref.image.name) as caught:
            domain.read(item)
        assert "\n" not in str(caught.value)
    shutil.copy(train[5].ref.image, archive / "train_npz" / "case0001_slice000.npz")
    with pytest.raises(InputError, match=r"case0001_slice000\.npz: a slice of a test case"):
        Synapse(archive).index("train")


@needs_lists
def test_division_and_ids_are_transunets(tmp_path: Path) -> None:
    """A raw layout with the list's slice counts gives exactly the list's names, and the list is known by its hash."""
    (family,) = lists.read(LISTS, Synapse)
    assert (
        family.name == "transunet"
        and family.labelled is None
        and family.unlabelled is not None
        and family.test is not None
    )
    cases = {name[:8] for name in family.unlabelled}
    assert cases == {f"case{number:04d}" for number in TRAIN} and set(family.test) == {
        f"case{number:04d}" for number in TEST
    }
    for case in cases:
        depth = sum(name.startswith(case) for name in family.unlabelled)
        write_raw(tmp_path, int(case[4:]), *(np.zeros((2, 2, depth), np.uint8) for _ in range(2)))
    domain = Synapse(tmp_path)
    ids = [item.id for item in domain.index("train")]
    assert len(ids) == 2211 and set(ids) == set(family.unlabelled)
    assert lists.identity(ids) in Synapse.families


def test_labelled_cases_are_drawn_by_case(fabricated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFMATCH_SPLITS", str(tmp_path))
    domain = Synapse(fabricated)
    for budget in domain.card.budgets:
        split = splits.make_split(domain, budget, seed=0)
        assert split.family == "seeded-0" and len({item.case for item in split.labelled}) == int(budget)
        assert len(split.test) == 12 and not split.val
