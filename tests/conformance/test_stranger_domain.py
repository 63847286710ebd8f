"""A stranger's complete domain of at most 80 lines, without invented data: every command works on the data it is given.

Where a command would need invented data it says so in one line and exits with 2.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffmatch import plugins
from diffmatch.cli import invoke
from diffmatch.records.folder import find_runs

PLUGIN = Path(__file__).parent / "kelp"
REFUSAL = "kelp: this domain cannot invent data; name yours with --data, or put them into $DIFFMATCH_DATA/kelp."


@pytest.fixture
def kelp(tmp_path, install_plugin):
    """The plugin installed from a copy of its folder."""
    install_plugin(Path(shutil.copytree(PLUGIN, tmp_path / "plugin")))
    return plugins.domain("kelp")


@pytest.fixture
def root(tmp_path):
    """Sixteen photographs of 2021 and 2022, four of them without a mask, and three of 2023."""
    rng, root = np.random.default_rng(0), tmp_path / "kelp"
    for folder in ("tiles", "labels"):
        (root / folder).mkdir(parents=True)
    for number in range(19):
        mask = np.zeros((40, 48), np.uint8)
        mask[rng.integers(4, 20) :, :16], mask[:9, 30:41], mask[0] = 100, 200, 255
        name = f"{2021 + number // 8}_{number:03d}"
        noise = rng.integers(0, 60, (*mask.shape, 3))
        Image.fromarray((mask[..., None] // 2 + noise).astype(np.uint8)).save(root / "tiles" / f"{name}.jpg")
        if number % 8 < 6:
            Image.fromarray(mask).save(root / "labels" / f"{name}.png")
    return root


def test_the_plugin_is_short():
    assert len((PLUGIN / "diffmatch_kelp.py").read_text().splitlines()) <= 80


def test_it_passes_the_suite_on_given_data(kelp, root, capsys):
    assert invoke(["check", "kelp", "--data", str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  skipped fabricate: this domain cannot invent data" in lines
    assert sum(line.startswith("  passes") for line in lines) == 12


def test_it_trains_scores_and_predicts(kelp, root, stub, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFMATCH_DATA", str(root.parent))
    sets = stub(train__steps=2, network__stride=4, data__resize=None, train__loss="ce")
    words = [word for key, value in sets.items() if key != "data.resize" for word in ("--set", f"{key}={value}")]
    assert invoke(["doctor", "kelp"]) == 0
    assert invoke(["bench", "kelp", "--labels", "1/4", "--workers", "0", "--out", str(tmp_path / "runs"), *words]) == 0
    (run,) = find_runs(tmp_path / "runs")
    record = run.record()
    assert record.status == "done" and not record.data.fabricated and "test" in record.metrics
    photograph = root / "tiles" / "2023_016.jpg"
    assert invoke(["predict", str(run.path), str(photograph), "--out", str(tmp_path / "masks")]) == 0
    (mask,) = (tmp_path / "masks").glob("*.png")
    assert set(np.unique(np.asarray(Image.open(mask)))) <= {0, 100, 200}


@pytest.mark.parametrize("command", ["check kelp", "doctor kelp", "bench kelp --labels 1/4", "table {table}"])
def test_without_data_a_command_says_what_it_needs(kelp, command, tmp_path, capsys):
    table = tmp_path / "kelp.yaml"
    table.write_text(
        "title: kelp\ndataset: kelp\nprotocol: whole\n"
        "columns: [{name: IoU, labels: 1/4}]\nrows: [{name: ours, method: supervised}]\n"
    )
    assert invoke(command.format(table=table).split()) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert REFUSAL in line and "kelp.example" in line


@pytest.mark.parametrize("command", ["domains", "describe kelp", "cost kelp --preset quick", "splits kelp"])
def test_commands_that_read_no_data_need_none(kelp, command, capsys):
    code = invoke(command.split())
    output = capsys.readouterr()
    assert REFUSAL not in output.out + output.err
    assert code == 0 or "no split lists of kelp" in output.err
