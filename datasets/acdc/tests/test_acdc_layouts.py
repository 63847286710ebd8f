"""The prepared layouts of ACDC: SSL4MIS's and WSL4MIS's copies of the real set, and what is refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from diffmatch.domain import InputError, SplitName
from diffmatch_acdc import ACDC

DATA = Path(__file__).parents[3].parent / "shared" / "data"
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
pytestmark = pytest.mark.skipif(not (DATA / "acdc").is_dir(), reason=f"the real ACDC is not at {DATA}")


def ids(domain: ACDC) -> dict[SplitName, list[str]]:
    return {split: [item.id for item in domain.index(split)] for split in SPLITS}


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A copy of WSL4MIS's files that a test may damage."""
    return shutil.copytree(DATA / "acdc_wsl4mis", tmp_path / "wsl4mis")


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """SSL4MIS's files of two patients, one to train on and one for the test, that a test may damage."""
    for path in (DATA / "acdc" / "data").rglob("patient*.h5"):
        if path.name.startswith(("patient090", "patient001")):
            to = tmp_path / "ssl4mis" / path.relative_to(DATA / "acdc")
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, to)
    return tmp_path / "ssl4mis"


def test_the_whole_set_is_there() -> None:
    domain = ACDC(DATA / "acdc")
    assert {split: len(domain.index(split)) for split in SPLITS} == {"train": 1312, "val": 20, "test": 40}
    assert domain.remarks() == []


def test_wsl4mis_holds_the_same_items_and_pixels() -> None:
    """patient090's frames 04 and 11 are its 01 and 02; it has no slices there and is read from its volumes."""
    domain, other = ACDC(DATA / "acdc"), ACDC(DATA / "acdc_wsl4mis")
    counts: dict[SplitName, int] = {"train": 32 + 14, "val": 0, "test": 2}
    for split, count in counts.items():
        known = {item.id: item for item in domain.index(split)}
        cases = {item.case for item in other.index(split)}
        assert [i.id for i in other.index(split)] == [name for name, i in known.items() if i.case in cases]
        assert len(other.index(split)) == count
        for item in other.index(split):
            one, two = domain.read(known[item.id]), other.read(item)
            np.testing.assert_array_equal(one.image, two.image)
            assert one.mask is not None and two.mask is not None
            np.testing.assert_array_equal(one.mask, two.mask)


def test_slices_and_planes_of_volumes_are_the_same(theirs: Path) -> None:
    before = ids(ACDC(theirs))
    for path in (theirs / "ACDC_training_slices").iterdir():
        if "_frame09_" in path.name:
            path.unlink()
    assert ids(ACDC(theirs)) == before
    shutil.rmtree(theirs / "ACDC_training_slices")
    assert ids(ACDC(theirs)) == before


def test_scribbles_are_not_read(theirs: Path) -> None:
    for path in theirs.rglob("*.h5"):
        with h5py.File(path, "a") as file:
            del file["scribble"]
            file["scribble"] = np.full((3, 3), np.nan)
    domain = ACDC(theirs)
    masks = [domain.read(item).mask for item in domain.index("test")]
    assert all(mask is not None and set(np.unique(mask)) == {0, 1, 2, 3} for mask in masks)


def test_missing_slices_are_named(theirs: Path) -> None:
    (theirs / "ACDC_training_slices" / "patient099_frame09_slice_15.h5").unlink()
    with pytest.raises(InputError, match=r"patient099_frame09_slice_15\.h5: missing.*copy patient099 again"):
        ACDC(theirs).index("train")


def test_a_slice_beyond_its_volume_is_named(theirs: Path) -> None:
    slices = theirs / "ACDC_training_slices"
    shutil.copy(slices / "patient099_frame09_slice_3.h5", slices / "patient099_frame09_slice_16.h5")
    with pytest.raises(InputError, match=r"slice_16\.h5: its volume .*patient099_frame09\.h5 has 16 slices"):
        ACDC(theirs).index("train")


def test_a_missing_slice_without_a_volume_is_named(ours: Path) -> None:
    (ours / "data" / "slices" / "patient090_frame02_slice_1.h5").unlink()
    with pytest.raises(InputError, match=r"patient090_frame02_slice_1\.h5: missing"):
        ACDC(ours).index("train")


def test_slices_of_a_test_patient_without_their_volume_are_named(theirs: Path) -> None:
    slices = theirs / "ACDC_training_slices"
    shutil.copy(slices / "patient099_frame01_slice_0.h5", slices / "patient001_frame12_slice_0.h5")
    (theirs / "ACDC_training_volumes" / "patient001_frame12.h5").unlink()
    with pytest.raises(InputError, match=r"patient001_frame12\.h5: missing.*belongs to test; add it"):
        ACDC(theirs).index("test")


def test_a_third_frame_is_refused(theirs: Path, ours: Path) -> None:
    """Two copies in one folder: the frame 04 of one is the frame 01 of the other."""
    shutil.copy(DATA / "acdc_wsl4mis/ACDC_training_volumes/patient090_frame04.h5", ours / "data")
    with pytest.raises(InputError, match=r"patient090 has the frames 01, 02, 04 where two should be"):
        ACDC(ours).index("train")


def test_one_frame_of_two_is_reported_or_refused(theirs: Path, ours: Path) -> None:
    volumes = theirs / "ACDC_training_volumes"
    (volumes / "patient090_frame11.h5").unlink()
    with pytest.raises(InputError, match=r"patient090 has frame 04 alone, which may be either phase"):
        ACDC(theirs).index("train")
    (ours / "data" / "patient001_frame01.h5").unlink()
    domain = ACDC(ours)
    assert [item.id for item in domain.index("test")] == ["patient001_frame02"]
    assert "of 1 patients there is one frame of two (patient001_frame02); add the other" in domain.remarks()


def test_prepared_volumes_may_be_divided_anew(ours: Path, theirs: Path) -> None:
    """A test patient can train, by the planes of its volumes; one that has only slices cannot test."""
    domain = ACDC(theirs)
    domain.divide({"patient001": "train", "patient090": "val", "patient099": "test"})
    assert [len(domain.index(split)) for split in SPLITS] == [20, 2, 2]
    domain = ACDC(ours)
    domain.divide({"patient001": "train"})
    with pytest.raises(InputError, match=r"patient090_frame01\.h5: missing, though 7 of its slices"):
        domain.divide({"patient001": "train", "patient090": "test"})
    with pytest.raises(InputError, match=r"no patient005 \(1 patients are not there\)"):
        ACDC(ours).divide({"patient005": "train"})
