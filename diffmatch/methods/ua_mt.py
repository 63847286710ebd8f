"""UA-MT: Mean Teacher, taught only where the teacher's own noise leaves it certain."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from diffmatch.domain import Card
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.labelling import Labelling, in_mode
from diffmatch.learning.losses import consistency_loss, entropy, supervised_loss
from diffmatch.learning.method import Statistics, Views
from diffmatch.learning.pseudo_labels import PseudoLabels, confident, cutmix
from diffmatch.learning.weak_to_strong import in_one_pass
from diffmatch.methods.mean_teacher import MeanTeacher, MeanTeacherOptions
from diffmatch.networks.segmenter import ClassifierNetwork, upsample
from diffmatch.settings import Section, Settings


class UAMTOptions(MeanTeacherOptions):
    """The paper's values: T = 8, noise 0.1 cut off at 0.2, dropout 0.5, weight 0.1 of the mean over the classes.

    The weight rises through the whole training.
    """

    weight: float = Field(default=0.1, ge=0)
    ramp: float = Field(default=1.0, gt=0, le=1)
    passes: int = Field(default=8, ge=1, description="T")
    noise: float = Field(
        default=0.1, ge=0, description="standard deviation on the normalised image, cut off at twice as much"
    )
    dropout: float = Field(
        default=0.5, ge=0, lt=1, description="of channels before the classifier; none where the encoder drops"
    )


class DropoutNetwork(ClassifierNetwork):
    """A classifier on the extractor's features, of whose channels some are dropped in train mode.

    None are where the encoder drops values itself, as SSL4MIS's 2D U-Net does, with which it trains UA-MT on ACDC.
    """

    def __init__(self, card: Card, settings: Settings[Section], rate: float) -> None:
        super().__init__(card, settings)
        drops = any(isinstance(module, nn.Dropout) for module in self.extractor.encoder.modules())
        self.dropout = nn.Identity() if drops else nn.Dropout2d(rate)

    def forward(self, images: Tensor, perturbed: Tensor | None = None) -> Tensor:
        z = self.dropout(self.extractor(images, perturbed))
        return upsample(self.classifier(z), images.shape[-2:])


class UAMT(MeanTeacher[UAMTOptions]):
    """L = L_sup + w(t) L_c with L_c = sum_v 1[u_v < H] |f'_v - f_v|^2 / (C sum_v 1[u_v < H]) (Yu et al. 2019, Eq. 3).

    u = - sum_c mu_c ln mu_c, with mu the mean of T passes of the teacher (Eq. 2). The target f' is one more such pass.
    In each of them the image has its own noise and the teacher is in train mode, with dropout and with BatchNorm
    statistics of its own: only its parameters are averaged. The student sees the weak view without noise; its dropout
    is active. H = (3/4 + 1/4 ramp) ln 2 rises through the training by exp(-5 (1 - t/t_max)^2). The student predicts.
    Settings of the authors: the options' defaults, alpha 0.99, V-Net on left atria, SGD 0.01, 6,000 steps.

    Differs from the authors' code: dropout is that before the classifier, V-Net's second one; `unet16` has SSL4MIS's
    inside and none there. L_c is the mean over the classes for any C; SSL4MIS, whose figures on ACDC are quoted most,
    divides by 2 with four classes too. H ends at ln 2 for any C, as in both. The T passes follow one by one, theirs two
    at a time. `data.cutmix` mixes what the student sees and what it is taught; theirs has none. Audits count the
    teacher in eval mode, without noise: u is the entropy of its one prediction there.
    """

    views = Views(strong=0)
    labelling = Labelling("teacher", "train", "own")
    features = "dropout before the classifier"
    use = "mean_teacher where it is certain"
    version = 2  # teacher in train mode with dropout, noisy target, plain student view, mean over classes, ln 2
    title = "UA-MT"
    citation = "Yu et al., MICCAI 2019"
    threshold: Tensor

    def __init__(self, card: Card, settings: Settings[UAMTOptions], statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        self.register_buffer("threshold", torch.tensor(self.threshold_at(Progress(0, 1))))

    def build_network(self) -> nn.Module:
        return DropoutNetwork(self.card, self.settings, self.settings.method.dropout)

    def threshold_at(self, progress: Progress) -> float:
        """H, in nats."""
        return (0.75 + 0.25 * progress.ramp()) * math.log(2)

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        labelled, pool, options = batch.labelled, batch.unlabelled, self.settings.method
        self.threshold.fill_(self.threshold_at(progress))
        with torch.no_grad(), in_mode(self.teacher, "train"):
            taught = confident(self.noisy(pool.weak), 0.0)
            pseudo = taught._replace(accepted=self.uncertainty(pool.weak) < self.threshold)
        images = cutmix(pool.weak, pool.boxes)
        own, student = in_one_pass(self.network, (labelled.images, False), (images, False))
        accepted = cutmix(pseudo.accepted & pool.inside, pool.boxes)
        target = cutmix(pseudo.probabilities, pool.boxes)
        consistency = consistency_loss(student, target, accepted, accepted) / target.shape[1]
        terms = {
            "sup": supervised_loss(self.settings.train.loss, own, labelled.masks),
            "unsup": options.weight * progress.ramp(options.ramp) * consistency,
        }
        return Losses.of(terms, pseudo, pool.inside)

    def noisy(self, images: Tensor) -> Tensor:
        """The teacher's probabilities (N, C, H, W) of the images (N, dates, channels, H, W) with noise."""
        noise = torch.randn_like(images).clamp(-2, 2)
        scores: Tensor = self.teacher(images + self.settings.method.noise * noise)
        return scores.softmax(1)

    def uncertainty(self, images: Tensor) -> Tensor:
        """u of images (N, dates, channels, H, W): entropy of the mean over T passes, in nats, (N, H, W)."""
        passes = self.settings.method.passes
        return entropy(sum((self.noisy(images) for _ in range(passes)), torch.zeros(())) / passes)

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        pseudo = super().pseudo_labels(images, keys, inside)
        return pseudo._replace(accepted=entropy(pseudo.probabilities) < self.threshold)

    @property
    def predictor(self) -> nn.Module:
        return self.network
