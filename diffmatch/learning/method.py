"""What a method must answer, and nothing about data, schedule or scoring.

A method is one file with one class. It is found through the entry-point group ``diffmatch.methods``; its state is its
state_dict.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Self, TypeVar, get_args, get_origin

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diffmatch.domain import Card, InputError, Item
from diffmatch.learning.batch import Batch, Losses, Pool, Progress
from diffmatch.learning.labelling import Labelling, in_mode
from diffmatch.learning.pseudo_labels import Pasted, PseudoLabels
from diffmatch.networks.encoders import encoder_parameters
from diffmatch.networks.segmenter import ClassifierNetwork
from diffmatch.settings import Data, MethodOptions, Section, Settings


class Views(NamedTuple):
    """What a method needs of each unlabelled image besides its weak view.

    Attributes:
        unlabelled: False: the pool is not even read.
        strong: number of strong views.
        cutmix: probability of a CutMix box where `data.cutmix` does not say.
        partner: CutMix takes another draw of the pool (`Pool.partner`), not the next image of the batch.
        photometry: of the strong views; `random_intensity` is AugSeg's.
    """

    unlabelled: bool = True
    strong: int = 1
    cutmix: float = 0.0
    partner: bool = False
    photometry: Literal["standard", "random_intensity"] = "standard"

    def mixing(self, data: Data) -> float:
        """Probability of a CutMix box: the setting, or the method's own where it is unset."""
        return self.cutmix if data.cutmix is None else data.cutmix


@dataclass(frozen=True)
class Statistics:
    """What is known of the training set before the first step: labelled pixels per class and the number of items."""

    pixels: tuple[int, ...]
    labelled: int
    unlabelled: int


class Method(nn.Module, ABC, Generic[MethodOptions]):
    """Base of all methods. `class Mine(Method[MyOptions])` names the model behind `method.*`.

    Attributes:
        Options: that model, taken from the brackets; a method without options writes `Method[Section]`.
        views: what it needs of the unlabelled pool.
        labelling: whose pseudo-labels it learns from.
        features: how it perturbs features, "none" where it does not.
        factor: the authors' factor on the whole loss. A published rate belongs to the loss that it was published with,
            so that the step at that rate is the authors'.
        title, citation: for tables.
        family, use: the group that `diffmatch methods` lists it in, and when one would use it, in five words.
        sampled: its predictions come from a sampler with steps and draws; otherwise an evaluation's are 1 and 1.
        version: part of the run hash; a change that alters what is trained raises it.
        network: what it trains, from `build_network`.
    """

    Options: ClassVar[type[Section]] = Section
    views: ClassVar[Views] = Views()
    labelling: ClassVar[Labelling] = Labelling()
    features: ClassVar[str] = "none"
    factor: ClassVar[float] = 1.0
    family: ClassVar[str] = "other"
    use: ClassVar[str] = ""
    title: ClassVar[str]
    citation: ClassVar[str]
    version: ClassVar[int] = 1
    sampled: ClassVar[bool] = False
    network: nn.Module
    settings: Settings[MethodOptions]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in getattr(cls, "__orig_bases__", ()):
            origin = get_origin(base)
            if isinstance(origin, type) and issubclass(origin, Method):
                (options,) = get_args(base)
                if isinstance(options, TypeVar):
                    options = options.__bound__
                if isinstance(options, type) and issubclass(options, Section):
                    cls.Options = options

    def __init__(self, card: Card, settings: Settings[MethodOptions], statistics: Statistics) -> None:
        super().__init__()
        self.card, self.settings, self.statistics = card, settings, statistics
        self.network = self.build_network()

    @classmethod
    def build(cls, card: Card, settings: Settings[MethodOptions], statistics: Statistics) -> Self:
        """The method with fresh weights. Its convolutions run channels-last (benchmarks/speed/results/layout.md)."""
        return cls(card, settings, statistics).to(memory_format=torch.channels_last)

    def build_network(self) -> nn.Module:
        """The network that is trained: unless a method says otherwise, a classifier on the extractor's features."""
        return ClassifierNetwork(self.card, self.settings)

    @abstractmethod
    def losses(self, batch: Batch, progress: Progress) -> Losses:
        """One step's losses. Random numbers come from torch's global generator, which is seeded for every step."""

    def probabilities(self, images: Tensor, keys: Sequence[str], offset: tuple[int, int] = (0, 0)) -> Tensor:
        """Prediction for images (N, dates, channels, H, W): (N, C, H, W) float32. Called in eval mode without gradient.

        Args:
            keys: one per image (a scene's windows share its key).
            offset: of a window's first pixel in its scene.
        """
        scores: Tensor = self.predictor(images)
        return scores.softmax(1)

    def draws(self, images: Tensor, keys: Sequence[str], offset: tuple[int, int] = (0, 0)) -> Tensor:
        """The predictions of which `probabilities` is the mean, one a noise draw: (R, N, C, H, W) float32.

        A method that samples overrides this; all others have one draw.
        """
        return self.probabilities(images, keys, offset)[None]

    def noise_shape(self, size: Sequence[int]) -> tuple[int, int, int]:
        """Channels, height and width of the noise of an image (H, W), for a method that samples."""
        raise InputError(
            f"the method {self.title} samples and defines no noise_shape; it cannot be exported as a graph"
        )

    def draws_from(self, noise: Tensor, images: Tensor) -> Tensor:
        """`draws` of given standard normal noise (R, N, *noise_shape), for a method that samples.

        The exported graph is this function: tensors in, tensors out, no keys.
        """
        raise InputError(f"the method {self.title} samples and defines no draws_from; it cannot be exported as a graph")

    @property
    def predictor(self) -> nn.Module:
        """The network whose scores (N, C, H, W) are the prediction; some methods answer with their teacher."""
        return self.network

    def trajectory(self, images: Tensor, keys: Sequence[str]) -> Tensor:
        """Label maps after each sampling step, (S, N, H, W) uint8; one step where there is no sampler."""
        return self.probabilities(images, keys).argmax(1).to(torch.uint8)[None]

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        """What the teacher would teach on these images: the prediction, accepted everywhere unless a method overrides.

        Args:
            inside: (N, H, W) bool, false in padding, for a method that counts pixels; None: all is image.
        """
        with in_mode(self, "eval"):
            probabilities = self.probabilities(images, keys)
        labels = probabilities.argmax(1).to(torch.uint8)
        return PseudoLabels(labels, torch.ones_like(labels, dtype=torch.bool), probabilities)

    def pasted(self, pool: Pool) -> Pasted | None:
        """What CutMix pastes besides pixels, labelled in eval mode; None where it pastes the next image or nothing."""
        other = pool.partner
        return None if other is None else (self.pseudo_labels(other.weak, other.keys, other.inside), other.inside)

    def after_step(self, progress: Progress) -> None:
        """Called after each optimiser step, with that step (EMA teachers follow here)."""

    def sample_weights(self, items: Sequence[Item], pixels: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Draw weights of the labelled items given their pixels per class (items, C); None draws them evenly."""
        return None

    def parameter_groups(self) -> list[dict[str, Any]]:
        """`params` and `lr_scale`: encoders at the base rate, all else at `train.head_lr_scale` times it.

        An encoder is a module that `networks.encoders.build_encoder` made or `as_encoder` marked.
        """
        slow = encoder_parameters(self)
        trainable = [parameter for parameter in self.parameters() if parameter.requires_grad]
        encoder = [parameter for parameter in trainable if id(parameter) in slow]
        rest = [parameter for parameter in trainable if id(parameter) not in slow]
        groups = [
            {"params": encoder, "lr_scale": 1.0},
            {"params": rest, "lr_scale": self.settings.train.head_lr_scale},
        ]
        return [group for group in groups if group["params"]]

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all parts but the teachers (`ema.teacher_of`), which stay in eval mode."""
        super().train(mode)
        for module in self.modules():
            if getattr(module, "is_teacher", False):
                module.eval()
        return self
