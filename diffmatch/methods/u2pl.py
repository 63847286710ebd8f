"""U2PL: reliable pixels teach by their labels, unreliable ones by the classes that they certainly are not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from diffmatch.domain import VOID, Card
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.ema import follow, teacher_of, warmed
from diffmatch.learning.labelling import Labelling
from diffmatch.learning.losses import entropy, one_hot, pseudo_loss, supervised_loss
from diffmatch.learning.memory import MemoryBank, draw
from diffmatch.learning.method import Method, Statistics, Views
from diffmatch.learning.pseudo_labels import PseudoLabels, cutmix, mixed_targets
from diffmatch.networks.extractor import conv_bn_relu
from diffmatch.networks.segmenter import ClassifierNetwork, upsample
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


class RepresentationNetwork(ClassifierNetwork):
    """The classifier with a head of representations beside it."""

    def __init__(self, card: Card, settings: Settings[Section]) -> None:
        super().__init__(card, settings)
        dim = settings.network.dim
        self.representation = nn.Sequential(conv_bn_relu(dim, dim, 1), nn.Conv2d(dim, min(256, dim), 1))

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N, C, h, w) and unit representations (N, R, h, w) at the mask stride, float32."""
        z = self.extractor(images)
        return self.classifier(z).float(), F.normalize(self.representation(z).float(), dim=1)


class U2PL(Method[U2PLOptions]):
    """L = L_sup + lambda_u L_u + lambda_c L_c (Wang et al. 2022, Eq. 1-4), with an EMA teacher.

    A pixel is reliable where the teacher's entropy (Eq. 5) is below gamma_t, the (1 - alpha_t) quantile of the batch
    (Eq. 6); alpha_t = alpha_0 (1 - t / T) (Eq. 7). L_u is over reliable pixels; lambda_u (Eq. 8) makes it their mean.
    L_c is InfoNCE on cosine / temperature: anchors of class c are pixels labelled c with p(c) > delta_p (Eq. 9-11),
    their positive is the mean of those drawn (Eq. 12), their negatives come from a bank of keys that are not c (Eq.
    13-16): labelled pixels of another class that rank c among the first r_l, and unreliable pixels that rank c between
    r_l and r_h. Settings of the paper: the options' defaults, CutMix with probability 1/2, SGD 1e-3.

    Differs from the paper: ranks are clipped to C (with C = 3: the least probable class); the bank has 1,000 keys per
    class, those of the first process; p(c) of an anchor is the student's own; limits, ranks and keys come from the
    teacher in eval mode on the weak view, where the authors' code has train mode and the mixed image; the strong view
    has the shared photometry; no epoch of supervision comes first. A medical recipe's Dice takes the place of
    cross-entropy. The teacher predicts, as in the authors' code.
    """

    views = Views(cutmix=0.5)
    labelling = Labelling("teacher", "eval")
    family = "contrastive"
    use = "many classes, uncertain pixels"
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
        self.memory = MemoryBank(classes, options.bank, min(256, settings.network.dim))

    def build_network(self) -> nn.Module:
        return RepresentationNetwork(self.card, self.settings)

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        labelled, pool, options = batch.labelled, batch.unlabelled, self.settings.method
        kind, count, size = self.settings.train.loss, len(labelled.images), labelled.images.shape[-2:]
        with torch.no_grad():
            taught, keys = self.teacher.both(torch.cat([labelled.images, pool.weak]))
            probabilities = upsample(taught[count:], size).softmax(1)
            self.set_limit(entropy(probabilities), pool.inside, options.unreliable * (1 - progress.share))
            pseudo = self.split(probabilities)
            labels, accepted = mixed_targets(pseudo, pool.inside, pool.boxes)
            target = torch.where(accepted, labels, VOID)
            self.remember(keys, taught.softmax(1), labelled.masks, pool.inside)

        scores, anchors = self.network.both(torch.cat([labelled.images, cutmix(pool.strong[0], pool.boxes)]))
        full, wanted = upsample(scores, size), small(torch.cat([labelled.masks, target]), anchors.shape[-2:])
        members = one_hot(wanted, len(self.card.classes)) * scores.detach().softmax(1) > options.sure
        terms = {
            "sup": supervised_loss(kind, full[:count], labelled.masks),
            "unsup": pseudo_loss(kind, full[count:], target, accepted),
            "contrast": options.contrast * self.contrast(anchors, members),
        }
        return Losses.of(terms, pseudo, pool.inside)

    def set_limit(self, uncertainty: Tensor, inside: Tensor, share: float) -> None:
        """gamma_t: `share` of the pixels inside lie above. Where none is inside it stays."""
        ordered, count = torch.where(inside, uncertainty, torch.inf).flatten().sort().values, inside.sum()
        place = ((1 - share) * (count - 1)).long().clamp(min=0)
        self.limit.copy_(torch.where(count > 0, ordered.gather(0, place[None])[0], self.limit))

    def split(self, probabilities: Tensor) -> PseudoLabels:
        """Reliable pixels are accepted."""
        return PseudoLabels(
            probabilities.argmax(1).to(torch.uint8), entropy(probabilities) <= self.limit, probabilities
        )

    def remember(self, keys: Tensor, probabilities: Tensor, masks: Tensor, inside: Tensor) -> None:
        """Put the negative keys (N, R, h, w) of labelled and unlabelled images into the bank."""
        labelled, grid, classes = len(masks), keys.shape[-2:], probabilities.shape[1]
        rank = probabilities.argsort(dim=1, descending=True).argsort(dim=1)
        own, unreliable = small(masks, grid), entropy(probabilities[labelled:]) > self.limit
        of_labelled = (rank[:labelled] < self.low) & ~one_hot(own, classes).bool() & (own != VOID)[:, None]
        of_others = (
            (rank[labelled:] >= self.low)
            & (rank[labelled:] < self.high)
            & (unreliable & small(inside, grid).bool())[:, None]
        )
        self.memory.push(keys, torch.cat([of_labelled, of_others]))

    def contrast(self, representations: Tensor, members: Tensor) -> Tensor:
        """L_c: the mean over classes that have anchors and keys; 0 without any."""
        options = self.settings.method
        anchors, valid = draw(representations, members, options.queries)
        centres = F.normalize((anchors.detach() * valid[..., None]).sum(1), dim=1)
        positive = (anchors * centres[:, None]).sum(2, keepdim=True)
        logits = torch.cat([positive, self.memory.similarities(anchors, options.negatives)], 2) / options.temperature
        weight = (valid & (self.memory.filled > 0)[:, None]).float()
        per_class: Tensor = -(logits.log_softmax(2)[..., 0] * weight).sum(1) / weight.sum(1).clamp(min=1)
        return per_class.sum() / weight.any(1).sum().clamp(min=1)

    def after_step(self, progress: Progress) -> None:
        follow(self.teacher, self.network, warmed(self.settings.method.ema, progress.step))

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        """The teacher's labels; reliable is what the last step's gamma_t says."""
        return self.split(self.probabilities(images, keys))

    @property
    def predictor(self) -> nn.Module:
        return self.teacher


def small(maps: Tensor, grid: Sequence[int]) -> Tensor:
    """Labels or flags (N, H, W) at the nearest positions of the grid (h, w), as integers."""
    return F.interpolate(maps[:, None].float(), size=tuple(grid), mode="nearest-exact")[:, 0].long()
