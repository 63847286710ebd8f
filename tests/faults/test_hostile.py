"""Files made to do harm are inert: nothing in them is run, and they end in one line.

Packed studies, checkpoints of pickled code and lists that leave the root have their tests beside their readers.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffmatch.domain import InputError
from diffmatch.model.source import read
from diffmatch.plugins import domain
from diffmatch.readers import arrays
from diffmatch.readers.image import photograph
from diffmatch.records.counts import Counts
from diffmatch.records.folder import RunFolder
from diffmatch.records.tables import load
from diffmatch.settings import read_layer


class Touch:
    """Leaves a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def mark(tmp_path):
    """The file that hostile content would make; it must not be there in the end."""
    path = tmp_path / "harmed"
    yield path
    assert not path.exists()


def test_an_array_of_objects_is_not_unpickled(mark, tmp_path):
    path = tmp_path / "case.npz"
    np.savez(path, image=np.array([Touch(mark)], object))
    with pytest.raises(InputError, match=r"case\.npz"):
        arrays.array(path, "image")
    np.savez(path, confusion=np.array([Touch(mark)], object))
    with pytest.raises(ValueError, match="allow_pickle"):
        Counts.load(path)


def test_a_model_file_of_pickled_code_is_refused(mark, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Touch(mark)))
    with pytest.raises(InputError, match=r"model\.safetensors"):
        read(path)


def test_yaml_makes_no_objects(mark, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(f'train: !!python/object/apply:pathlib.Path.touch ["{mark}"]\n')
    for reader in (read_layer, lambda file: load(str(file))):
        with pytest.raises(InputError, match=r"settings\.yaml"):
            reader(path)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "1" * 10_000, "null", "[]", '"\\ud800"'])
def test_a_record_that_is_deep_or_huge_is_refused(content, tmp_path):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=r"run\.json"):
        RunFolder(tmp_path).record()


def test_a_picture_that_claims_to_be_huge_is_refused(tmp_path):
    """Its header says 60,000 x 60,000 pixels; no memory is asked for."""
    path = tmp_path / "bomb.png"
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    raw = bytearray(path.read_bytes())
    raw[16:24] = (60_000).to_bytes(4, "big") * 2
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"bomb\.png"):
        photograph(path)


def test_a_file_of_a_packed_study_that_unpacks_to_gigabytes_is_refused(tmp_path):
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a/run.json", "w") as entry:
        for _ in range(260):
            entry.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(InputError, match="too many"):
        RunFolder(path / "a").record()


@pytest.mark.parametrize("name", ["../acdc", "acdc; touch harmed", "__import__('os')", "", "a" * 10_000])
def test_a_plugin_is_known_by_its_name_alone(name, mark):
    with pytest.raises(InputError, match="unknown dataset"):
        domain(name)


def test_class_names_are_no_markup_in_a_page(pictures, bench, tmp_path):
    data = pictures()
    (data / "classes.csv").write_text("0,background\n1,<script>alert(1)</script>[bold]\n")
    assert bench(data, "--labels", "2") == 0
    (page,) = tmp_path.glob("runs/*/*/*/*/report/index.html")
    assert "<script>alert(1)" not in page.read_text(encoding="utf-8")
    (record,) = tmp_path.glob("runs/*/*/*/*/run.json")
    assert "<script>alert(1)</script>[bold]" in json.dumps(json.loads(record.read_text()))
