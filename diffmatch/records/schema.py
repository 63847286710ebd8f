"""run.json and evaluations/*.json: their fields. The JSON schemas beside this file are made from them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = 1
Status = Literal["running", "done", "failed", "interrupted"]


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Labels(Record):
    """The labelled set: the budget as typed, its unit, the labelled item ids and their pixels per class."""

    budget: str
    unit: Literal["images", "cases"]
    items: list[str]
    pixels: dict[str, int]


class SplitId(Record):
    """Family name, and sha256 of the sorted labelled, unlabelled, val and test ids.

    Tables never mix hashes in a column.
    """

    family: str
    sha256: str
    asked: str | None = Field(default=None, description="what --split named: a folder of lists or an installed family")
    counts: dict[str, int] = Field(description="items: labelled, unlabelled, val, test")


class DataId(Record):
    """Where the data are (below the cache folder if they are invented), and the hash of their file names and sizes."""

    root: str
    fabricated: bool
    invented: int = Field(default=0, description="size of fabricated data, in units of the smallest set")
    fingerprint: str


class RunRecord(Record):
    """run.json. A number not computed is absent, never 0."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    status: Status
    reason: str | None = Field(default=None, description="why a run failed or stopped")
    dataset: str
    method: str
    seed: int
    preset: Literal["quick", "paper"]
    overrides: dict[str, Any]
    labels: Labels
    split: SplitId
    data: DataId
    card: dict[str, Any] = Field(description="the dataset's card as it was: reports need no plugin")
    settings: dict[str, Any]
    hash: str
    parameters: dict[str, int]
    timing: dict[str, float]
    environment: dict[str, Any]
    warnings: list[str] = Field(default_factory=list)
    metrics: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="split -> numbers of the last checkpoint"
    )

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class EvaluationRecord(Record):
    """evaluations/*.json: which checkpoint was scored on what and how. The .npz beside it holds the counts."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    checkpoint: Literal["last", "val"]
    step: int
    selection: str = Field(description="the rule by which this checkpoint was chosen")
    split: Literal["test", "val", "unlabeled"]
    protocol: str
    steps: int
    draws: int
    seconds: float
    images_per_second: float
    environment: dict[str, Any]
    metrics: dict[str, Any]

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    @property
    def name(self) -> str:
        return f"{self.checkpoint}-{self.split}-{self.protocol}-{self.steps}x{self.draws}"
