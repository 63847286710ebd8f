"""A new plugin is whole at once: it installs, its own tests pass, and no name leads to a broken one."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib

import pytest

from diffmatch import plugins
from diffmatch.cli import invoke
from diffmatch.conformance.method import CHECKS
from diffmatch.conformance.new_plugin import write_domain, write_method
from diffmatch.domain import InputError
from diffmatch.learning import registry


def test_a_new_plugin_installs_and_passes_its_own_tests(tmp_path, install_plugin):
    folder = write_domain("my_ponds", tmp_path)
    assert folder == tmp_path / "diffmatch-my-ponds"
    about = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert about["name"] == "diffmatch-my-ponds"
    assert about["entry-points"] == {"diffmatch.domains": {"my_ponds": "diffmatch_my_ponds:MyPondsDomain"}}
    site = install_plugin(folder)
    domain = plugins.domain("my_ponds")
    assert domain.__name__ == "MyPondsDomain" and domain.card.title == "my ponds"
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        env=os.environ | {"PYTHONPATH": str(site)},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert tests.returncode == 0, tests.stdout
    from diffmatch.conformance.domain import CHECKS as DOMAIN_CHECKS

    assert f"{len(DOMAIN_CHECKS)} passed" in tests.stdout
    with pytest.raises(InputError, match=r"'my_ponds' is taken"):
        write_domain("my_ponds", tmp_path / "elsewhere")


def test_a_new_method_installs_and_passes_its_own_tests(tmp_path, install_plugin):
    """A stranger's method is 40 lines."""
    folder = write_method("my_glow", tmp_path)
    assert folder == tmp_path / "diffmatch-my-glow"
    assert len((folder / "diffmatch_my_glow.py").read_text().splitlines()) <= 40
    site = install_plugin(folder)
    method = registry.method("my_glow")
    assert method.__name__ == "MyGlow" and list(method.Options.model_fields) == ["threshold", "limits", "weight"]
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        env=os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert tests.returncode == 0, tests.stdout
    assert f"{len(CHECKS) + 1} passed" in tests.stdout
    assert invoke(["check", "my_glow"]) == 0
    with pytest.raises(InputError, match=r"'my_glow' is taken"):
        write_method("my_glow", tmp_path / "elsewhere")


@pytest.mark.parametrize("write", [write_domain, write_method])
def test_what_is_written_is_clean_to_the_linter(write, tmp_path):
    folder = write("a", tmp_path)
    for words in (["check", "--select", "E,F,W,N,UP,B,C4,SIM,RUF,PTH"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "--isolated", "--line-length", "120", str(folder)]
        ruff = subprocess.run(command, capture_output=True, text=True)
        assert ruff.returncode == 0, ruff.stdout


@pytest.mark.parametrize(
    "name", ["", "Ponds", "my-ponds", "my ponds", "1st", "_ponds", "ponds_", "a__b", "../up", "pönds"]
)
def test_what_is_no_name_is_refused(name, tmp_path):
    with pytest.raises(InputError, match="cannot name a plugin"):
        write_domain(name, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["acdc", "bench", "reports", "acdc_phantom"])
def test_a_name_that_would_hide_something_installed_is_refused(name, tmp_path):
    with pytest.raises(InputError, match=f"'{name}' is taken"):
        write_domain(name, tmp_path)


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "diffmatch-ponds").mkdir()
    assert invoke(["new-domain", "ponds", "--out", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err and not list((tmp_path / "diffmatch-ponds").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/diffmatch-ponds: cannot be written"):
        write_domain("ponds", tmp_path / "file")
