"""Small valid files of every reader, damaged or stored otherwise: read rightly, or refused in one line with their name.

`python tests/faults/fuzz.py --examples 2000` prints how many of each there were. What is read is held against GDAL,
numpy, the standard library, or the array that the file was made from; never against the reader itself.
"""

from __future__ import annotations

import argparse
import csv
import json
import signal
import struct
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import rasterio
from PIL import Image

from diffmatch.domain import InputError
from diffmatch.readers import arrays, lists, masks, nifti, pictures
from diffmatch_acdc import ACDC
from diffmatch_folder_layout import read_classes
from diffmatch_msd import MSD

DEADLINE = 20
"""Seconds for one example."""

Rng = np.random.Generator
Check = Callable[[Any], bool]
Case = tuple[Path, Callable[[Path], Any], Check]
"""A file, its reader, and whether what was read is right."""


class Late(BaseException):
    """An example took longer than `DEADLINE`."""


def damaged(path: Path, rng: Rng) -> bool:
    """Cut a file or flip some of its bytes, or leave it alone; whether it was changed."""
    content = bytearray(path.read_bytes())
    kind = rng.choice(["none", "cut", "flip", "flip", "zero", "append"])
    if kind == "cut":
        content = content[: int(rng.integers(0, len(content)))]
    elif kind == "flip":
        span = len(content) if rng.random() < 0.5 else min(len(content), 200)
        for at in rng.integers(0, span, int(rng.integers(1, 4))):
            content[at] ^= int(rng.integers(1, 256))
    elif kind == "zero":
        at = int(rng.integers(0, len(content)))
        content[at : at + 16] = bytes(len(content[at : at + 16]))
    elif kind == "append":
        content += rng.bytes(9)
    path.write_bytes(content)
    return kind != "none"


def by_gdal(path: Path, looked_through: bool = False) -> Any:
    """(bands, H, W) as GDAL reads a file, and whether white is zero; None where it does not read it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with rasterio.open(path) as file:
                values = file.read()
                if looked_through and file.colorinterp[0].name == "palette":
                    table = np.array([file.colormap(1).get(i, (0, 0, 0, 0))[:3] for i in range(256)], np.uint8)
                    values = table[values[0]].transpose(2, 0, 1)
                return values, "MINISWHITE" in file.tags(ns="IMAGE_STRUCTURE")
    except rasterio.errors.RasterioError:
        return None


def raster(path: Path, rng: Rng, kinds: list[str], bands: int, high: int) -> Any:
    """Write a TIFF, PNG or BMP of random values; returns (bands, H, W)."""
    kind = str(rng.choice(kinds))
    values = rng.integers(0, high, (bands, *rng.integers(3, 9, 2))).astype(kind)
    if path.suffix in (".png", ".bmp"):
        kind = "uint8" if path.suffix == ".bmp" or bands > 1 else str(rng.choice(["uint8", "uint16"]))
        values = values.astype(kind)
        Image.fromarray(values[0] if bands == 1 else values.transpose(1, 2, 0)).save(path)
        return values
    shape = dict(zip(("count", "height", "width"), values.shape, strict=True))
    options = {"compress": str(rng.choice(["none", "lzw", "deflate", "zstd", "packbits"]))}
    options |= {"ENDIANNESS": str(rng.choice(["LITTLE", "BIG"])), "BIGTIFF": str(rng.choice(["YES", "NO"]))}
    options |= {"photometric": "rgb" if bands == 3 else "minisblack"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", driver="GTiff", dtype=kind, **shape, **options) as file:
            file.write(values)
    return values


def as_bytes(path: Path, like: Any) -> list[Any]:
    """The last bytes of a file as pixels: what a TIFF without compression holds where no check sum guards it."""
    tail = path.read_bytes()[-like.nbytes :]
    if len(tail) < like.nbytes:
        return []
    orders = [np.frombuffer(tail, like.dtype.newbyteorder(order)).astype(like.dtype) for order in "<>"]
    return [one.reshape(like.shape) for one in orders] + [
        one.reshape(*like.shape[1:], like.shape[0]).transpose(2, 0, 1) for one in orders
    ]


def renamed(path: Path, rng: Rng) -> Path:
    """The file under the ending of another format, now and then."""
    if rng.random() < 0.8:
        return path
    return path.rename(path.with_suffix(str(rng.choice([".png", ".tif", ".bmp", ".jpg"]))))


def picture(folder: Path, rng: Rng) -> Case:
    path = folder / f"picture{rng.choice(['.tif', '.png', '.bmp'])}"
    bands = int(rng.choice([1, 3]))
    values = raster(path, rng, ["uint8", "uint16"], bands, 256)
    path, changed = renamed(path, rng), damaged(path, rng) if path.exists() else False

    def right(found: Any) -> bool:
        unit = [(values / np.iinfo(values.dtype).max).astype(np.float32)]
        unit += [(one / np.iinfo(one.dtype).max).astype(np.float32) for one in as_bytes(path, values) if changed]
        if changed and len(values) == 1 and (raw := path.read_bytes())[:2] == b"BM" and len(raw) > 1078:
            blue_first = np.frombuffer(raw[54:1078], np.uint8).reshape(256, 4)
            unit.append((blue_first[:, 2::-1][values[0]].transpose(2, 0, 1) / 255).astype(np.float32))
        if changed and (seen := by_gdal(path, looked_through=True)):
            top = np.iinfo(seen[0].dtype).max if seen[0].dtype.kind == "u" else 1
            unit += [(seen[0] / top).astype(np.float32)] + [(1 - seen[0] / top).astype(np.float32)] * seen[1]
        return any(one.shape == found.shape and np.allclose(one, found, atol=1e-6) for one in unit)

    return path, pictures.picture, right


def mask(folder: Path, rng: Rng) -> Case:
    path = folder / f"mask{rng.choice(['.tif', '.png', '.bmp'])}"
    kinds = ["uint8", "int8", "uint16", "int16", "int32", "uint32", "float32", "float64"]
    values = raster(path, rng, kinds, 1, 5)
    if rng.random() < 0.1:
        Image.fromarray(values[0].astype(np.uint8)).save(path.with_suffix(".jpg"))
        path = path.with_suffix(".jpg").rename(path)
        return path, masks.read, lambda _: False  # refused, whatever its name is
    path, changed = renamed(path, rng), damaged(path, rng) if path.exists() else False

    def right(found: Any) -> bool:
        seen = by_gdal(path) if changed else None
        known = [values[0], *([seen[0][0]] if seen else []), *(one[0] for one in as_bytes(path, values) if changed)]
        return any(
            one.shape == found.values.shape and np.allclose(one, found.values, atol=1e-5, equal_nan=True)
            for one in known
        )

    return path, masks.read, right


def volume(folder: Path, rng: Rng) -> Case:
    """A volume in any order of its axes, to be read from feet to head, from back to front, from left to right."""
    shape = tuple(int(n) for n in rng.integers(2, 7, 3))
    truth = rng.integers(-99, 99, shape).astype(str(rng.choice(["int16", "int32", "uint8", "float32", "float64"])))
    affine = np.diag([*rng.uniform(0.5, 3, 3), 1.0])
    stored = nib.Nifti1Image(truth, affine).as_reoriented(
        np.stack([rng.permutation(3), rng.choice([-1, 1], 3)], axis=1).astype(float)
    )
    content = np.ascontiguousarray(stored.dataobj)[(..., *([None] * int(rng.integers(0, 3))))]
    path = folder / f"volume{rng.choice(['.nii', '.nii.gz'])}"
    nib.save(nib.Nifti1Image(content, stored.affine), path)
    wanted = truth.transpose(2, 1, 0)
    changed = damaged(path, rng)

    def right(found: Any) -> bool:
        if not changed or np.array_equal(found, wanted):
            return bool(np.array_equal(found, wanted))
        return path.suffix == ".nii" and _told_by_header(path, found)

    return path, lambda p: nifti.ordered(nifti.volume(p), p, "SAR"), right


def _told_by_header(path: Path, found: Any) -> bool:
    """A flipped byte that no checksum guards: what was read is what the bytes say, by the standard's offsets."""
    raw = path.read_bytes()
    order = "<" if struct.unpack("<i", raw[:4])[0] == 348 else ">"
    shape = struct.unpack(f"{order}8h", raw[40:56])
    kinds = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
    kind = np.dtype(order + kinds[struct.unpack(f"{order}h", raw[70:72])[0]])
    start = int(struct.unpack(f"{order}f", raw[108:112])[0])
    slope, inter = struct.unpack(f"{order}2f", raw[112:120])
    count = int(np.prod(shape[1 : shape[0] + 1]))
    values = np.frombuffer(raw, kind, count, max(start, 352)).astype(np.float64)
    if np.isfinite(slope) and slope and np.isfinite(inter):
        values = values * slope + inter
    return found.size == count and bool(np.allclose(np.sort(values), np.sort(np.ravel(found)), rtol=1e-5))


def packed(folder: Path, rng: Rng) -> Case:
    truth = rng.random(rng.integers(2, 6, int(rng.choice([2, 3])))).astype(str(rng.choice(["f4", "f8", "f2"])))
    path = folder / f"array{rng.choice(['.h5', '.npz'])}"
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("image", data=truth, fletcher32=True, chunks=truth.shape)
    else:
        np.savez_compressed(path, image=truth)
    damaged(path, rng)
    return path, lambda p: arrays.array(p, "image"), lambda found: np.array_equal(found, truth)


def table(folder: Path, rng: Rng) -> Case:
    path = folder / "classes.csv"
    rows = [[str(v), str(rng.choice(["sea", "boat", "ice", "background"])) + str(v)] for v in rng.permutation(5)]
    path.write_text("\n".join(map(",".join, rows)), encoding=str(rng.choice(["utf-8", "utf-8-sig", "utf-16"])))
    damaged(path, rng)

    def right(found: Any) -> bool:
        wide = path.read_bytes()[:2] in (b"\xff\xfe", b"\xfe\xff")
        with path.open(encoding="utf-16" if wide else "utf-8-sig", newline="") as handle:
            read = [[cell.strip() for cell in row] for row in csv.reader(handle) if any(cell.strip() for cell in row)]
        named = {int(row[0]): row[1] for row in read[read[0][0].lower() == "value" :] if len(row) > 1 and row[1]}
        return all(found.infos[found.mapping[value]].name == name for value, name in named.items())

    return path, read_classes, right


def dataset(folder: Path, rng: Rng) -> Case:
    MSD.fabricate(folder) if not (folder / "imagesTr").exists() else None
    path = folder / "dataset.json"
    damaged(path, rng)

    def right(found: Any) -> bool:
        said = json.loads(path.read_bytes())
        labels = {int(value): name for value, name in said["labels"].items()}
        return found.card.names == [labels[value] for value in sorted(labels)]

    return path, lambda p: MSD(p.parent), right


def listed(folder: Path, rng: Rng) -> Case:
    path = folder / "train.list"
    names = [f"patient{n:03d}_frame01_slice_{n}" for n in rng.choice(99, 6, replace=False)]
    path.write_text("\n".join(names), encoding="utf-8")
    damaged(path, rng)

    def right(found: Any) -> bool:
        return list(found) == [ACDC.listed(line) for line in path.read_text("utf-8-sig").splitlines() if line.strip()]

    return path, lambda p: lists.ids_of(p, ACDC), right


READERS = (picture, mask, volume, packed, table, dataset, listed)


def example(make: Callable[[Path, Rng], Case], seed: int, folder: Path) -> str:
    """One file of one reader: `read rightly`, `refused`, or what happened instead."""
    path, read, right = make(folder, np.random.default_rng(seed))

    def late(*_: object) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(DEADLINE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = read(path)
        return "read rightly" if right(found) else "read wrongly"
    except InputError as error:
        named = path.name in str(error) or folder.name in str(error)
        return "refused" if named and "\n" not in str(error) else f"refused badly: {error}"
    except Late:
        return "hung"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:90]}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run(examples: int, seed: int = 0) -> dict[str, Counter[str]]:
    """So many examples, the readers in turn; outcomes by reader."""
    outcomes: dict[str, Counter[str]] = {make.__name__: Counter() for make in READERS}
    with tempfile.TemporaryDirectory() as root:
        task = Path(root) / "task"
        MSD.fabricate(task)
        about = (task / "dataset.json").read_bytes()
        for number in range(examples):
            make = READERS[number % len(READERS)]
            folder = task if make is dataset else Path(root) / str(number)
            folder.mkdir(exist_ok=True)
            (task / "dataset.json").write_bytes(about)
            outcome = example(make, seed + number, folder)
            outcomes[make.__name__][outcome] += 1
            if outcome not in ("read rightly", "refused"):
                print(f"{make.__name__}, seed {seed + number}: {outcome}")
    return outcomes


def rows(outcomes: dict[str, Counter[str]]) -> list[tuple[str, int, int, int, int]]:
    """(reader, tried, read rightly, refused, other) of each reader, and of all."""
    total = sum(outcomes.values(), Counter())
    table = []
    for name, counts in (*outcomes.items(), ("all", total)):
        tried, good, refused = counts.total(), counts["read rightly"], counts["refused"]
        table.append((name, tried, good, refused, tried - good - refused))
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print(f"{'reader':10}{'tried':>8}{'read rightly':>14}{'refused':>9}{'other':>7}")
    for name, tried, good, refused, other in rows(run(asked.examples, asked.seed)):
        print(f"{name:10}{tried:8}{good:14}{refused:9}{other:7}")
