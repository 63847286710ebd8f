"""Arrays of h5 and npz files, and what is said of damaged ones."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from diffmatch.domain import InputError
from diffmatch.readers.arrays import array, shape, volume

IMAGE, LABEL = np.arange(6.0).reshape(2, 3), np.zeros((2, 3), np.uint8)


def write(path, **arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values
    return path


@pytest.fixture(params=[".npz", ".h5"])
def path(request, tmp_path):
    return tmp_path / f"case{request.param}"


def test_values_and_shapes(path):
    write(path, image=IMAGE, label=LABEL)
    assert array(path, "image", like="label").tolist() == IMAGE.tolist()
    assert shape(path, "label") == (2, 3)


def test_a_slice_is_a_volume_of_one(path):
    write(path, image=IMAGE, volume=np.stack([IMAGE, -IMAGE]), batch=IMAGE[None, None], text=IMAGE.astype("S1"))
    assert volume(path, "image").dtype == np.float32
    assert volume(path, "image").tolist() == [[[IMAGE.tolist()]]]
    assert volume(path, "volume").shape == (1, 1, 2, 2, 3)
    for key in ("batch", "text"):
        with pytest.raises(InputError, match=rf"{path.name}: {key} is .* of shape .*; expected numbers"):
            volume(path, key)


def test_a_missing_key_is_named(path):
    write(path, image=IMAGE)
    with pytest.raises(InputError, match="'label'"):
        array(path, "label")


def test_shapes_that_differ_are_told(path):
    write(path, image=IMAGE, label=LABEL[:1])
    with pytest.raises(InputError, match=r"image \(2, 3\) and label \(1, 3\) differ"):
        array(path, "image", like="label")


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.95])
def test_a_file_that_ends_early_is_named(path, keep):
    write(path, image=np.random.default_rng(0).random((40, 40)), label=LABEL)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(InputError, match=rf"{path.name}: not a readable"):
        array(path, "image")


def test_pickled_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", image=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"x\.npz"):
        array(tmp_path / "x.npz", "image")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(path, value):
    image = IMAGE.astype(np.float32)
    image[1, 2] = value
    write(path, image=image, label=LABEL)
    with pytest.raises(InputError, match=rf"{path.name}: image holds values that are not finite; repair it"):
        array(path, "image")
    assert array(path, "label").tolist() == LABEL.tolist()


@pytest.mark.parametrize("reader", [array, shape])
def test_a_group_where_an_array_should_be_is_refused(tmp_path, reader):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["image/inner"] = IMAGE
    with pytest.raises(InputError, match=r"x\.h5: not a readable h5 file with 'image'"):
        reader(tmp_path / "x.h5", "image")


def test_one_array_under_an_npz_s_name_and_a_damaged_entry_are_refused(tmp_path):
    np.save(tmp_path / "bare.npy", IMAGE)
    (tmp_path / "bare.npy").rename(tmp_path / "bare.npz")
    whole = bytearray(write(tmp_path / "x.npz", image=IMAGE).read_bytes())
    whole[whole.index(b"PK\x01\x02") + 10] = 99  # a compression that does not exist
    (tmp_path / "x.npz").write_bytes(whole)
    for name in ("bare", "x"):
        with pytest.raises(InputError, match=rf"{name}\.npz: not a readable npz file"):
            array(tmp_path / f"{name}.npz", "image")
