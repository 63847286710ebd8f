"""The command line as a user meets it: exit codes and one line for what cannot be done."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from diffmatch import plugins
from diffmatch.cli import invoke
from diffmatch.learning import registry


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Fabricated once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def places(tmp_path, cache, monkeypatch):
    """A working folder of the test's own, and no data anywhere."""
    monkeypatch.setenv("DIFFMATCH_CACHE", str(cache))
    monkeypatch.delenv("DIFFMATCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "notes.txt").write_text("no data here")
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text('{"schema": 1, "status"')
    (tmp_path / "list.yaml").write_text("- a\n")
    return tmp_path


def refused(capfd, arguments):
    """Exit code 2, one line on stderr, no traceback; the line."""
    code = invoke(arguments.split())
    error = capfd.readouterr().err
    assert code == 2, error
    assert error.endswith("\n")
    assert error.count("\n") == 1, error
    assert "Traceback" not in error
    assert error.startswith("diffmatch: ")
    assert len(error) > len("diffmatch: \n"), "it says something"
    return error


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("bench acddc", "did you mean 'acdc'"),
        ("bench acdc --method difmatch", "did you mean 'diffmatch'"),
        ("bench acdc --set train.stepz=3", "did you mean 'train.steps'"),
        ("bench acdc --set train.steps=many", "train.steps"),
        ("bench acdc --set train.steps", "key=value"),
        ("bench acdc --set network.encoder=resnet5000", "resnet5000"),
        ("bench acdc --settings none.yaml", "none.yaml"),
        ("bench acdc --settings list.yaml", "list.yaml"),
        ("bench acdc --preset huge", "--preset"),
        ("bench acdc --seed -1", "--seed"),
        ("bench acdc --devices 0", "--devices"),
        ("bench acdc --unknown", "--unknown"),
        ("bench", "dataset"),
        ("bensh acdc", "bensh"),
        ("bench acdc --labels 99", "1, 3, 7 cases"),
        ("bench acdc --labels some", "1, 3, 7 cases"),
        ("bench acdc --data missing", "missing: no such folder"),
        ("bench acdc --data file", "file: no such folder"),
        ("bench acdc --data empty", "empty: the folder is empty"),
        ("bench acdc --data wrong", "wrong: "),
        ("bench msd --data wrong", "dataset.json"),
        ("bench acdc --out file", "file"),
        ("bench acdc --out file/deeper", "file/deeper"),
        ("evaluate empty", "no run.json"),
        ("evaluate missing", "no run.json"),
        ("evaluate file", "no run.json"),
        ("evaluate broken", "run.json"),
        ("evaluate empty --checkpoint best", "--checkpoint"),
        ("evaluate empty --steps 0", "--steps"),
        ("resume empty", "no run.json"),
        ("resume broken", "run.json"),
        ("report empty", "no run.json"),
        ("report missing", "no run.json"),
        ("report broken", "run.json"),
        ("report", "runs"),
        ("cost", "--classes"),
        ("cost acdc --classes 4", "--classes"),
        ("cost --classes 1", "--classes"),
        ("cost nothing", "nothing"),
        ("cost --classes 4 --method nothing", "nothing"),
        ("cost --classes 4 --set network.stride=3", "network.stride"),
        ("describe nothing", "nothing"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(capfd, arguments, told):
    assert told in refused(capfd, arguments)


@pytest.mark.parametrize(
    ("arguments", "variable"),
    [
        ("doctor acdc", "DIFFMATCH_CACHE"),
        ("splits camvid --from lists", "DIFFMATCH_SPLITS"),
        ("new-domain ponds --out file/ponds", None),
    ],
)
def test_a_place_that_cannot_be_written_is_told_in_one_line(capfd, places, monkeypatch, arguments, variable):
    (places / "lists" / "1_16").mkdir(parents=True)
    (places / "lists" / "1_16" / "labeled.txt").write_text("0001TP_006690\n")
    if variable:
        monkeypatch.setenv(variable, str(places / "file" / "below"))
    error = refused(capfd, arguments)
    assert str(places / "file") in error or "file/ponds" in error
    assert variable is None or variable in error


def test_without_a_command_the_help_is_shown(capfd):
    assert invoke([]) == 2
    out, error = capfd.readouterr()
    assert "bench" in out
    assert error.count("\n") == 1


def test_a_refused_run_leaves_no_folder(capfd, places):
    refused(capfd, "bench acdc --labels 99 --out runs")
    refused(capfd, "bench acdc --set train.stepz=3 --out runs")
    assert not (places / "runs").exists()


def test_wrong_data_are_never_replaced_by_invented_ones(capfd, places, monkeypatch):
    monkeypatch.setenv("DIFFMATCH_CACHE", str(places / "cache"))
    refused(capfd, "bench acdc --data empty")
    refused(capfd, "bench acdc --set train.stepz=3")
    assert not (places / "cache").exists(), "nothing was fabricated"


def test_a_failure_of_ours_has_a_traceback_and_code_one(capfd, monkeypatch):
    import diffmatch.running.cost

    def fail(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(diffmatch.running.cost, "cost_of", fail)
    assert invoke(["cost", "--classes", "4"]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_an_interruption_has_its_own_code(capfd, monkeypatch):
    import diffmatch.running.cost

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(diffmatch.running.cost, "cost_of", stop)
    assert invoke(["cost", "--classes", "4"]) == 130


@pytest.mark.parametrize("arguments", ["domains", "methods", "describe acdc", "describe diffmatch"])
def test_what_is_installed_can_be_listed(capfd, arguments):
    assert invoke(arguments.split()) == 0
    out, error = capfd.readouterr()
    assert out
    assert not error


@pytest.mark.parametrize("name", plugins.names(plugins.METHODS))
def test_a_method_is_described_whole(capfd, name):
    """Brackets in a formula are no markup."""
    assert invoke(["describe", name]) == 0
    assert " ".join((registry.method(name).__doc__ or "").split()) in " ".join(capfd.readouterr().out.split())


def test_an_equation_of_a_method_has_a_line_of_its_own(capfd):
    """And prose that the docstring breaks runs on."""
    assert invoke(["describe", "freematch"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert "tau(c) = p~(c) / max p~ * tau (Eq. 7)" in lines
    assert any("over accepted pixels, h- the histogram" in line for line in lines)


@pytest.mark.parametrize("name", plugins.names(plugins.DOMAINS))
def test_a_dataset_is_described_whole(capfd, name):
    """Classes, budgets, protocols, and every setting of its recipe; the number of steps in both presets."""
    assert invoke(["describe", name]) == 0
    out = capfd.readouterr().out
    text = " ".join(out.split())
    domain = plugins.domain(name)
    card, recipe = domain.card, domain.recipe
    said = [
        card.title,
        card.licence,
        card.citation,
        card.note,
        ", ".join(card.budgets),
        *card.names,
        *(p.title for p in card.protocols),
    ]
    missing = [what for what in said if " ".join(what.split()) not in text]
    assert not missing
    rows = {
        line.split()[0]: line.split()[1:]
        for line in out.splitlines()
        if line.startswith(" ") and "." in line.split()[0]
    }
    presets = [recipe.settings(preset) for preset in ("quick", "standard", "paper")]
    assert {key for preset in presets for key in preset} <= set(rows)
    assert rows["train.steps"] == [str(preset.get("train.steps", 0)) for preset in presets]


def test_costs_as_json(capfd):
    sets = " ".join(
        f"--set {s}" for s in ("network.decoder=unet", "network.encoder=plain4", "network.dim=16", "data.crop=64")
    )
    assert invoke(f"cost --classes 3 --method supervised --json {sets}".split()) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["crop"] == 64
    assert found["parameters"]["total"] > 0


def test_help_loads_no_torch_and_no_plugin():
    code = (
        "import sys\nfrom diffmatch.cli import invoke\nassert invoke(['--help']) == 0\n"
        "late = {'torch', 'pandas', 'matplotlib', 'monai', 'diffmatch_acdc', 'diffmatch_reports'} & set(sys.modules)\n"
        "assert not late, late"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "bench" in done.stdout
