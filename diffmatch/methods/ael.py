"""AEL: a bank of class confidence steers pasting, mixing and learning to the classes that the network knows least."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from diffmatch.domain import VOID, Card
from diffmatch.learning.batch import Batch, Labelled, Losses, Pool, Progress
from diffmatch.learning.class_confidence import ClassConfidence
from diffmatch.learning.components import bounding_box, random_component
from diffmatch.learning.copy_paste import paste, rescaled
from diffmatch.learning.ema import follow, teacher_of, warmed
from diffmatch.learning.grids import nearest
from diffmatch.learning.labelling import Labelling, in_mode
from diffmatch.learning.losses import dice_loss, one_hot, per_pixel, supervised_loss
from diffmatch.learning.method import Method, Statistics, Views
from diffmatch.learning.pseudo_labels import PseudoLabels, ThresholdOptions, accepted_by, cutmix, unmixed_targets
from diffmatch.networks.extractor import ceil_div
from diffmatch.networks.segmenter import ClassifierNetwork
from diffmatch.settings import Settings


class AELOptions(ThresholdOptions):
    """The authors' values; where two data sets differ, Cityscapes' (threshold: PASCAL's, which is 0 on Cityscapes)."""

    threshold: float = Field(default=0.7, ge=0, le=1, description="of the largest probability; 0 accepts all")
    ema: float = Field(default=0.99, ge=0, lt=1)
    momentum: float = Field(default=0.999, ge=0, lt=1, description="of the bank of class confidence")
    power: float = Field(default=2.0, ge=0, description="gamma of the loss's weights, confidence^gamma")
    weight: float = Field(default=1.0, ge=0, description="of both consistency terms")
    paste: float = Field(default=0.5, ge=0, le=1, description="share of the labelled images that are pasted on")
    pasted: int = Field(default=3, ge=1, description="draws of a class to paste (1 on PASCAL)")
    scale: tuple[float, float] = Field(default=(0.1, 2.0), description="smallest and largest size of what is pasted")
    held: float = Field(default=0.01, ge=0, le=1, description="share of an image from which it holds a class")
    area: float = Field(default=0.005, ge=0, le=1, description="share of an image that a mixed component exceeds")


class AEL(Method[AELOptions]):
    """L = L_sup + L_c(labelled) + L_c(mixed unlabelled), with a bank b_k of the student's confidence in each class.

    b_k <- 0.999 b_k + 0.001 (mean p(k) over labelled pixels of class k)
    L_c =  sum_i w_i H(teacher's label, p_i),  w_i = a_i^2 s_i / sum_j a_j^2 s_j
    with a the teacher's confidence, and s_i = 1 with probability (1 - b_k) / max (1 - b), where k is the student's own
    label of pixel i: the pixels of the weakest class are all learnt.

    Adaptive Copy-Paste: classes that are no head class are drawn with softmax((1 - b)^(1/2)), and half of the labelled
    images receive their pixels, with labels, from another labelled image at another size. Adaptive CutMix: a class is
    drawn with softmax(1 - b), and the box is what bounds a connected component of it in the teacher's map of an image
    that holds it.

    A pixel with a < threshold has no loss, but its weight stays in the sum. The teacher teaches the labelled images
    too. It is an EMA of the parameters, labels in train mode, and predicts. There is no photometric strong view.
    Settings of the authors: the options' defaults; OHEM, SGD 1e-2 (head x10), ResNet-101 with an auxiliary head; on
    Cityscapes threshold 0, 200 epochs, crop 769; on PASCAL 80 epochs, crop 513, one class pasted, area and held 0.03.

    Differs from the authors' code: partner, class and source are drawn among the images of the step, where theirs are
    drawn from the whole set with a record of who holds what. A class that no partner holds, or has no component as
    large, gets the shared box, theirs half of the image. Components are found on the grid of the mask stride. Head
    classes have more than the mean share of the labelled pixels; theirs are Cityscapes' 0, 1, 2, 8, 10 on every set.
    Void and padding have no weight. `data.cutmix` sets another probability of mixing, 0 turns it off. A medical
    recipe's Dice takes the place of cross-entropy, with the same weights. No auxiliary head. As in their code, a class
    that a step lacks counts as confidence 0, so that rare classes drift to weak.
    """

    views = Views(strong=0, cutmix=1.0, partner=True)
    labelling = Labelling("teacher", "train", "own")
    family = "class-imbalance"
    use = "imbalanced street scenes, rare classes"
    title = "AEL"
    citation = "Hu et al., NeurIPS 2021"
    network: ClassifierNetwork
    tail: Tensor

    def __init__(self, card: Card, settings: Settings[AELOptions], statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        self.teacher = teacher_of(self.network)
        self.bank = ClassConfidence(len(card.classes), settings.method.momentum)
        pixels = torch.tensor(statistics.pixels).float()
        self.register_buffer("tail", pixels <= pixels.mean(), persistent=False)

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        pool, weight = batch.unlabelled, self.settings.method.weight
        images, masks = self.paste(batch.labelled)
        views = [pool.weak] if pool.partner is None else [pool.weak, pool.partner.weak]
        with torch.no_grad(), in_mode(self.teacher, self.labelling.mode):
            own = self.accept(self.teacher(images), masks != VOID)
            labels = self.teacher(torch.cat(views)).split(len(pool.weak))
        pseudo = self.accept(labels[0], pool.inside)
        mixed, target, confidence = self.mix(pool, pseudo, labels[-1])
        scores, strong = self.network(images), self.network(mixed)
        self.bank.update(scores.detach().softmax(1), masks)
        terms = {
            "sup": supervised_loss(self.settings.train.loss, scores, masks),
            "sup_consistency": weight * self.consistency(scores, *taught(own, masks != VOID)),
            "unsup": weight * self.consistency(strong, target, confidence),
        }
        return Losses.of(terms, pseudo, pool.inside)

    def accept(self, scores: Tensor, inside: Tensor | None) -> PseudoLabels:
        return accepted_by(scores.softmax(1), self.settings.method, inside)

    def paste(self, labelled: Labelled) -> tuple[Tensor, Tensor]:
        """Images and masks after adaptive Copy-Paste: the source is the next labelled image of the step."""
        options, masks = self.settings.method, labelled.masks
        drawn = torch.multinomial(self.bank.chances(0.5, self.tail), options.pasted, replacement=True)
        classes = torch.zeros_like(self.tail).scatter(0, drawn, True)
        receives = torch.rand(len(masks), device=masks.device) < options.paste
        other, theirs = rescaled(labelled.images.roll(-1, 0), masks.roll(-1, 0), *options.scale)
        return paste(labelled.images, masks, other, theirs, receives[:, None] & classes)

    def mix(self, pool: Pool, pseudo: PseudoLabels, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images after adaptive CutMix, what they are taught and how confident the teacher is of it.

        Args:
            scores: the teacher's, of the partners (U, C, H, W).
        """
        target, confidence = taught(pseudo, pool.inside)
        if pool.partner is None:
            return pool.weak, target, confidence
        theirs = taught(self.accept(scores, pool.partner.inside), pool.partner.inside)
        boxes, chosen = self.boxes(scores.argmax(1), pool.partner.inside, pool.boxes)
        mixed, target, confidence = (
            cutmix(mine, boxes, other[chosen])
            for mine, other in zip((pool.weak, target, confidence), (pool.partner.weak, *theirs), strict=True)
        )
        return mixed, target, confidence

    def boxes(self, labels: Tensor, inside: Tensor, shared: Tensor) -> tuple[Tensor, Tensor]:
        """Adaptive CutMix boxes (U, H, W), and which partner each image takes, (U,).

        Args:
            labels: (U, H, W), of the partners.
            inside: (U, H, W) bool, false in the partners' padding.
            shared: (U, H, W) bool, the boxes where no partner holds the class; an image without one is not mixed.
        """
        options, (count, *size) = self.settings.method, labels.shape
        grid = [ceil_div(side, self.network.extractor.stride) for side in size]
        small = nearest(torch.where(inside, labels, VOID), grid)
        drawn = torch.multinomial(self.bank.chances(), count, replacement=True)
        shares = one_hot(small, len(self.card.classes)).mean((2, 3))
        holds = shares[:, drawn].transpose(0, 1) >= options.held
        lots = torch.where(holds, torch.rand(holds.shape, device=holds.device), -1.0).max(1)
        chosen = torch.where(lots.values >= 0, lots.indices, torch.arange(count, device=labels.device))
        found = bounding_box(random_component(small[chosen] == drawn[:, None, None], options.area))
        adaptive = torch.where(found.any((1, 2), keepdim=True), nearest(found, size), shared)
        return adaptive & shared.any((1, 2), keepdim=True), chosen

    def consistency(self, scores: Tensor, target: Tensor, confidence: Tensor) -> Tensor:
        """L_c of scores (N, C, H, W): more of the pixels that the student gives to weak classes, the sure ones first.

        Args:
            target: (N, H, W), the teacher's labels, void where there is no loss.
            confidence: (N, H, W), a, 0 outside of the images.
        """
        kind, rates = self.settings.train.loss, self.bank.rates[scores.argmax(1)]
        weight = confidence**self.settings.method.power * (torch.rand(rates.shape, device=rates.device) < rates)
        if kind == "ce_dice":
            return dice_loss(scores, target, weight) * weight.any()
        return (per_pixel(kind, scores, target) * weight).sum() / weight.sum().clamp(min=1e-12)

    def after_step(self, progress: Progress) -> None:
        follow(self.teacher, self.network, warmed(self.settings.method.ema, progress.step), buffers=False)

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        return self.accept(self.teacher(images), inside)

    @property
    def predictor(self) -> nn.Module:
        return self.teacher


def taught(pseudo: PseudoLabels, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (N, H, W), void where they are not accepted or not inside, and the confidence, 0 where not inside."""
    target, accepted = unmixed_targets(pseudo, inside)
    return torch.where(accepted, target, VOID), pseudo.probabilities.amax(1) * inside
