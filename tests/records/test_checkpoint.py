"""A checkpoint is complete or not there, and nothing in one is ever executed."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from diffmatch import domain
from diffmatch.domain import InputError
from diffmatch.records import checkpoint

CONTENT: dict[str, Any] = {
    "step": 3,
    "method": {"w": torch.arange(4.0)},
    "optimizer": {},
    "scaler": {},
    "rng": torch.get_rng_state(),
    "settings": {},
    "split": "a" * 64,
    "elapsed": 1.5,
    "best": {"value": float("-inf"), "step": 0},
}


class Code:
    """Unpickling makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_round_trip(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "a.ckpt", CONTENT)
    loaded = checkpoint.load(tmp_path / "a.ckpt", "a" * 64, "0-1")
    assert torch.equal(loaded["method"]["w"], CONTENT["method"]["w"]) and torch.equal(loaded["rng"], CONTENT["rng"])
    assert {key: loaded[key] for key in ("step", "elapsed", "best")} == {
        key: CONTENT[key] for key in ("step", "elapsed", "best")
    }
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize("where", ["write", "replace"])
def test_a_crash_while_saving_leaves_the_old_file(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ckpt"
    checkpoint.save(path, CONTENT)
    before = path.read_bytes()
    if where == "write":

        def half(content: Any, handle: Any) -> None:
            handle.write(b"half of it")
            raise OSError("disk full")

        monkeypatch.setattr(torch, "save", half)
    else:

        def crash(*_: Any) -> None:
            raise OSError("killed")

        monkeypatch.setattr(domain.Path, "replace", crash)
    with pytest.raises(OSError, match=r"disk full|killed"):
        checkpoint.save(path, CONTENT | {"step": 4})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"], "the unfinished file is left behind"


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_is_refused_and_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    torch.save({"format": checkpoint.FORMAT, **CONTENT, "method": Code(trap)}, tmp_path / "torch.ckpt")
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Code(trap)))
    for name in ("torch.ckpt", "plain.ckpt"):
        with pytest.raises(InputError, match=name):
            checkpoint.load(tmp_path / name, "a" * 64, "0-1")
    assert not trap.exists()
    torch.load(tmp_path / "torch.ckpt", weights_only=False)
    assert trap.exists()  # the trap works


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_truncated(kept: float, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    checkpoint.save(path, CONTENT)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    with pytest.raises(InputError, match=r"last\.ckpt"):
        checkpoint.load(path, "a" * 64, "0-1")


@pytest.mark.parametrize(
    "foreign",
    [{"state_dict": {}}, {"format": "another-2", **CONTENT}, [1, 2], {"format": checkpoint.FORMAT, "step": 3}],
    ids=["other program", "other version", "a list", "incomplete"],
)
def test_foreign(foreign: Any, tmp_path: Path) -> None:
    torch.save(foreign, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match=r"last\.ckpt: not a checkpoint of this program"):
        checkpoint.load(tmp_path / "last.ckpt", "a" * 64, "0-1")


def test_text_file_missing_file_and_other_split(tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(InputError, match=r"text\.ckpt"):
        checkpoint.load(tmp_path / "text.ckpt", "a" * 64, "0-1")
    with pytest.raises(InputError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "none.ckpt", "a" * 64, "0-1")
    checkpoint.save(tmp_path / "a.ckpt", CONTENT)
    with pytest.raises(InputError, match="belongs to split aaaaaaaa"):
        checkpoint.load(tmp_path / "a.ckpt", "b" * 64, "0-1")


def test_what_training_leaves_is_complete(finished: Any) -> None:
    for name in ("last.ckpt", "val_best.ckpt"):
        content = torch.load(finished.path / name, weights_only=True)
        assert set(content) >= checkpoint.REQUIRED
        assert content["split"] == finished.record().split.sha256 and content["settings"] == finished.record().settings
        states = content["optimizer"]["state"]
        assert states and all(torch.isfinite(state["momentum_buffer"]).all() for state in states.values())
        assert any(key.startswith("teacher.") and "running_mean" in key for key in content["method"])
        assert "prior.ema" in content["method"]
