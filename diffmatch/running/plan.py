"""From what the user asks for to what will be done: settings, data, split and run folder, with nothing written yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffmatch import plugins
from diffmatch.card import Preset
from diffmatch.data.fingerprint import Fingerprint, concerning, made_of
from diffmatch.data.loading import labelled_pixels
from diffmatch.data.opening import cache_root, fabricated_data, find_data, open_domain, size_for
from diffmatch.data.splits import Split, make_split
from diffmatch.domain import Card, Domain, InputError
from diffmatch.learning import registry
from diffmatch.learning.method import Method, Statistics
from diffmatch.model.start import Start, read_start
from diffmatch.records.folder import RunFolder, budget_folder
from diffmatch.records.schema import DataId, Members, RunRecord, Versions
from diffmatch.settings import Section, Settings, resolve
from diffmatch.shared.files import digest
from diffmatch.shared.seeds import seed_of


@dataclass(frozen=True)
class Job:
    """One run as asked for.

    Attributes:
        overrides: dotted settings from a file and the command line.
        fabricated: train on the plugin's fabricated data, even where $DIFFMATCH_DATA has real ones.
        invented: size of the fabricated data where they are used; 0: as large as the labels need.
        split: a folder of split lists or the name of an installed family; None: what the plugin or the store has for
            `labels`.
        init: a finished run or an exported model whose weights the run starts from.
        again: the folder of the run that this job takes up; its record takes the place of today's recipe and lists.
    """

    dataset: str
    method: str
    labels: str | None = None
    seed: int = 0
    preset: Preset = "quick"
    data: Path | None = None
    out: Path = Path("runs")
    overrides: Mapping[str, Any] = field(default_factory=dict)
    devices: int = 1
    workers: int | None = None
    tensorboard: bool = False
    split: str | None = None
    fabricated: bool = False
    invented: int = 0
    init: Path | None = None
    again: Path | None = None


@dataclass
class Plan:
    """A job resolved against what is on disk. Nothing is written yet.

    Attributes:
        fingerprint: of the data as they are now.
        data: as the run's record has them.
        earlier_hash: what older records of the same run have in place of `hash`: their data are known by the names and
            sizes of the files alone.
    """

    job: Job
    domain: Domain
    fingerprint: Fingerprint
    data: DataId
    settings: Settings[Section]
    split: Split
    pixels: np.ndarray[Any, np.dtype[np.int64]]
    hash: str
    folder: RunFolder
    versions: Versions
    earlier_hash: str
    start: Start | None = None

    @property
    def card(self) -> Card:
        return self.domain.card

    @property
    def name(self) -> str:
        """Of the run among those of its data set, method and labels: `<seed>-<hash>`."""
        return f"{self.job.seed}-{self.hash}"

    @property
    def statistics(self) -> Statistics:
        return Statistics(
            tuple(int(n) for n in self.pixels.sum(0)), len(self.split.labelled), len(self.split.unlabelled)
        )

    @property
    def names(self) -> tuple[str, str]:
        """`name`, and what older records of the same run are called."""
        return self.name, f"{self.job.seed}-{self.earlier_hash}"

    @property
    def labelled_pixels(self) -> dict[str, int]:
        """Class name -> labelled pixels."""
        return dict(zip(self.card.names, self.statistics.pixels, strict=True))

    def fits(self, record: RunRecord) -> bool:
        """Whether the labelled masks hold what a run of one of `names` has recorded of them."""
        return list(record.labels.pixels.items()) == list(self.labelled_pixels.items())

    def build(self, settings: Settings[Section] | None = None, pretrained: bool = True) -> Method[Section]:
        """The method with its initial weights: those of the extractor depend on the seed alone.

        Args:
            settings: in place of the plan's.
            pretrained: false where a checkpoint is loaded next: the encoder's weights need not be there any more.
        """
        settings = settings or self.settings
        if not pretrained:
            network = settings.network.model_copy(update={"weights": "none"})
            settings = settings.model_copy(update={"network": network})
        torch.manual_seed(seed_of(self.job.seed, "weights"))
        return registry.method(self.job.method).build(self.card, settings, self.statistics)

    def members(self) -> Members:
        """The split by ids, as it is recorded."""
        split = self.split
        return Members(
            labelled=sorted(item.id for item in split.labelled),
            unlabelled=sorted(item.id for item in split.unlabelled),
            val=sorted(item.id for item in split.val),
            test=sorted(item.id for item in split.test),
            cases=sorted({item.case for item in split.items}),
            contents=concerning(self.domain, self.fingerprint.files, split.items),
            made=made_of(self.domain, split.items),
        )


def settings_of(
    domain: type[Domain] | Domain, method: type[Method[Section]], preset: Preset, overrides: Mapping[str, Any]
) -> Settings[Section]:
    """Engine defaults < recipe < preset < overrides.

    A recipe's `method.*` holds for every method that has such an option.

    Raises:
        InputError: the recipe has no such preset, or settings that do not fit.
    """
    if preset not in domain.recipe.presets:
        raise InputError(
            f"--preset {preset}: {domain.card.name} has no such preset; it has {', '.join(domain.recipe.presets)}"
        )
    recipe = domain.recipe.settings(preset)
    known = {f"method.{name}" for name in method.Options.model_fields}
    own = {key: value for key, value in recipe.items() if key in known or not key.startswith("method.")}
    return resolve(method.Options, own, overrides)


Opened = dict[tuple[str, Path], tuple[Domain, Fingerprint]]
"""(dataset, root) -> the domain on it and its fingerprint.

The plans of many jobs on one data set read its headers once.
"""


def plan(job: Job, opened: Opened | None = None) -> Plan:
    """Resolve a job.

    Args:
        opened: where the job's data are looked for first, and kept.

    Raises:
        InputError: whatever of it cannot be done, in one line.
    """
    kind, method = plugins.domain(job.dataset), registry.method(job.method)
    settings_of(kind, method, job.preset, job.overrides)  # a misspelt setting is refused before any data are touched
    size = job.invented or size_for(kind, [job.labels or kind.card.budgets[0]])
    root, fabricated = (fabricated_data(kind, size), True) if job.fabricated else find_data(kind, job.data, size)
    opened = {} if opened is None else opened
    place = job.dataset, root
    if place not in opened:
        opened[place] = open_domain(kind, root)
    domain, fingerprint = opened[place]
    settings = settings_of(domain, method, job.preset, job.overrides)
    for name in ("mean", "std"):
        if (given := len(getattr(settings.data, name))) != domain.card.channels:
            raise InputError(
                f"data.{name}: {given} values for the {domain.card.channels} channels of {domain.card.name}; "
                "give one for each"
            )
    split = make_split(
        domain, job.labels, settings.data.split_seed, job.split, partial=fabricated, pool=method.views.unlabelled
    )
    domain = domain.fitted(split.labelled)
    pixels = labelled_pixels(domain, split.labelled)
    start = read_start(job.init) if job.init else None
    versions = Versions(card=domain.card.version, recipe=domain.recipe.version, method=method.version)
    name, earlier = (
        run_hash(job.dataset, job.method, settings, split.sha256, data, versions, start.sha256 if start else None)
        for data in (fingerprint.sha256, fingerprint.names_and_sizes)
    )
    path = job.out / domain.card.name / job.method / budget_folder(split.budget) / f"{job.seed}-{name}"
    job = replace(job, fabricated=fabricated, invented=size if fabricated else 0)
    data = DataId(
        root=recorded_root(job, root),
        fabricated=fabricated,
        invented=job.invented,
        fingerprint=fingerprint.sha256,
        fingerprint_of="contents",
    )
    folder = RunFolder(path)
    return Plan(job, domain, fingerprint, data, settings, split, pixels, name, folder, versions, earlier, start)


def recorded_root(job: Job, root: Path) -> str:
    """Where a job's data are, as its record has it: relative to the cache where they are fabricated there."""
    return str(root.relative_to(cache_root()) if job.fabricated else root)


def run_hash(
    dataset: str,
    method: str,
    settings: Settings[Section],
    split: str,
    fingerprint: str,
    versions: Versions,
    init: str | None,
) -> str:
    """Eight digits that two runs share only if they train the same: on the same data and split, with the same settings.

    Args:
        split, fingerprint: hashes of the split and of the data.
        init: hash of the weights that the run starts from, None without.
    """
    identity = {
        "settings": trained(settings),
        "split": split,
        "data": fingerprint,
        "dataset": dataset,
        "method": [method, versions.method],
        "card": versions.card,
        "recipe": versions.recipe,
    }
    return digest(identity | ({"init": init} if init else {}))[:8]


def trained(settings: Settings[Section]) -> dict[str, Any]:
    """Settings that enter the run hash.

    Unset method options are left out, so adding an option does not change the hash of finished runs.
    """
    tree = settings.model_dump(mode="json")
    tree["method"] = {key: value for key, value in tree["method"].items() if value is not None}
    return tree


def parameter_counts(method: Method[Section]) -> dict[str, int]:
    """Trainable parameters: ``total``, and ``extractor`` where the method has one."""
    trainable = {name: p.numel() for name, p in method.named_parameters() if p.requires_grad}
    counts = {"total": sum(trainable.values())}
    if extractor := sum(count for name, count in trainable.items() if ".extractor." in name):
        counts["extractor"] = extractor
    return counts
