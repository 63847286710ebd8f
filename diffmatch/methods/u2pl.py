"""U2PL: reliable pixels teach by their labels, unreliable ones by the classes that they certainly are not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from diffmatch.domain import VOID, Card
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.contrast import class_means, info_nce
from diffmatch.learning.ema import follow, teacher_of, warmed_after_an_epoch
from diffmatch.learning.grids import nearest
from diffmatch.learning.labelling import Labelling, in_mode
from diffmatch.learning.losses import entropy, one_hot, pseudo_loss, supervised_loss
from diffmatch.learning.memory import MemoryBank, draw
from diffmatch.learning.method import Method, Statistics, Views
from diffmatch.learning.pseudo_labels import PseudoLabels, cutmix
from diffmatch.networks.representation import RepresentationNetwork
from diffmatch.networks.segmenter import upsample
from diffmatch.settings import Section, Settings


class U2PLOptions(Section):
    """The authors' values, the bank excepted (50,000 keys of background, 30,000 of any other class)."""

    ema: float = Field(default=0.99, ge=0, lt=1)
    unreliable: float = Field(
        default=0.2, ge=0, le=1, description="alpha_0, share of pixels that are unreliable at first"
    )
    contrast: float = Field(default=1.0, ge=0, description="lambda_c")
    temperature: float = Field(default=0.5, gt=0)
    sure: float = Field(default=0.3, ge=0, le=1, description="delta_p, above which a pixel is an anchor of its class")
    ranks: tuple[int, int] = Field(default=(3, 20), description="r_l and r_h; clipped to the number of classes")
    queries: int = Field(default=256, ge=1, description="M, anchors per class and step")
    negatives: int = Field(default=50, ge=1, description="N, per anchor")
    bank: int = Field(default=1000, ge=1, description="negative keys kept per class")


class U2PL(Method[U2PLOptions]):
    """L = L_sup + lambda_u L_u + lambda_c L_c (Wang et al. 2022, Eq. 1-4), with an EMA teacher.

    The teacher labels the weak views in eval mode. All else that it says comes from a pass in train mode over the
    images that the student sees, the labelled and the mixed ones. A mixed pixel is reliable where the entropy (Eq. 5)
    is at most gamma_t, the (1 - alpha_t) quantile of the batch (Eq. 6); alpha_t = alpha_0 (1 - t / T) (Eq. 7). L_u is
    the mean over reliable pixels; lambda_u (Eq. 8) is the number of pixels over that of reliable ones.

    L_c is InfoNCE on cosine / temperature. The pixels of class c are those labelled c and, of the mixed images, those
    whose entropy is in the lowest alpha_t. Anchors are the student's representations of those with p(c) > delta_p
    (Eq. 9-11), the positive is the mean of the teacher's representations of all of them (Eq. 12). Negatives come from a
    bank of keys that are not c (Eq. 13-16): labelled pixels of another class that rank c among the first r_l, and
    unreliable pixels that rank c between r_l and r_h.

    The teacher averages parameters alone and predicts; in the first eightieth of the training it is the student.
    Settings of the authors: the options' defaults, CutMix with probability 1/2, SGD 1e-3 (head x10), 80 epochs on
    PASCAL.

    Differs from the authors' code: CutMix has boxes of its own for each image with probability 1/2, 2 to 40 % of the
    crop, where theirs cuts half of each crop or of none of the batch; the mixed view has the shared photometry, theirs
    none; ranks are clipped to C (with C = 3: the least probable class); the bank has 1,000 keys per class, those of the
    first process; no epoch of supervision comes first; the head of representations has one 3x3 convolution, theirs two.
    In their code a negative key of c must be labelled c as well, so that labelled pixels give none, and the classes
    after an absent one take each other's anchors and keys; neither is copied. A medical recipe's Dice takes the place
    of cross-entropy.
    """

    views = Views(cutmix=0.5)
    labelling = Labelling("teacher", "eval", "own")
    family = "contrastive"
    use = "many classes, uncertain pixels"
    version = 2  # lambda_u, anchors and positives as in the authors' code; entropies from train mode on the mixed view
    title = "U2PL"
    citation = "Wang et al., CVPR 2022"
    limit: Tensor
    network: RepresentationNetwork
    teacher: RepresentationNetwork

    def __init__(self, card: Card, settings: Settings[U2PLOptions], statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        classes, options = len(card.classes), settings.method
        self.teacher = teacher_of(self.network)
        self.high = min(options.ranks[1], classes)
        self.low = min(options.ranks[0], self.high - 1)
        self.register_buffer("limit", torch.tensor(torch.inf))  # gamma_t
        self.memory = MemoryBank(classes, options.bank, self.network.size)

    def build_network(self) -> nn.Module:
        return RepresentationNetwork(self.card, self.settings)

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        labelled, pool, options = batch.labelled, batch.unlabelled, self.settings.method
        kind, count, size = self.settings.train.loss, len(labelled.images), labelled.images.shape[-2:]
        share = options.unreliable * (1 - progress.share)  # alpha_t
        labels = self.pseudo_labels(pool.weak, pool.keys).labels
        target = cutmix(torch.where(pool.inside, labels, VOID), pool.boxes)
        inside = target != VOID
        images = torch.cat([labelled.images, cutmix(pool.strong[0], pool.boxes)])
        with torch.no_grad(), in_mode(self.teacher, "train"):
            taught, keys = self.teacher.represent(images)
            coarse, probabilities = taught.softmax(1), upsample(taught[count:], size).softmax(1)
        uncertainty = entropy(probabilities)
        self.limit.copy_(torch.where(inside.any(), quantile(uncertainty, inside, 1 - share), self.limit))
        certain = torch.where(uncertainty <= quantile(uncertainty, inside, share), target, VOID)
        pseudo = PseudoLabels(target, uncertainty <= self.limit, probabilities)
        reliable = pseudo.accepted & inside
        self.remember(keys, coarse, labelled.masks, inside & ~reliable)

        scores, representations = self.network.represent(images)
        full = upsample(scores, size)
        members = one_hot(nearest(torch.cat([labelled.masks, certain]), keys.shape[-2:]), len(self.card.classes)).bool()
        weight = inside.sum() / reliable.sum().clamp(min=1)  # lambda_u
        terms = {
            "sup": supervised_loss(kind, full[:count], labelled.masks),
            "unsup": weight * pseudo_loss(kind, full[count:], torch.where(reliable, target, VOID), reliable),
            "contrast": options.contrast * self.contrast(representations, keys, coarse, members),
        }
        return Losses.of(terms, pseudo, inside)

    def remember(self, keys: Tensor, probabilities: Tensor, masks: Tensor, unreliable: Tensor) -> None:
        """Put the negative keys (N, R, h, w) of labelled and unlabelled images into the bank, as unit vectors."""
        labelled, grid, classes = len(masks), keys.shape[-2:], probabilities.shape[1]
        rank = probabilities.argsort(dim=1, descending=True).argsort(dim=1)
        own = nearest(masks, grid)
        of_labelled = (rank[:labelled] < self.low) & ~one_hot(own, classes).bool() & (own != VOID)[:, None]
        between = (rank[labelled:] >= self.low) & (rank[labelled:] < self.high)
        of_others = between & nearest(unreliable, grid)[:, None]
        self.memory.push(F.normalize(keys, dim=1), torch.cat([of_labelled, of_others]))

    def contrast(self, representations: Tensor, keys: Tensor, probabilities: Tensor, members: Tensor) -> Tensor:
        """L_c of the student's and the teacher's representations (N, R, h, w), and the teacher's probabilities.

        Args:
            members: (N, C, h, w) bool, each class's pixels.
        """
        options = self.settings.method
        anchors, valid = draw(representations, members & (probabilities > options.sure), options.queries)
        anchors = F.normalize(anchors, dim=2)
        positive = (anchors * F.normalize(class_means(keys, members), dim=1)[:, None]).sum(2)
        negatives = self.memory.similarities(anchors, options.negatives)
        valid = valid & (self.memory.filled > 0)[:, None]
        return info_nce(positive, negatives, valid, members.any(0).flatten(1).any(1), options.temperature)

    def after_step(self, progress: Progress) -> None:
        momentum = warmed_after_an_epoch(self.settings.method.ema, progress)
        follow(self.teacher, self.network, momentum, buffers=False)

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        """The teacher's labels; reliable is what the last step's gamma_t says."""
        probabilities = self.probabilities(images, keys)
        certain = entropy(probabilities) <= self.limit
        return PseudoLabels(probabilities.argmax(1).to(torch.uint8), certain, probabilities)

    @property
    def predictor(self) -> nn.Module:
        return self.teacher


def quantile(values: Tensor, where: Tensor, share: float) -> Tensor:
    """The value that `share` of those at `where` do not exceed, a scalar; infinite where there are none."""
    ordered = torch.where(where, values, torch.inf).flatten().sort().values
    return ordered.gather(0, (share * (where.sum() - 1)).long().clamp(min=0)[None])[0]
