"""DAW: UniMatch whose threshold is where the confidence of right and of wrong labelled pixels parts."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from diffmatch.domain import VOID, Card
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.confidence import ConfidenceAlignment, CrossingThreshold
from diffmatch.learning.labelling import in_mode
from diffmatch.learning.method import Statistics
from diffmatch.learning.pseudo_labels import PseudoLabels
from diffmatch.methods.unimatch import UniMatch, UniMatchOptions
from diffmatch.settings import Settings


class DAWOptions(UniMatchOptions):
    """The authors' values. The momentum is theirs for tens of thousands of steps."""

    threshold: float = Field(default=0.95, ge=0, le=1, description="tau before two Gaussians first cross")
    limits: None = Field(default=None, description="not here: the threshold follows the labelled pixels")
    momentum: float = Field(default=0.99, ge=0, lt=1, description="of the running means and variances")


class DAW(UniMatch[DAWOptions]):
    """UniMatch with max p' >= tau in place of its fixed threshold (Sun et al. 2023).

    tau is where a Gaussian of the confidence of rightly predicted labelled pixels crosses one of wrongly predicted
        pixels; their means and variances are running ones: `learning.confidence.CrossingThreshold`. It is brought up
        to date before it is used.
    p'_c is p_c l_c / q_c, normalised; l_c and q_c are the running means of max p over the labelled and over the weak
        pixels that are predicted as c: `learning.confidence.ConfidenceAlignment`. Label and confidence come from p'.
    Settings of the authors: the options' defaults, 80 epochs on PASCAL, crop 513, batch 8 + 8, SGD 1e-3 (head x10),
    OHEM on Cityscapes.

    tau starts at 0.95, falls to about 1/C as soon as the Gaussians cross, and with this momentum needs some hundred
    steps to rise: the first steps of a run accept nearly all pixels, and a short run consists of them.

    Differs from the authors' code: void and padding are left out of both statistics (what their code leaves out comes
    from a data set file that is not there). Means, variances and confidences are of the pixels of all processes
    together; theirs are means over the processes' means, and the confidences each process's own. All else is as of
    `unimatch`. The student predicts; theirs also scores an average of it.
    """

    use = "long runs, no fixed threshold"
    family = "self-training"
    version = 1
    title = "DAW"
    citation = "Sun et al., NeurIPS 2023"

    def __init__(self, card: Card, settings: Settings[DAWOptions], statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        classes, options = len(card.classes), settings.method
        self.limit = CrossingThreshold(classes, options.momentum, options.threshold)
        self.alignment = ConfidenceAlignment(classes, options.momentum)

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        labelled, pool, other = batch.labelled, batch.unlabelled, batch.unlabelled.partner
        probabilities, inside = [], [pool.inside]
        if other is not None:
            with torch.no_grad(), in_mode(self.network, "eval"):
                probabilities.append(self.scores(other.weak).softmax(1))
            inside.append(other.inside)
        own, weak, features = self.learn_both(labelled, pool)
        probabilities.insert(0, weak.softmax(1))
        predicted = own.detach().softmax(1)
        self.alignment.update(predicted, labelled.masks != VOID, torch.cat(probabilities), torch.cat(inside))
        self.limit.update(predicted, labelled.masks)
        pseudo, *pasted = ((self.accept(p, where), where) for p, where in zip(probabilities, inside, strict=True))
        return self.taught(batch, own, features, pseudo[0], pasted[0] if pasted else None)

    def accept(self, probabilities: Tensor, inside: Tensor | None) -> PseudoLabels:
        """Aligned probabilities, their labels, and where their maximum reaches tau."""
        aligned = self.alignment(probabilities)
        confidence, labels = aligned.max(1)
        return PseudoLabels(labels.to(torch.uint8), confidence >= self.limit.value, aligned)
