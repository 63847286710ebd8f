"""UA-MT: Mean Teacher, taught only where the teacher's own noise leaves it certain."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from diffmatch.domain import Card
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.method import Statistics
from diffmatch.learning.pseudo_labels import PseudoLabels
from diffmatch.methods.mean_teacher import MeanTeacher, MeanTeacherOptions
from diffmatch.networks.segmenter import ClassifierNetwork, upsample
from diffmatch.settings import Settings
from diffmatch.shared.seeds import seed_of


class UAMTOptions(MeanTeacherOptions):
    """The paper's values: T = 8, noise 0.1 cut off at 0.2, dropout 0.5, weight 0.1.

    The weight rises through the whole training.
    """

    weight: float = Field(default=0.1, ge=0)
    ramp: float = Field(default=1.0, gt=0, le=1)
    passes: int = Field(default=8, ge=1, description="T")
    noise: float = Field(
        default=0.1, ge=0, description="standard deviation on the normalised image, cut off at twice as much"
    )
    dropout: float = Field(default=0.5, ge=0, lt=1, description="of channels before the classifier")


class UAMT(MeanTeacher[UAMTOptions]):
    """Mean Teacher with L_c = sum_v 1[u_v < H] ||f'_v - f_v||^2 / sum_v 1[u_v < H] (Yu et al. 2019, Eq. 3).

    u = - sum_c mu_c ln mu_c, with mu the mean of T stochastic passes of the teacher (Eq. 2). H = (3/4 + 1/4 ramp) ln C
    rises through the training by exp(-5 (1 - t/t_max)^2). The student predicts, as in the authors' code. Settings of
    the paper: the options' defaults, alpha 0.99, V-Net on left atria, SGD 0.01, 6,000 steps.

    Differs from the paper: the teacher's target is a pass without noise. Dropout is that before the classifier, V-Net's
    second one; the networks here have none further in. ln C stands for the paper's ln 2 (C = 2). The noise is seeded by
    the item's key, so that what is accepted does not depend on the batch; CPU and GPU draw other numbers. The squares
    are summed over the classes as in Eq. 3; the authors' code takes their mean, so that its weight of 0.1 is 0.1 / C
    here.
    """

    use = "mean_teacher where it is certain"
    title = "UA-MT"
    citation = "Yu et al., MICCAI 2019"
    network: ClassifierNetwork
    teacher: ClassifierNetwork
    threshold: Tensor

    def __init__(self, card: Card, settings: Settings[UAMTOptions], statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        self.register_buffer("threshold", torch.tensor(self.threshold_at(Progress(0, 1))))

    def threshold_at(self, progress: Progress) -> float:
        """H, in nats."""
        return (0.75 + 0.25 * progress.ramp()) * math.log(len(self.card.classes))

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        self.threshold.fill_(self.threshold_at(progress))
        return super().losses(batch, progress)

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        pseudo = super().pseudo_labels(images, keys, inside)
        return pseudo._replace(accepted=self.uncertainty(images, keys) < self.threshold)

    @torch.no_grad()
    def uncertainty(self, images: Tensor, keys: Sequence[str]) -> Tensor:
        """u of images (N, dates, channels, H, W): entropy of the mean over T passes, in nats, (N, H, W)."""
        options, teacher, device = self.settings.method, self.teacher, images.device
        generators = [
            torch.Generator("cpu" if device.type == "meta" else device).manual_seed(seed_of(key, "uncertainty"))
            for key in keys
        ]
        mean = torch.zeros((), device=device)
        for _ in range(options.passes):
            noise = torch.stack([torch.randn(images.shape[1:], generator=g, device=device) for g in generators])
            z = teacher.extractor(images + options.noise * noise.clamp(-2, 2))
            kept = (
                torch.stack([torch.rand(z.shape[1], 1, 1, generator=g, device=device) for g in generators])
                >= options.dropout
            )
            scores = teacher.classifier(z * kept / (1 - options.dropout))
            mean = mean + upsample(scores, images.shape[-2:]).softmax(1) / options.passes
        return -(mean * mean.clamp(min=1e-6).log()).sum(1)

    @property
    def predictor(self) -> nn.Module:
        return self.network
