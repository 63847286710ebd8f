"""What a trained model is, apart from its weights: it stands in a run's record and travels in an exported file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from diffmatch.card import Card, Reading
from diffmatch.domain import InputError
from diffmatch.learning import registry
from diffmatch.learning.method import Method, Statistics
from diffmatch.records.schema import RunRecord
from diffmatch.settings import Section, Settings, flatten, resolve

FORMAT: Literal[1] = 1
"""Of an exported file. A file of a newer format is refused by name."""


class Manifest(BaseModel):
    """Everything that builds a method without its data set, and that says where its weights are from.

    Attributes:
        format: of the exported file.
        dataset, method: names of the plugins that it was trained by.
        version: of the method.
        run: `<seed>-<hash>`.
        checkpoint: last, or best on val.
        step: after which the weights were kept.
        card: of the data set.
        settings: the run's, resolved.
        reading: how the values of files and arrays became what the network was trained on.
        pixels: labelled pixels per class, in the classes' order.
        labelled, unlabelled: numbers of training items.
        fabricated: the data set was invented by its plugin.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = FORMAT
    dataset: str
    method: str
    version: int
    run: str
    checkpoint: Literal["last", "val"]
    step: int
    card: Card
    settings: dict[str, Any]
    reading: Reading
    pixels: tuple[int, ...]
    labelled: int
    unlabelled: int
    fabricated: bool

    def sampling(self, steps: int | None, draws: int | None, where: Path) -> Manifest:
        """The manifest of the same model that samples with other steps and draws; None leaves them.

        Raises:
            InputError: the method does not sample, so that it could only ignore them.
        """
        if steps is None and draws is None:
            return self
        if not registered(self.method, where).sampled:
            raise InputError(f"{where}: the method {self.method} does not sample; leave out --steps and --draws")
        diffusion, scored = self.settings["diffusion"], self.settings["eval"]
        changed = {
            "diffusion": diffusion | {"steps": steps or diffusion["steps"]},
            "eval": scored | {"draws": draws or scored["draws"]},
        }
        return self.model_copy(update={"settings": self.settings | changed})

    def build(self, where: Path) -> Method[Section]:
        """The method without its weights.

        Args:
            where: the run folder or file, for messages.

        Raises:
            InputError: its plugin is not installed, or a setting is not known.
        """
        kind = registered(self.method, where)
        if kind.version != self.version:
            warnings.warn(
                f"{where}: was trained by version {self.version} of the method {self.method}, {kind.version} is "
                "installed; it may predict otherwise",
                stacklevel=3,
            )
        # The weights that the encoder started from are overwritten, and need not be there any more.
        settings = settings_from(self.settings, kind, where, {"network.weights": "none"})
        return kind.build(self.card, settings, Statistics(self.pixels, self.labelled, self.unlabelled))


def manifest_of(record: RunRecord, checkpoint: Literal["last", "val"], step: int, where: Path) -> Manifest:
    """The manifest of a checkpoint of a run.

    Raises:
        InputError: the record is of schema 1, or its card is of a newer version.
    """
    if record.reading is None or record.versions is None:
        raise InputError(
            f"{where}: its record is of schema {record.schema_version} and does not say how files were read; complete "
            f"it once, beside its data, with: diffmatch resume {where}"
        )
    try:
        return Manifest(
            dataset=record.dataset,
            method=record.method,
            version=record.versions.method,
            run=f"{record.seed}-{record.hash}",
            checkpoint=checkpoint,
            step=step,
            card=Card.model_validate(record.card),
            settings=record.settings,
            reading=Reading.model_validate(record.reading),
            pixels=tuple(record.labels.pixels[name] for name in Card.model_validate(record.card).names),
            labelled=record.split.counts["labelled"],
            unlabelled=record.split.counts["unlabelled"],
            fabricated=record.data.fabricated,
        )
    except (ValidationError, KeyError) as error:
        raise InputError(
            f"{where}: its record cannot be read ({str(error).splitlines()[0]}); it may be of a newer version of "
            "diffmatch-bench"
        ) from error


def registered(method: str, where: Path) -> type[Method[Section]]:
    """The installed method of a model.

    Raises:
        InputError: its plugin is not installed, or is broken.
    """
    if method not in registry.methods.names():
        raise InputError(
            f"{where}: was trained by the method '{method}', which is not installed; install the package it comes from"
        )
    return registry.method(method)


def settings_from(
    stored: Mapping[str, Any], method: type[Method[Section]], where: Path, changes: Mapping[str, Any] | None = None
) -> Settings[Section]:
    """The settings of a record, with some of them changed.

    Args:
        where: the file, for messages.

    Raises:
        InputError: a setting that this version does not know, or a value that does not fit.
    """
    try:
        return resolve(method.Options, flatten(stored), changes or {})
    except InputError as error:
        raise InputError(f"{where}: {error}; it may be of another version of diffmatch-bench") from error
