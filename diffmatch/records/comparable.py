"""Which runs may be set against each other, and in words what keeps two of them apart."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass

from diffmatch.records.schema import RunRecord
from diffmatch.settings import flatten

SETTINGS = {
    "decoder": "network.decoder",
    "encoder": "network.encoder",
    "weights": "network.weights",
    "stride": "network.stride",
    "dim": "network.dim",
    "batch": "train.batch",
    "crop": "data.crop",
    "resize": "data.resize",
}
"""The conditions that are one setting each."""
NAMES = {"split": "labelled split", "start": "started from", "dim": "channels"}
"""Conditions that are printed under another name."""
FEWEST_CASES = 5
"""Numbers over fewer test cases are said to be so wherever they are shown."""


@dataclass(frozen=True)
class Conditions:
    """What two runs must share before their numbers say which method is better.

    What is compared is no condition: the method and its own settings, the denoiser, losses, rates and augmentation of
    the training. Neither is the seed. A setting that an old record lacks is "".

    Attributes:
        data: real or invented, and the fingerprint; its kind, where it is of more than names and sizes.
        card: its version, which says how the data are read.
        split: hash of the labelled, unlabelled, val and test members.
        weights: of the encoder, before training.
        start: the trained weights that the run started from (`--init`).
        stride, dim: of the extractor's features.
        steps: as set, or the epochs.
    """

    dataset: str
    data: str
    card: str
    split: str
    protocol: str
    preset: str
    decoder: str
    encoder: str
    weights: str
    start: str
    stride: str
    dim: str
    steps: str
    batch: str
    crop: str
    resize: str

    @classmethod
    def of(cls, record: RunRecord, protocol: str) -> Conditions:
        """The conditions of a run whose numbers were scored by `protocol`."""
        settings, data = flatten(record.settings), record.data
        kind = "" if data.fingerprint_of == "names and sizes" else f" of {data.fingerprint_of}"
        return cls(
            dataset=record.dataset,
            data=f"{'invented' if data.fabricated else 'real'} {data.fingerprint[:8]}{kind}",
            card=f"version {record.card.get('version', '')}",
            split=record.split.sha256[:8],
            protocol=protocol,
            preset=str(record.preset),
            start=record.init.sha256[:8] if record.init else "none",
            steps=str(settings.get("train.steps") or f"{settings.get('train.epochs', '')} epochs"),
            **{name: str(settings.get(key, "")) for name, key in SETTINGS.items()},
        )

    def words(self, without: Collection[str] = ()) -> dict[str, str]:
        """Name -> value, as a reader knows them.

        Args:
            without: conditions by attribute, or settings by dotted name, that are left out.
        """
        left_out = {*without, *(name for name, key in SETTINGS.items() if key in without)}
        if {"train.steps", "train.epochs"} & left_out:
            left_out.add("steps")
        return {NAMES.get(name, name): value for name, value in asdict(self).items() if name not in left_out}

    def differences(self, other: Conditions) -> list[str]:
        """What keeps two runs apart, as `weights: none against hub`; empty where they are comparable."""
        own, others = self.words(), other.words()
        return [f"{name}: {own[name]} against {others[name]}" for name in own if own[name] != others[name]]
