"""A mask's meaning: what the file stores, not its ending, and never a number that nobody wrote."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from diffmatch.domain import InputError, map_labels
from diffmatch.readers import image, masks, pairs, pictures
from diffmatch.readers.masks import IndexMask, Palettes, read
from diffmatch_folder import Folder

COLOURS = np.array([(0, 0, 0), (220, 60, 40), (40, 90, 220)], np.uint8)
TABLE = "0,background,#000000\n1,boat,#dc3c28\n2,buoy,#285adc\n"
PLAIN = "0,background\n1,boat\n2,buoy\n"
VALUES = np.repeat(np.arange(12, dtype=np.uint8)[:, None] // 4, 16, axis=1)
"""(12, 16) of 0, 1 and 2."""


def geotiff(path: Path, bands: np.ndarray, **options: object) -> Path:
    """(bands, H, W) by GDAL."""
    shape = dict(zip(("count", "height", "width"), bands.shape, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", driver="GTiff", dtype=bands.dtype, **shape, **options) as file:
            file.write(bands)
    return path


def adaptive(values: np.ndarray) -> Image.Image:
    """Colours brought to a palette of the file's own, as paint programs do."""
    picture = Image.fromarray(COLOURS[values])
    return picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=len(np.unique(values)))


def indexed(values: np.ndarray, colours: np.ndarray) -> Image.Image:
    picture = Image.fromarray(values, "P")
    picture.putpalette(colours.astype(np.uint8).tobytes())
    return picture


def folder(root: Path, save_mask, table=PLAIN, save_image=None, count=6) -> Folder:
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for n in range(count):
        name = root / "images" / f"p{n}"
        (save_image or (lambda path: Image.new("RGB", (16, 12), (9, 9, 9)).save(f"{path}.png")))(name)
        save_mask(root / "masks" / f"p{n}", n)
    (root / "classes.csv").write_text(table)
    return Folder(root)


def all_masks(domain: Folder) -> list[np.ndarray]:
    return [domain.read(item).mask for part in ("train", "val", "test") for item in domain.index(part)]


# -- palettes ----------------------------------------------------------------------------------------------------------


def test_a_palette_that_contradicts_the_table_is_refused(tmp_path):
    domain = folder(tmp_path, lambda path, n: adaptive(VALUES).save(f"{path}.png"), TABLE)
    with pytest.raises(InputError, match=r"p\d\.png: its palette shows the value \d in the colour #.* class table"):
        all_masks(domain)


def test_palettes_that_differ_between_files_are_refused_and_both_named(tmp_path):
    one = np.where(VALUES == 1, 0, VALUES).astype(np.uint8)
    domain = folder(tmp_path, lambda path, n: adaptive(one if n % 2 else VALUES).save(f"{path}.png"))
    with pytest.raises(InputError, match=r"p\d\.png: its palette shows .* that of .*p\d\.png as #") as told:
        all_masks(domain)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("table", "colours"),
    [
        (TABLE, COLOURS),
        (TABLE, np.repeat(np.arange(256)[:, None], 3, axis=1)),
        (TABLE, np.zeros((256, 3))),
        (PLAIN, np.random.default_rng(0).integers(0, 256, (256, 3))),
        (PLAIN, np.array([(255, 255, 255), (0, 0, 0), (9, 9, 9)])),
    ],
    ids=["the table's", "a grey ramp", "all black", "random, without a table", "black on white, without a table"],
)
def test_palettes_that_agree_are_not_looked_through(tmp_path, table, colours):
    domain = folder(tmp_path, lambda path, n: indexed(VALUES, colours).save(f"{path}.png"), table)
    for mask in all_masks(domain):
        assert np.array_equal(mask, VALUES)


def test_a_change_mask_whose_palette_is_the_wrong_way_round_is_refused(tmp_path):
    inverted = indexed(VALUES % 2, np.array([(255, 255, 255), (0, 0, 0)]))
    inverted.save(tmp_path / "label.png")
    with pytest.raises(InputError, match=r"label\.png: its palette shows the value 0 in the colour #ffffff"):
        pairs.Encoding().decoded(tmp_path / "label.png", True)


# -- sample types ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"ENDIANNESS": "BIG"}, {"compress": "deflate", "predictor": 2}], ids=str)
def test_whole_numbers_of_every_type_are_labels(tmp_path, kind, options):
    if kind.startswith("float") or kind == "int64":
        options = {key: value for key, value in options.items() if key != "predictor"}
    found = read(geotiff(tmp_path / "m.tif", VALUES[None].astype(kind), **options))
    assert found.values.dtype.kind in "iu" and np.array_equal(found.values, VALUES)
    assert np.array_equal(found.classes({0: 0, 1: 1, 2: 2}), VALUES)


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "float32"])
def test_minus_one_is_minus_one(tmp_path, kind):
    values = VALUES.astype(kind)
    values[0] = -1
    found = read(geotiff(tmp_path / "m.tif", values[None]))
    assert np.array_equal(found.values, values)
    with pytest.raises(InputError, match=r"m\.tif: label value -1 on 16 pixels"):
        found.classes({0: 0, 1: 1, 2: 2, 255: 255})


def test_a_signed_picture_does_not_wrap_round(tmp_path):
    with pytest.raises(InputError, match="int8 values"):
        pictures.picture(geotiff(tmp_path / "p.tif", np.full((1, 4, 5), -20, np.int8)))


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_of_few_bits_is_not_stretched(tmp_path, bits):
    assert np.array_equal(read(geotiff(tmp_path / "m.tif", VALUES[None], NBITS=bits)).values, VALUES)


def test_white_as_zero_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"m\.tif: .* white as zero"):
        read(geotiff(tmp_path / "m.tif", VALUES[None], photometric="MINISWHITE"))


@pytest.mark.parametrize("value", [0.9999, 0.99998, 1.5])
def test_fractions_are_told_with_the_digits_that_matter(value):
    raw = np.full((2, 3), value, np.float32)
    with pytest.raises(InputError, match=rf"x: label value {value} on 6 pixels"):
        map_labels(raw, {0: 0, 1: 1}, "x")


@pytest.mark.parametrize("values", [np.float32(0.99999994), np.float32(255) * np.float32(1 / 255), 1 + 9e-6])
def test_what_a_scale_factor_leaves_is_rounded(values):
    assert map_labels(np.full((2, 2), values), {0: 0, 1: 1}, "x").tolist() == [[1, 1], [1, 1]]


# -- lossy coding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "tif", "jpg", "bmp"])
@pytest.mark.parametrize("kind", ["jpeg", "jpeg2000", "webp"])
def test_lossy_coding_is_refused_under_every_name(tmp_path, ending, kind):
    path = tmp_path / f"m.{ending}"
    Image.fromarray(VALUES).save(path, format=kind)
    with pytest.raises(InputError, match=rf"m\.{ending}: a mask as (JPEG|WEBP).*draw or export"):
        read(path)


def test_jpeg_inside_a_tiff_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"m\.tif: a mask as TIFF with compression .*JPEG"):
        read(geotiff(tmp_path / "m.tif", VALUES[None], compress="jpeg"))


def test_a_png_called_jpg_is_a_png(tmp_path):
    domain = folder(tmp_path, lambda path, n: Image.fromarray(VALUES).save(f"{path}.jpg", format="png"))
    assert all(np.array_equal(mask, VALUES) for mask in all_masks(domain))


def test_jpeg_noise_that_was_saved_as_png_is_recognised(tmp_path):
    big = np.kron(np.random.default_rng(0).choice([0, 100, 200], (8, 8)), np.ones((16, 16))).astype(np.uint8)
    Image.fromarray(big[3:, 5:]).save(tmp_path / "a.jpg", quality=60)
    Image.open(tmp_path / "a.jpg").save(tmp_path / "m.png")
    with pytest.raises(InputError, match=r"nor are \d+ others \(this looks like JPEG noise"):
        read(tmp_path / "m.png").classes({0: 0, 100: 1, 200: 2})


# -- no data -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nodata", [-9999.0, float("nan"), 77.0])
def test_what_a_mask_calls_no_data_is_void(tmp_path, nodata):
    values = VALUES.astype(np.float32)
    values[0] = nodata
    mask = read(geotiff(tmp_path / "m.tif", values[None], nodata=nodata)).classes({0: 0, 1: 1, 2: 2})
    assert (mask[0] == 255).all() and np.array_equal(mask[1:], VALUES[1:])


def test_no_data_that_the_table_names_is_its_class(tmp_path):
    found = read(geotiff(tmp_path / "m.tif", VALUES[None], nodata=0))
    assert np.array_equal(found.classes({0: 0, 1: 1, 2: 2}), VALUES)


@pytest.mark.parametrize("nodata", [-9999.0, float("nan")])
@pytest.mark.parametrize("bands", [1, 3])
def test_a_hole_in_a_float_picture_is_0_and_void(tmp_path, nodata, bands):
    pixels = np.full((bands, 12, 16), 0.5, np.float32)
    pixels[0, :2, :3] = nodata
    domain = folder(
        tmp_path,
        lambda path, n: Image.fromarray(VALUES).save(f"{path}.png"),
        save_image=lambda path: geotiff(Path(f"{path}.tif"), pixels, nodata=nodata),
    )
    sample = domain.read(domain.index("train")[0])
    assert (sample.image[0, 0, :2, :3] == 0).all() and (sample.mask[:2, :3] == 255).all()
    assert np.array_equal(sample.mask[2:], VALUES[2:]) and sample.image[0, -1, 5, 5] == 0.5


def test_other_pixels_that_are_not_finite_are_counted(tmp_path):
    pixels = np.full((3, 12, 16), 0.5, np.float32)
    pixels[1, 0, :5] = np.inf
    with pytest.raises(InputError, match=r"p\.tif: not finite on 5 pixels of 192; fill them"):
        pictures.picture(geotiff(tmp_path / "p.tif", pixels))


# -- size --------------------------------------------------------------------------------------------------------------


def test_a_large_picture_is_opened(tmp_path):
    Image.new("L", (13_500, 13_500)).save(tmp_path / "large.png")
    assert image.size(tmp_path / "large.png") == (13_500, 13_500)
    with image.opened(tmp_path / "large.png") as picture:
        assert picture.size == (13_500, 13_500)


def test_what_does_not_fit_and_what_cannot_be_are_refused(tmp_path, monkeypatch):
    Image.new("L", (13_500, 13_500)).save(tmp_path / "large.png")
    monkeypatch.setattr(image, "memory", lambda: 10**9)
    with pytest.raises(InputError, match=r"large\.png: 13500 x 13500 pixels do not fit into memory; cut it"):
        masks.read(tmp_path / "large.png")
    bomb = bytearray((tmp_path / "large.png").read_bytes()[:60])
    (tmp_path / "bomb.bmp").write_bytes(
        b"BM"
        + bytes(12)
        + (40).to_bytes(4, "little")
        + (90_000).to_bytes(4, "little") * 2
        + b"\x01\x00\x08\x00"
        + bytes(24)
        + bomb
    )
    with pytest.raises(InputError, match=r"bomb\.bmp: 90000 x 90000 pixels in a file of \d+ bytes"):
        masks.read(tmp_path / "bomb.bmp")


def test_a_void_value_may_change_its_colour():
    palettes = Palettes()
    for name, colour in (("a", (224, 224, 192)), ("b", (255, 255, 255))):
        palettes.check(IndexMask(Path(name), VALUES, palette={0: (0, 0, 0), 255: colour}))
