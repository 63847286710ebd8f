"""The scale of values follows from the pixels, per set, and is recorded; files that are odd are named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from diffmatch import plugins
from diffmatch.cli import invoke
from diffmatch.data.doctor import examine
from diffmatch.data.opening import open_domain
from diffmatch.data.splits import make_split
from diffmatch.domain import Domain, InputError, Item, Window
from diffmatch.readers import outside, pictures
from diffmatch.readers.scaling import fitted_window
from diffmatch.running.again import job_of, planned_again
from diffmatch.running.job import run
from diffmatch.running.plan import Job, plan

SHAPE = (24, 20, 8)
AIR, SOFT = -1000, 40


def ct(root: Path, organ: float, name: str, count: int = 10, step: float = 1, modality: str = "CT") -> Path:
    """Bodies of soft tissue in air with one organ, 2 % of the voxels, of `organ` +- 15 HU times `step`."""
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for n in range(count):
        draw = np.random.default_rng(n)
        mask, image = np.zeros(SHAPE, np.uint8), np.full(SHAPE, AIR, float)
        x, y = draw.integers(5, 12, 2)
        mask[x : x + 4, y : y + 4, 2:6] = 1
        image[3:21, 3:17] = SOFT
        image[mask == 1] = organ
        image = (image + draw.normal(0, 15, SHAPE)) * step
        stored = image.astype(np.int16) if step == 1 else image.astype(np.float32)
        nib.save(nib.Nifti1Image(stored, np.eye(4)), root / f"imagesTr/c{n}.nii.gz")
        nib.save(nib.Nifti1Image(mask, np.eye(4)), root / f"labelsTr/c{n}.nii.gz")
    pairs = [{"image": f"imagesTr/c{n}.nii.gz", "label": f"labelsTr/c{n}.nii.gz"} for n in range(count)]
    told = {"name": name, "modality": {"0": modality}, "labels": {"0": "background", "1": "organ"}, "training": pairs}
    (root / "dataset.json").write_text(json.dumps(told))
    return root


def labelled(domain: Domain, budget: str = "2") -> tuple[Domain, list[Item]]:
    split = make_split(domain, budget, 0)
    return domain.fitted(split.labelled), list(split.test)


@pytest.mark.parametrize("organ", [-850, -400, 60, 600, 1500, 3000])
@pytest.mark.parametrize("name", ["Lung", "Task99_Bone", "Spleen"])
def test_an_organ_of_any_density_stays_inside_the_window_whatever_the_tasks_name(
    tmp_path: Path, organ: float, name: str
) -> None:
    domain, test = labelled(plugins.domain("msd")(ct(tmp_path, organ, name)))
    for item in test:
        sample = domain.read(item)
        inside, around = sample.image[0, 0][sample.mask == 1], sample.image[0, 0][sample.mask == 0]
        assert ((inside > 0) & (inside < 1)).mean() > 0.99
        assert abs(np.median(inside) - np.median(around)) > (0.05 if organ == 60 else 0.3)


@pytest.mark.parametrize("step", [1 / 4096, 1e-3, 7.5])
def test_a_ct_in_another_unit_is_windowed_alike(tmp_path: Path, step: float) -> None:
    own, twins = labelled(plugins.domain("msd")(ct(tmp_path / "own", 600, "A")))
    other, test = labelled(plugins.domain("msd")(ct(tmp_path / "other", 600, "A", step=step)))
    for item, twin in zip(test, twins, strict=True):
        np.testing.assert_allclose(other.read(item).image, own.read(twin).image, atol=0.02)


def test_the_window_is_the_foregrounds_percentiles_with_a_margin_of_half_their_width() -> None:
    voxels = np.concatenate([np.full(5000, -1024.0), np.linspace(-1024, 500, 5000)])
    window = fitted_window(voxels, np.linspace(-20, 205, 1001))
    low, high = np.percentile(np.linspace(-20, 205, 1001), (0.5, 99.5))
    assert (window.low, window.high) == pytest.approx((low - (high - low) / 2, high + (high - low) / 2))
    one_value = fitted_window(voxels, np.full(100, 300.0))
    assert one_value.low < 300 < one_value.high and one_value.high - one_value.low == pytest.approx(1516.4 / 8, abs=2)
    alone = fitted_window(voxels)
    assert (alone.low, alone.high) == tuple(np.percentile(voxels, (0.5, 99.5)))
    assert fitted_window(voxels, np.zeros(0)) == alone


def test_no_mask_but_a_labelled_cases_is_opened_for_the_window(tmp_path: Path) -> None:
    domain = plugins.domain("msd")(ct(tmp_path, 600, "A"))
    split = make_split(domain, "2", 0)
    cases = {item.case for item in split.labelled}
    for path in (tmp_path / "labelsTr").iterdir():
        if path.name.removesuffix(".nii.gz") not in cases:
            path.write_bytes(b"")
    fitted = domain.fitted(split.labelled)
    assert fitted.reading.scaling != domain.reading.scaling
    assert fitted.read(split.unlabelled[0], mask=False).image.shape == (1, 1, 20, 24)
    assert domain.reading.scaling == plugins.domain("msd")(tmp_path).reading.scaling, "the domain itself stays"


def test_the_window_in_use_is_recorded_with_the_run_and_reads_files_alike(tmp_path: Path) -> None:
    root = ct(tmp_path / "data", 600, "Lung")
    planned = plan(Job("msd", "supervised", "2", data=root, out=tmp_path / "runs"))
    (window,) = planned.domain.reading.scaling
    assert isinstance(window, Window) and window.low < 560 and window.high > 640
    assert planned.versions.card == 2
    item = planned.split.test[0]
    read = outside.of_file(item.ref.image, planned.card, planned.domain.reading)
    np.testing.assert_array_equal(read, planned.domain.read(item).image)
    again = plan(Job("msd", "supervised", "2", data=root, out=tmp_path / "runs"))
    assert again.hash == planned.hash and again.domain.reading == planned.domain.reading


def test_a_run_on_ct_is_taken_up_again_with_its_window(tmp_path: Path) -> None:
    quick = {"train.steps": 1, "train.validations": 0, "train.audits": 0, "eval.samples": 0, "data.crop": 16}
    job = Job("msd", "supervised", "2", data=ct(tmp_path / "data", 600, "A"), out=tmp_path / "runs", overrides=quick)
    done = run(replace(job, workers=0), Console(quiet=True))
    again = planned_again(job_of(done))
    assert again.domain.reading.model_dump(mode="json") == done.record().reading


def test_what_is_no_ct_keeps_its_percentiles_and_its_version(tmp_path: Path) -> None:
    domain, test = labelled(plugins.domain("msd")(ct(tmp_path, 600, "Lung", modality="MRI")))
    assert domain.card.version == 1
    stored = np.asarray(nib.load(test[0].ref.image).dataobj).astype(np.float32)
    low, high = np.percentile(stored, (0.5, 99.5))
    expected = np.clip((stored - low) / (high - low), 0, 1).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(domain.read(test[0]).image[0, 0], expected.transpose(2, 1, 0))


def test_the_doctor_tells_the_window_and_what_it_cuts_off(tmp_path: Path) -> None:
    found = examine(plugins.domain("msd"), ct(tmp_path / "a", 600, "A"), False)
    assert "by the masks of 7 cases" in found.layout and not any("cut off" in remark for remark in found.remarks)
    root = ct(tmp_path / "b", 600, "A")
    domain = plugins.domain("msd")(root)
    (test, *_) = domain.index("test")
    volume = nib.load(test.ref.image)
    nib.save(nib.Nifti1Image((np.asarray(volume.dataobj) * 3).astype(np.int16), np.eye(4)), test.ref.image)
    found = examine(plugins.domain("msd"), root, False)
    (told,) = [remark for remark in found.remarks if "cut off" in remark]
    assert told.startswith("10.0 % of what the masks mark") and told.endswith(f"imagesTr/{test.case}.nii.gz")


# -- pictures ----------------------------------------------------------------------------------------------------------


def scene(n: int) -> NDArray[np.float64]:
    """Grey in [0, 1]; all scenes are about as bright."""
    return np.clip(np.random.default_rng(n).normal(0.44, 0.15, (20, 24)), 0, 1)


def folder(root: Path, stored: dict[int, NDArray[Any]]) -> Path:
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for n, pixels in stored.items():
        Image.fromarray(pixels).save(root / f"images/p{n:02d}.png")
        Image.fromarray((pixels > np.median(pixels)).astype(np.uint8)).save(root / f"masks/p{n:02d}.png")
    (root / "classes.csv").write_text("0,background\n1,thing\n")
    return root


def bits(n: int, depth: int) -> NDArray[Any]:
    return np.rint(scene(n) * ((1 << depth) - 1)).astype(np.uint8 if depth == 8 else np.uint16)


def means(domain: Domain) -> list[float]:
    return [float(domain.read(i).image.mean()) for part in ("train", "val", "test") for i in domain.index(part)]


@pytest.mark.parametrize(("depth", "white"), [(10, 1023), (12, 4095), (14, 16383), (16, None)])
def test_the_white_of_16_bit_files_is_that_of_their_bits(tmp_path: Path, depth: int, white: int | None) -> None:
    domain, _ = open_domain(plugins.domain("folder"), folder(tmp_path, {n: bits(n, depth) for n in range(12)}))
    assert domain.reading.white == white and domain.card.version == (1 if white is None else 2)
    assert means(domain) == pytest.approx([0.44] * 12, abs=0.03)
    item = domain.index("test")[0]
    for read in (
        outside.of_file(tmp_path / f"images/{item.id}.png", domain.card, domain.reading),
        outside.of_array(bits(int(item.id[1:]), depth), domain.card, domain.reading, channels_first=False, name="x"),
    ):
        np.testing.assert_array_equal(read, domain.read(item).image)


def test_8_bit_and_12_in_16_bit_files_of_one_set_share_a_scale(tmp_path: Path) -> None:
    root = folder(tmp_path, {n: bits(n, 12 if n % 3 else 8) for n in range(12)})
    domain, _ = open_domain(plugins.domain("folder"), root)
    assert means(domain) == pytest.approx([0.44] * 12, abs=0.03)
    (told,) = [remark for remark in domain.remarks() if "16 bit" in remark]
    assert told.startswith("8 pictures of 16 bit (p01) among 4 of other types (p00)") and "by 4,095" in told


def test_types_of_one_set_that_share_no_scale_are_refused(tmp_path: Path) -> None:
    """One file fills 16 bits, so the others' 12 bits are no scale of the set."""
    stored = {n: bits(n, 12 if n % 3 else 8) for n in range(12)} | {1: bits(1, 16)}
    with pytest.raises(
        InputError, match=r"p01\.png: .* mean of 0\.02\d of white, but those of p00\.png's 0\.4.*convert"
    ):
        open_domain(plugins.domain("folder"), folder(tmp_path, stored))[0].index("train")


def test_sets_of_8_bit_and_of_all_16_bits_are_read_as_ever(tmp_path: Path) -> None:
    for depth, greatest in ((8, 255), (16, 65535)):
        root = folder(tmp_path / str(depth), {n: bits(n, depth) for n in range(6)})
        domain, _ = open_domain(plugins.domain("folder"), root)
        for item in domain.index("train"):
            expected = bits(int(item.id[1:]), depth).astype(np.float32) / np.float32(greatest)
            np.testing.assert_array_equal(domain.read(item).image[0, 0], expected)


def test_dark_12_bit_pictures_are_remarked(tmp_path: Path) -> None:
    root = folder(tmp_path, {n: bits(n, 12) // (1 if n == 0 else 20) for n in range(10)})
    found = examine(plugins.domain("folder"), root, False)
    assert any("use little of their range" in remark and "data.mean=[0.0" in remark for remark in found.remarks)


def test_a_file_far_above_the_models_white_is_refused_by_name(tmp_path: Path) -> None:
    domain, _ = open_domain(plugins.domain("folder"), folder(tmp_path, {n: bits(n, 12) for n in range(6)}))
    Image.fromarray(bits(3, 16)).save(tmp_path / "bright.png")
    with pytest.raises(InputError, match=r"bright\.png: values up to \d+, but the white of these pictures is 4095"):
        outside.of_file(tmp_path / "bright.png", domain.card, domain.reading)
    assert pictures.unit(np.array([[8190]], np.uint16), "x", 4095).item() == 2
    assert pictures.unit(np.array([[255]], np.uint8), "x", 4095).item() == 1


# -- each file looked at -----------------------------------------------------------------------------------------------

ODD: dict[str, tuple[NDArray[Any], str]] = {
    "zero": (np.zeros((20, 24), np.uint8), "1 of 14 files are zero throughout: images/p07.png"),
    "constant": (np.full((20, 24), 90, np.uint8), "1 of 14 files are of one value throughout: images/p07.png"),
    "saturated": (np.where(scene(7) > 0.4, 255, 99).astype(np.uint8), "1 of 14 files are saturated, half"),
    "black": (np.where(scene(7) > 0.8, 99, 0).astype(np.uint8), "1 of 14 files are black but for a few values"),
    "dark": (bits(7, 8) // 16, "1 of 14 files are far from the others in brightness or contrast: images/p07.png"),
    "flat": (100 + bits(7, 8) // 16, "1 of 14 files are far from the others in brightness or contrast: images/p07.png"),
}


@pytest.mark.parametrize("what", ODD)
def test_the_doctor_names_odd_files(tmp_path: Path, what: str) -> None:
    pixels, told = ODD[what]
    found = examine(plugins.domain("folder"), folder(tmp_path, {n: bits(n, 8) for n in range(14)} | {7: pixels}), False)
    assert [remark for remark in found.remarks if remark.startswith(told)]


def test_the_doctor_has_nothing_to_say_of_ordinary_files(tmp_path: Path) -> None:
    found = examine(plugins.domain("folder"), folder(tmp_path, {n: bits(n, 8) for n in range(14)}), False)
    assert found.remarks == []


def test_many_odd_files_are_counted(tmp_path: Path) -> None:
    stored = {n: bits(n, 8) for n in range(20)} | {n: np.full((20, 24), 9, np.uint8) for n in range(7)}
    found = examine(plugins.domain("folder"), folder(tmp_path, stored), False)
    assert any(remark.endswith("p04.png and 2 more") for remark in found.remarks)


def test_percentiles_of_each_volume_cut_off_what_is_brightest_and_that_is_ordinary(tmp_path: Path) -> None:
    assert examine(plugins.domain("msd"), ct(tmp_path, 600, "A", modality="MRI"), False).remarks == []


def test_slices_of_a_volume_are_one_file(tmp_path: Path) -> None:
    """Empty slices at a volume's ends are ordinary."""
    root = ct(tmp_path, 600, "A")
    volume = nib.load(root / "imagesTr/c0.nii.gz")
    pixels = np.asarray(volume.dataobj).copy()
    pixels[:, :, 0] = AIR
    nib.save(nib.Nifti1Image(pixels, np.eye(4)), root / "imagesTr/c0.nii.gz")
    assert examine(plugins.domain("msd"), root, False).remarks == []


def test_bench_says_so_and_the_record_keeps_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder(tmp_path / "data", {n: bits(n, 8) for n in range(14)} | {7: np.zeros((20, 24), np.uint8)})
    quick = {"train.steps": 2, "train.validations": 0, "train.audits": 0, "eval.samples": 0, "data.crop": 16}
    done = run(
        Job("folder", "supervised", "4", data=root, out=tmp_path / "runs", overrides=quick, workers=0),
        Console(width=999),
    )
    line = "1 of 14 files are zero throughout: images/p07.png"
    assert f"note: {line}" in capsys.readouterr().out
    assert line in done.record().warnings


def test_a_mistyped_file_of_settings_in_utf_16_is_read(tmp_path: Path) -> None:
    from diffmatch.settings import read_layer

    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "s.yaml").write_bytes("train:\n  steps: 5\n".encode(encoding))
        assert read_layer(tmp_path / "s.yaml") == {"train.steps": 5}


def test_the_command_tells_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder(tmp_path, {n: bits(n, 12 if n % 3 else 8) for n in range(12)} | {1: bits(1, 16)})
    assert invoke(["doctor", "folder", "--data", str(root)]) == 2
    assert "convert them to one kind" in capsys.readouterr().err


def test_a_float_that_rounding_left_above_white_is_white() -> None:
    """Beyond a rounding it is refused, with digits that differ."""
    stored = np.array([[0.5, np.nextafter(np.float32(1), np.float32(2))]], np.float32)
    assert pictures.unit(stored, "a").tolist() == [[0.5, 1.0]]
    with pytest.raises(InputError, match=r"a: float values from 0\.5 to 1\.00199997; divide them"):
        pictures.unit(np.array([[0.5, 1.002]], np.float32), "a")
