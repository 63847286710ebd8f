"""The raw WHU-CD scenes: refusals by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from diffmatch.domain import InputError
from diffmatch_whu_cd import WHUCD
from diffmatch_whu_cd_phantom import write_scene


def rewrite(path: Path, pixels: NDArray[np.uint8]) -> None:
    profile = {
        "driver": "GTiff",
        "count": len(pixels),
        "height": pixels.shape[1],
        "width": pixels.shape[2],
        "dtype": "uint8",
    }
    profile["transform"] = rasterio.Affine(0.2, 0, 1_570_000, 0, -0.2, 5_180_000)
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(pixels)


def test_bad_scenes_are_named(tmp_path: Path) -> None:
    write_scene(tmp_path, 600, 600, side=256)
    label = tmp_path / "change label" / "change_label.tif"
    rewrite(label, np.full((1, 600, 600), 7, np.uint8))
    domain = WHUCD(tmp_path)
    with pytest.raises(InputError, match=r"change_label\.tif: label value 7"):
        domain.read(domain.index("train")[0])
    rewrite(label, np.zeros((3, 600, 600), np.uint8))
    with pytest.raises(InputError, match=r"change_label\.tif: 3 bands"):
        domain.read(domain.index("train")[0])
    rewrite(label, np.zeros((1, 599, 600), np.uint8))
    with pytest.raises(InputError, match=r"change_label\.tif: 600 x 599 .*before\.tif has 600 x 600"):
        WHUCD(tmp_path).index("train")
    label.write_bytes(label.read_bytes()[:100])
    with pytest.raises(InputError, match=r"change_label\.tif: not a readable GeoTIFF"):
        WHUCD(tmp_path).index("train")
    label.unlink()
    with pytest.raises(InputError, match=r"change_label\.tif: no such file"):
        WHUCD(tmp_path).index("train")
    rewrite(tmp_path / "before" / "before.tif", np.zeros((3, 20, 20), np.uint8))
    shutil.copy(tmp_path / "before" / "before.tif", tmp_path / "after" / "after.tif")
    rewrite(label, np.zeros((1, 20, 20), np.uint8))
    with pytest.raises(InputError, match=r"before\.tif: 20 x 20 pixels hold no patch"):
        WHUCD(tmp_path).index("train")


def test_truncated_scene_pixels_are_named(tmp_path: Path) -> None:
    write_scene(tmp_path, 600, 600, side=600)
    path = tmp_path / "after" / "after.tif"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    domain = WHUCD(tmp_path)
    with pytest.raises(InputError, match=r"after\.tif: not a readable GeoTIFF"):
        for item in domain.index("train"):
            domain.read(item, mask=False)
