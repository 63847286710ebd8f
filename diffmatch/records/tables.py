"""Experiments as data: a table's rows and columns in YAML, and the published numbers beside them."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from diffmatch.domain import InputError

MACHINE = ("images_per_second", "volumes_per_second", "train_seconds")
"""Metrics that depend on the machine. They are never compared with published ones."""
COSTS = ("parameters", *MACHINE)
"""Metrics of a column that no row wins or improves on."""


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(Part):
    """A column: at which label budget, and what is printed.

    Attributes:
        group: heading above several columns.
        metric: `primary`, `head`, `tail`, `ece`, `f1`, `accuracy`, `class:<name>`; or a cost: `parameters` (millions),
            `images_per_second` or, where whole volumes are scored, `volumes_per_second`; `train_seconds`.
        backbone: encoder of the paper preset; the quick preset keeps its own.
        published: the column's name in the published CSV.
        set: settings of this column's runs.
    """

    name: str
    group: str = ""
    labels: str | None = None
    metric: str = Field(default="primary", pattern=rf"^(primary|head|tail|ece|f1|accuracy|{'|'.join(COSTS)}|class:.+)$")
    backbone: str | None = None
    published: str | None = None
    set: dict[str, Any] = Field(default_factory=dict)


class Row(Part):
    """A row: a method with settings, scored with `steps` sampler steps.

    Without a method it shows its published numbers alone.

    Attributes:
        records: label budget -> the finished runs `<seed>-<hash>` that the row shows. It is for an earlier version of
            the method, which cannot be run any more: the row reads these records and nothing else.
    """

    name: str
    method: str | None = None
    set: dict[str, Any] = Field(default_factory=dict)
    steps: int | None = Field(default=None, ge=1)
    records: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class Comparable(Part):
    """What a run must share with the published numbers before a difference may be printed.

    Attributes:
        protocol: the name of ours that scores as they did.
        families: the split families that have their members.
        selection: their rule for the epoch, where it is known to be another than the last.
    """

    protocol: str
    families: tuple[str, ...]
    selection: str = ""


class Table(Part):
    """One table.

    Attributes:
        table: its number in the paper; None for a user's own.
        kind: `scores`, or `shares`: the classes' shares of the labelled pixels of the whole set, without training.
        protocol: by name; None for the dataset's default.
        data: data root, relative to the YAML file; None: as on the command line.
        split: a folder of split lists relative to the YAML file, or an installed family.
        set: settings of all its runs.
        redraw: every seed draws its own labelled items, so that the deviation is over seeds and label draws; all rows
            have the same draws.
        ours, baseline: a row, and one or more rows that it is compared with: an improvement row for each.
        comparable: protocol and split families under which the published numbers were made, and how they chose the
            epoch.
    """

    table: int | None = None
    title: str
    dataset: str
    kind: Literal["scores", "shares"] = "scores"
    protocol: str | None = None
    data: str | None = None
    split: str | None = None
    set: dict[str, Any] = Field(default_factory=dict)
    redraw: bool = False
    baseline: Annotated[
        tuple[str, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)
    ] = ()
    ours: str | None = None
    comparable: Comparable | None = None
    columns: tuple[Column, ...] = Field(min_length=1)
    rows: tuple[Row, ...] = Field(min_length=1)
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = {"row": [r.name for r in self.rows], "column": [f"{c.group} {c.name}" for c in self.columns]}
        for part, of_part in names.items():
            if len(set(of_part)) != len(of_part):
                raise ValueError(f"two {part}s have one name")
        return self

    @model_validator(mode="after")
    def _compared_rows_exist(self) -> Self:
        for wanted in (*self.baseline, self.ours):
            if wanted and wanted not in [row.name for row in self.rows]:
                raise ValueError(f"no row '{wanted}'")
        return self

    @property
    def name(self) -> str:
        return f"Table {self.table}" if self.table else self.title

    def asked(self, row: Row, column: Column, preset: str, seed: int) -> dict[str, Any]:
        """Settings of a cell's run of one seed.

        The row's go over the column's, these over the table's; the label draw comes last.
        """
        backbone = {"network.encoder": column.backbone} if column.backbone and preset == "paper" else {}
        draw = {"data.split_seed": seed} if self.redraw else {}
        return {**backbone, **self.set, **column.set, **row.set, **draw}

    @property
    def heading(self) -> str:
        return f"Table {self.table}: {self.title}" if self.table else self.title


@dataclass(frozen=True)
class PublishedNumber:
    """A number of the paper, as printed."""

    value: str
    metric: str
    protocol: str
    source: str


def shipped(kind: Literal["tables", "published"]) -> Path:
    """Where the specifications and the published numbers lie."""
    return Path(str(files("diffmatch_benchmarks") / kind))


def numbers() -> list[int]:
    """The tables that exist."""
    return sorted(int(path.stem.removeprefix("table")) for path in shipped("tables").glob("table*.yaml"))


def load(asked: str) -> Table:
    """A table of the paper by number, or a YAML file.

    Raises:
        InputError: no such table or file, or a field that does not fit.
    """
    path = Path(asked)
    if asked.isdigit():
        path = shipped("tables") / f"table{int(asked):02d}.yaml"
        if not path.is_file():
            raise InputError(
                f"table {asked}: the paper's tables here are {', '.join(map(str, numbers()))}; or name a YAML file"
            )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        table = Table.model_validate(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            f"{asked}: cannot be read as a table in YAML ({type(error).__name__}); see benchmarks/tables"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error", first["msg"])  # a validator's own words, without pydantic's prefix
        raise InputError(f"{asked}: {'.'.join(map(str, first['loc'])) or 'the file'}: {cause}") from error
    beside_file = {"data": table.data, "split": table.split}
    resolved = {
        field: os.path.normpath(path.parent / value)
        for field, value in beside_file.items()
        if value and (path.parent / value).exists()
    }
    return table.model_copy(update=resolved)


def published(table: Table) -> dict[tuple[str, str], PublishedNumber]:
    """(row, published column) -> the paper's number; empty for a user's own table."""
    path = shipped("published") / f"table{table.table or 0:02d}.csv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as handle:
        return {
            (row["row"], row["column"]): PublishedNumber(row["value"], row["metric"], row["protocol"], row["source"])
            for row in csv.DictReader(handle)
        }
