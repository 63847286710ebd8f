"""GeoTIFF files lie where the picture lies, however it says so."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC
from rasterio.transform import from_origin

from diffmatch.model import geo
from diffmatch.model.look import Look

SHAPE = (72, 80)
LABELS = np.random.default_rng(0).integers(0, 2, SHAPE).astype(np.uint8)
LOOK = Look(("ground", "roof"), ((0, 0, 0), (10, 20, 30)), (0, 255), True)
WORLD = "10\n0\n0\n-10\n500005\n4999995\n"
"""Sides of a pixel, and the middle of the first one."""
NZTM = CRS.from_epsg(2193)


def picture(path: Path) -> Path:
    Image.fromarray(np.zeros((*SHAPE, 3), np.uint8)).save(path)
    return path


def tiff(path: Path, **where: object) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=SHAPE[0], width=SHAPE[1], dtype="uint8", **where
    ) as file:
        file.write(np.zeros((3, *SHAPE), np.uint8))
    return path


def test_ground_control_points(tmp_path: Path) -> None:
    points = [
        GroundControlPoint(*point) for point in ((0, 0, 10, 50), (0, 80, 10.1, 50), (72, 0, 10, 49.9), (72, 80, 10, 49))
    ]
    where = geo.place(tiff(tmp_path / "a.tif", gcps=points, crs="EPSG:4326"))
    assert where
    geo.write_labels(LABELS, tmp_path / "labels.tif", where, LOOK)
    geo.write_maps([LABELS.astype(np.float32)] * 2, ["one", "two"], tmp_path / "maps.tif", where)
    for name in ("labels.tif", "maps.tif"):
        with rasterio.open(tmp_path / name) as file:
            written, crs = file.gcps
        assert crs == CRS.from_epsg(4326)
        assert [(p.row, p.col, p.x, p.y) for p in written] == [(p.row, p.col, p.x, p.y) for p in points]


def test_rational_polynomial_coefficients(tmp_path: Path) -> None:
    names = ["height", "lat", "line", "long", "samp"]
    numbers = {f"{name}_{part}": 1.5 for name in names for part in ("off", "scale")}
    polynomials = {f"{name}_{part}_coeff": [0.5] * 20 for name in ("line", "samp") for part in ("num", "den")}
    rpcs = RPC(**numbers, **polynomials, err_bias=0.5, err_rand=0.5)
    where = geo.place(tiff(tmp_path / "a.tif", rpcs=rpcs))
    assert where
    geo.write_labels(LABELS, tmp_path / "labels.tif", where, LOOK)
    with rasterio.open(tmp_path / "labels.tif") as file:
        assert file.rpcs.to_gdal() == rpcs.to_gdal()


@pytest.mark.parametrize("ending", ["jpg", "png", "bmp", "tif"])
@pytest.mark.parametrize("world", ["wld", "{0}{2}w", "{0}{1}{2}w"])
def test_world_files(ending: str, world: str, tmp_path: Path) -> None:
    like = picture(tmp_path / f"a.{ending}")
    assert geo.place(like) is None
    like.with_suffix(f".{world.format(*ending)}").write_text(WORLD)
    where = geo.place(like)
    assert where and where["transform"] == from_origin(500000, 5000000, 10, 10) and where["crs"] is None


@pytest.mark.parametrize("form", ["prj", "aux.xml"])
def test_the_coordinate_system_beside_a_world_file(form: str, tmp_path: Path) -> None:
    like = picture(tmp_path / "a.jpg")
    like.with_suffix(".jgw").write_text(WORLD)
    if form == "prj":
        like.with_suffix(".prj").write_text(NZTM.to_wkt(version="WKT1_ESRI"))
    else:
        Path(f"{like}.aux.xml").write_text(f"<PAMDataset><SRS>{NZTM.to_wkt()}</SRS></PAMDataset>")
    where = geo.place(like)
    assert where and where["crs"].to_epsg() == 2193


def test_a_projection_that_is_none(tmp_path: Path) -> None:
    like = picture(tmp_path / "a.jpg")
    like.with_suffix(".jgw").write_text(WORLD)
    like.with_suffix(".prj").write_text("somewhere")
    where = geo.place(like)
    assert where and where["crs"] is None


def test_labels_in_colours_and_maps_by_name(tmp_path: Path) -> None:
    where = geo.place(tiff(tmp_path / "a.tif", crs=NZTM, transform=from_origin(1570000, 5180000, 0.2, 0.2)))
    assert where
    geo.write_labels(LABELS, tmp_path / "labels.tif", where, LOOK)
    with rasterio.open(tmp_path / "labels.tif") as file:
        assert (file.crs, file.transform) == (where["crs"], where["transform"])
        assert np.array_equal(file.read(1), LABELS * 255) and file.colormap(1)[255] == (10, 20, 30, 255)
    maps = np.random.default_rng(0).random((2, *SHAPE), np.float32)
    geo.write_maps(maps, ["entropy", "größe"], tmp_path / "maps.tif", where)
    with rasterio.open(tmp_path / "maps.tif") as file:
        assert (file.crs, file.transform) == (where["crs"], where["transform"])
        assert file.descriptions == ("entropy", "größe") and file.dtypes == ("float32",) * 2
        assert np.array_equal(file.read(), maps)


def test_no_place_without_rasterio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    like = tiff(tmp_path / "a.tif", crs=NZTM, transform=from_origin(0, 0, 1, 1))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    assert geo.place(like) is None


def test_no_place_of_a_file_that_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"no picture")
    assert geo.place(tmp_path / "a.h5") is None


@pytest.mark.parametrize("missing", [1, 100, 5000, 20000])
def test_the_last_bytes_that_do_not_fit_on_the_disk(missing: int, tmp_path: Path) -> None:
    """GDAL writes them when it closes the file, and tells no error."""
    where = geo.place(tiff(tmp_path / "a.tif", crs=NZTM, transform=from_origin(0, 0, 1, 1)))
    assert where
    maps, path = np.random.default_rng(0).random((2, *SHAPE), np.float32), tmp_path / "maps.tif"
    geo.write_maps(maps, ["one", "two"], path, where)
    size = path.stat().st_size
    path.unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - missing, hard))
    try:
        with pytest.raises(OSError, match=r"written whole.*maps\.tif"):
            geo.write_maps(maps, ["one", "two"], path, where)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
