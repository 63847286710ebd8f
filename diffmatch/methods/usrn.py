"""USRN: classes are split into balanced subclasses, whose predictions filter the pseudo-labels of the classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from diffmatch.domain import VOID, Card
from diffmatch.learning.batch import Batch, Labelled, Losses, Progress
from diffmatch.learning.ema import teacher_of
from diffmatch.learning.grids import nearest
from diffmatch.learning.labelling import Labelling, in_mode
from diffmatch.learning.losses import entropy, one_hot, pseudo_loss, supervised_loss
from diffmatch.learning.memory import MemoryBank
from diffmatch.learning.method import Method, Statistics
from diffmatch.learning.pseudo_labels import PseudoLabels, ThresholdOptions, accepted_by, confident, mixed_targets
from diffmatch.learning.subclasses import Subclasses, numbers_of_subclasses
from diffmatch.learning.weak_to_strong import mixed
from diffmatch.networks.extractor import ceil_div
from diffmatch.networks.segmenter import ClassifierNetwork, build_extractor, upsample
from diffmatch.settings import Section, Settings

MOST = VOID - 1
"""Subclasses in all: a subclass is a label of a mask."""


class USRNOptions(ThresholdOptions):
    """Threshold and weights are the authors'; the rest stands for what they do before the training."""

    threshold: float = Field(default=0.75, ge=0, le=1, description="of the largest probability; 0 accepts all")
    subclass_weight: float = Field(default=1.0, ge=0, description="of both losses of the subclasses")
    weight: float = Field(default=1.0, ge=0, description="of both losses of the unlabelled images")
    subclasses: float = Field(default=8.0, ge=1, description="per class on average, 254 in all at most")
    warmup: float = Field(default=0.1, ge=0, lt=1, description="share of the training before features are gathered")
    gather: float = Field(default=0.02, ge=0, lt=1, description="share of the training in which they are gathered")
    bank: int = Field(default=2000, ge=1, description="features per class that are clustered")


class SubclassNetwork(ClassifierNetwork):
    """The classifier, and a second network of its kind whose outputs are subclasses."""

    def __init__(self, card: Card, settings: Settings[Section], subclasses: int) -> None:
        super().__init__(card, settings)
        self.sub_extractor = build_extractor(card, settings)
        self.sub_classifier = self.sub_extractor.classifier(subclasses)

    def heads(self, images: Tensor, pooled: bool = False) -> tuple[Tensor, Tensor]:
        """Scores of classes (N, C, h, w) and of subclasses (N, S, h, w), float32, at the mask stride.

        Args:
            pooled: z is averaged over 2 x 2 positions first.
        """
        z, sub_z = self.extractor(images), self.sub_extractor(images)
        if pooled:
            z, sub_z = halved(z), halved(sub_z)
        return self.classifier(z).float(), self.sub_classifier(sub_z).float()


class USRN(Method[USRNOptions]):
    """L = L_sup + L_sup^sub + L_u^sub + L_u (Guan et al. 2022), from a network F of classes and F_sub of subclasses.

    Each class is split into balanced clusters of its labelled features, the more of them the more frequent it is, so
    that the subclasses are about equally frequent. F labels the weak view with p, F_sub with q.

    L_u^sub = mean 1[max q > threshold] H(argmax q, F_sub(strong))
    p~      = p where H(q) / log S > H(p) / log C, else p of the class that argmax q is part of and 0 for all others
    L_u     = mean 1[max p~ > threshold] H(argmax p~, F(strong))

    So the gate closes where F_sub is the more certain one. The means are over all positions of the decoders' maps,
    averaged over 2 x 2. The student labels in train mode; there is no teacher and no CutMix. F predicts. Settings of
    the authors: threshold 0.75, weights 1, DeepLabv3+ with ResNet-50, SGD 1e-2 on PASCAL (80 epochs, crop 320), 2e-2 on
    Cityscapes (480 epochs, crop 720), encoder at a tenth.

    Differs from the authors' code: they train a supervised baseline first, cluster its features of all labelled images
    and begin anew with fixed subclass masks. Here the first `warmup` of the training is supervised; its extractor is
    then frozen, its features are gathered over `gather` and clustered, and F goes on while F_sub begins as its copy.
    The frozen extractor gives the labelled pixels of each later step their subclasses. Balanced clusters are k-means
    with prices, theirs regularised k-means. They list the number of every class's clusters by split, 6 to 10 on
    average, without a rule; the one here gives theirs on Cityscapes, within one. Their networks share the stem and the
    first stage, these share nothing, and have no dropout before the classifiers. The strong view has the shared
    photometry. A medical recipe's Dice takes the place of cross-entropy in F.
    """

    labelling = Labelling("student", "train")
    family = "class-imbalance"
    use = "few dominant classes, rare rest"
    title = "USRN"
    citation = "Guan et al., CVPR 2022"
    network: SubclassNetwork

    def __init__(self, card: Card, settings: Settings[USRNOptions], statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        self.baseline = teacher_of(self.network.extractor)
        dim = self.network.extractor.dim
        self.subclasses = Subclasses(self.counts, dim)
        self.memory = MemoryBank(len(card.classes), settings.method.bank, dim)

    def build_network(self) -> nn.Module:
        return SubclassNetwork(self.card, self.settings, sum(self.counts))

    @property
    def counts(self) -> list[int]:
        """K_c, subclasses per class."""
        pixels = self.statistics.pixels
        return numbers_of_subclasses(pixels, min(int(self.settings.method.subclasses * len(pixels)), MOST))

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        labelled, pool, options = batch.labelled, batch.unlabelled, self.settings.method
        kind, size = self.settings.train.loss, labelled.masks.shape[-2:]
        weight, sub_weight = options.weight, options.subclass_weight
        sub_masks = self.split(labelled, progress)
        own, own_sub = (upsample(scores, size) for scores in self.network.heads(labelled.images))
        strong, strong_sub = self.network.heads(mixed(pool), pooled=True)
        with torch.no_grad():
            weak, weak_sub = (scores.softmax(1) for scores in self.network.heads(pool.weak, pooled=True))
        inside, boxes = (nearest(flags, weak.shape[-2:]) for flags in (pool.inside, pool.boxes))
        pseudo, sub = self.gated(weak, weak_sub, inside), self.once_found(confident(weak_sub, options.threshold))
        terms = {
            "sup": supervised_loss(kind, own, labelled.masks),
            "sup_sub": sub_weight * supervised_loss("ce", own_sub, sub_masks),
            "unsup": weight * pseudo_loss(kind, strong, *mixed_targets(pseudo, inside, boxes)),
            "unsup_sub": weight * sub_weight * pseudo_loss("ce", strong_sub, *mixed_targets(sub, inside, boxes)),
        }
        return Losses.of(terms, pseudo, inside)

    def gated(self, p: Tensor, q: Tensor, inside: Tensor | None = None) -> PseudoLabels:
        """Pseudo-labels of p (N, C, h, w) where q (N, S, h, w) is the less certain one, of what q lets pass elsewhere.

        Their probabilities are p with 0 for the classes that the gate holds back. Nothing is accepted before there are
        subclasses.
        """
        parents = one_hot(self.subclasses.parents[q.argmax(1)], p.shape[1])
        opened = normalised_entropy(q) > normalised_entropy(p)
        return self.once_found(accepted_by(p * parents.maximum(opened[:, None]), self.settings.method, inside))

    def once_found(self, pseudo: PseudoLabels) -> PseudoLabels:
        return pseudo._replace(accepted=pseudo.accepted & self.subclasses.found)

    @torch.no_grad()
    def split(self, labelled: Labelled, progress: Progress) -> Tensor:
        """The subclass of every labelled pixel, (B, H, W) uint8, void before there are subclasses.

        At two steps, which the settings alone decide, the extractor is frozen, and its features are clustered.
        """
        options, extractor = self.settings.method, self.network.extractor
        first = int(options.warmup * progress.steps)
        last = max(first + 1, int((options.warmup + options.gather) * progress.steps))
        if progress.step == first:
            self.baseline.load_state_dict(extractor.state_dict())
        if progress.step == last:
            self.subclasses.find(self.memory.keys, self.memory.filled)
            self.network.sub_extractor.load_state_dict(extractor.state_dict())
        z = halved(self.baseline(labelled.images)).float()
        masks = nearest(labelled.masks, z.shape[-2:])
        if first <= progress.step < last:
            members = one_hot(masks, len(self.card.classes)).bool()
            self.memory.push(z, members, most=ceil_div(options.bank, last - first))  # so that all steps have a part
        return nearest(self.subclasses.of(z, masks), labelled.masks.shape[-2:])

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        with in_mode(self.network, "eval"):
            p, q = (scores.softmax(1) for scores in self.network.heads(images, pooled=True))
        small = None if inside is None else nearest(inside, p.shape[-2:])
        labels, accepted, probabilities = self.gated(p, q, small)
        size = images.shape[-2:]
        large = F.interpolate(probabilities, size=size, mode="nearest-exact")
        return PseudoLabels(nearest(labels, size), nearest(accepted, size), large)


def halved(z: Tensor) -> Tensor:
    """The mean over 2 x 2 positions."""
    return F.avg_pool2d(z, 2, ceil_mode=True)


def normalised_entropy(probabilities: Tensor) -> Tensor:
    """The entropy of (N, K, h, w) as a share of the largest possible, (N, h, w), comparable between C and S classes."""
    return entropy(probabilities) / math.log(probabilities.shape[1])
