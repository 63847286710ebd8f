"""ReCo: pixels that are still hard are drawn to their class and pushed from the classes that look alike."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from diffmatch.domain import VOID, Card
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.contrast import class_means, info_nce, related_negatives
from diffmatch.learning.ema import follow, teacher_of, warmed
from diffmatch.learning.grids import nearest
from diffmatch.learning.labelling import Labelling, in_mode
from diffmatch.learning.losses import one_hot, share_weighted_loss, supervised_loss
from diffmatch.learning.memory import draw
from diffmatch.learning.method import Method, Statistics
from diffmatch.learning.pseudo_labels import classmix, confident, cutmix
from diffmatch.networks.representation import RepresentationNetwork
from diffmatch.networks.segmenter import upsample
from diffmatch.settings import Section, Settings


class ReCoOptions(Section):
    """The authors' values."""

    ema: float = Field(default=0.99, ge=0, lt=1)
    weak: float = Field(default=0.7, ge=0, le=1, description="delta_w, confidence from which a pixel is contrasted")
    strong: float = Field(default=0.97, ge=0, le=1, description="delta_s, of the teacher: sure; of the student: easy")
    contrast: float = Field(default=1.0, ge=0, description="weight of L_reco")
    temperature: float = Field(default=0.5, gt=0, description="tau")
    queries: int = Field(default=256, ge=1, description="hard pixels per class and step")
    negatives: int = Field(default=512, ge=1, description="per class")


class ReCo(Method[ReCoOptions]):
    """L = L_sup + L_unsup + L_reco (Liu et al. 2022), with an EMA teacher and ClassMix.

    L_unsup is the mean of eta CE over every pixel of the mixed view, eta the share of its image's pixels where the
    teacher's max p >= delta_s. L_reco contrasts representations at the mask stride. The pixels of class c are those
    labelled c and those that the teacher gives c with max p >= delta_w. Queries are c's pixels where the student's
    p(c) < delta_s, the positive is the mean representation of c, and negatives are pixels of the other classes j, drawn
    with probability softmax over j of cos(mean c, mean j) / tau. Similarity is cosine / tau. The sum over classes is
    divided by the number of classes present; means and negatives carry no gradient.

    The teacher averages parameters alone, labels the weak views in train mode and predicts. Labelled and mixed images
    go through the student apart. `data.cutmix` changes nothing here. Settings of the authors: the options' defaults,
    SGD 2.5e-3 with Nesterov momentum, weight decay 5e-4, 200 epochs of 200 steps, crop 321 on PASCAL and 512 on
    Cityscapes.

    Differs from the authors' code: the queries of a class share its 512 negatives, theirs draw as many for each query.
    A weak view is not scaled and cropped anew before it is mixed; photometry is drawn for each image before mixing,
    theirs for the mixed one, with a flip. A medical recipe's Dice takes the place of cross-entropy.
    """

    labelling = Labelling("teacher", "train", "own")
    family = "contrastive"
    use = "few labels, classes alike"
    title = "ReCo"
    citation = "Liu et al., ICLR 2022"
    network: RepresentationNetwork
    teacher: RepresentationNetwork

    def __init__(self, card: Card, settings: Settings[ReCoOptions], statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        self.teacher = teacher_of(self.network)

    def build_network(self) -> nn.Module:
        return RepresentationNetwork(self.card, self.settings)

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        labelled, pool, options = batch.labelled, batch.unlabelled, self.settings.method
        kind, size, classes = self.settings.train.loss, labelled.images.shape[-2:], len(self.card.classes)
        with torch.no_grad(), in_mode(self.teacher, "train"):
            pseudo = confident(self.teacher(pool.weak).softmax(1), 0)
        pasted = classmix(pseudo.labels, pool.inside, classes)
        target = cutmix(torch.where(pool.inside, pseudo.labels, VOID), pasted)
        confidence = cutmix(pseudo.probabilities.amax(1) * pool.inside, pasted)

        own, represented = self.network.represent(labelled.images)
        mixed, others = self.network.represent(cutmix(pool.strong[0], pasted))
        labels = torch.cat([labelled.masks, torch.where(confidence >= options.weak, target, VOID)])
        probabilities = torch.cat([own, mixed]).detach().softmax(1)
        strong = share_weighted_loss(kind, upsample(mixed, size), target, confidence >= options.strong)
        contrast = self.contrast(torch.cat([represented, others]), nearest(labels, own.shape[-2:]), probabilities)
        terms = {
            "sup": supervised_loss(kind, upsample(own, size), labelled.masks),
            "unsup": strong,
            "contrast": options.contrast * contrast,
        }
        return Losses.of(terms, pseudo, pool.inside)

    def contrast(self, representations: Tensor, labels: Tensor, probabilities: Tensor) -> Tensor:
        """L_reco.

        Args:
            representations: (N, R, h, w).
            labels: (N, h, w), void where a pixel is of no class.
            probabilities: (N, C, h, w), the student's.
        """
        options = self.settings.method
        members = one_hot(labels, probabilities.shape[1]).bool()
        centres = F.normalize(class_means(representations, members), dim=1)
        queries, valid = draw(representations, members & (probabilities < options.strong), options.queries)
        queries = F.normalize(queries, dim=2)
        places = related_negatives(centres @ centres.T / options.temperature, labels, options.negatives)
        negatives = F.normalize(representations.detach().movedim(1, -1).flatten(0, 2)[places], dim=2)
        positive, others = (queries * centres[:, None]).sum(2), queries @ negatives.transpose(1, 2)
        return info_nce(positive, others, valid, members.any(0).flatten(1).any(1), options.temperature)

    def after_step(self, progress: Progress) -> None:
        follow(self.teacher, self.network, warmed(self.settings.method.ema, progress.step), buffers=False)

    @property
    def predictor(self) -> nn.Module:
        return self.teacher
