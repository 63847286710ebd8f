"""run.json and evaluations/*.json: their fields. The JSON schemas beside this file are made from them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from diffmatch.card import Preset
from diffmatch.settings import flatten

SCHEMA: Literal[2] = 2
"""Of run.json. Schema 1 lacked `reading`, `versions`, `headlines`, `init` and the file split.json; it is still read."""
EVALUATION_SCHEMA: Literal[1] = 1
FingerprintOf = Literal["names and sizes", "contents"]
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
    """Where the data are (below the cache folder if they are invented), and the hash by which they are known again."""

    root: str
    fabricated: bool
    invented: int = Field(default=0, description="size of fabricated data, in units of the smallest set")
    fingerprint: str
    fingerprint_of: FingerprintOf = Field(
        default="names and sizes",
        description="what of the files it is a hash of: their contents and what the plugin makes of them, or, in older "
        "records, their names and sizes",
    )


class Members(Record):
    """split.json: who was labelled, unlabelled and scored, by item id, so that the split is found again without a draw.

    Attributes:
        cases: of all of them. Files that were added to the set later belong to others.
        contents: file -> digest of what it holds, of all files but those that only other items refer to.
        made: hash of what the plugin made of them: classes, channels, reading and each member's own files.
        files: of records without `contents`, the hash of names and sizes of the members' own files; None where the
            items name no files.
    """

    labelled: list[str]
    unlabelled: list[str]
    val: list[str]
    test: list[str]
    cases: list[str]
    contents: dict[str, str] | None = None
    made: str | None = None
    files: str | None = None


class Init(Record):
    """The trained weights that a run started from (`--init`)."""

    source: str = Field(description="the run folder or file, as it was named")
    dataset: str
    method: str
    sha256: str = Field(description="of the weights; it enters the run hash")
    fitted: int = Field(description="tensors that were taken over")
    fresh: list[str] = Field(description="tensors of this run that started as without --init")
    unused: list[str] = Field(description="tensors of the source that found no place")


class Versions(Record):
    """Of the card, the recipe and the method that the run was made with; they enter its hash."""

    card: int
    recipe: int
    method: int


class RunRecord(Record):
    """run.json. A number not computed is absent, never 0."""

    schema_version: Literal[1, 2] = Field(default=SCHEMA, alias="schema")
    status: Status
    reason: str | None = Field(default=None, description="why a run failed or stopped")
    dataset: str
    method: str
    seed: int
    preset: Preset
    overrides: dict[str, Any]
    labels: Labels
    split: SplitId
    data: DataId
    card: dict[str, Any] = Field(description="the dataset's card as it was: reports need no plugin")
    settings: dict[str, Any]
    reading: dict[str, Any] | None = Field(
        default=None, description="how the values of files and arrays became what the network was trained on"
    )
    versions: Versions | None = None
    init: Init | None = None
    hash: str
    parameters: dict[str, int]
    timing: dict[str, float]
    environment: dict[str, Any]
    warnings: list[str] = Field(default_factory=list)
    metrics: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="split -> numbers of the last checkpoint"
    )
    headlines: dict[str, str] = Field(
        default_factory=dict, description="split -> name of the evaluation that its numbers in `metrics` come from"
    )

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    @property
    def changes(self) -> dict[str, Any]:
        """What was asked for beyond recipe and preset: dotted settings, and as `init` the weights it started from."""
        return flatten(self.overrides) | ({"init": self.init.sha256[:8]} if self.init else {})


class EvaluationRecord(Record):
    """evaluations/*.json: which checkpoint was scored on what and how. The .npz beside it holds the counts."""

    schema_version: Literal[1] = Field(default=EVALUATION_SCHEMA, alias="schema")
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
