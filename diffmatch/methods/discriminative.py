"""DiffMatch's network without diffusion: "Dis. Baseline" of the paper's Table 5."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from diffmatch.learning.batch import Labelled, Pool
from diffmatch.learning.labelling import Labelling
from diffmatch.learning.method import Views
from diffmatch.learning.pseudo_labels import PseudoLabels
from diffmatch.learning.weak_to_strong import in_one_pass, mixed
from diffmatch.methods.fixmatch import FixMatch, FixMatchOptions
from diffmatch.networks.segmenter import DenoiserNetwork


class DiscriminativeOptions(FixMatchOptions):
    """The paper says neither in which mode the network labels nor whether it mixes images (`data.cutmix`).

    Where `labels` is unset, it is not in the run hash.
    """

    labels: Literal["train", "eval"] | None = Field(
        default=None, description="mode of the network when it labels; unset: eval"
    )


class Discriminative(FixMatch[DiscriminativeOptions]):
    """L = L_sup + L_unsup of FixMatch on g and f with y_t = 0 and t = 1: DiffMatch's z, layers and training.

    It differs from DiffMatch in what the diffusion adds. At the defaults the loss differs too: `train.loss=squared`
    gives it DiffMatch's, without the adjustment. It differs from FixMatch in 3.9 M parameters (R50, D = 256). As
    DiffMatch it labels in eval mode, drops channels of the strong view, mixes no images and has no factor on the loss;
    the paper names the dropped channels and is silent on the rest.
    """

    views = Views(partner=True)
    labelling = Labelling("student", "eval")
    features = "channel dropout"
    factor = 1.0
    family = "consistency"
    use = "what diffusion has to beat"
    version = 2  # the denoiser's branches start at zero
    title = "Dis. Baseline"
    citation = "DiffMatch, Table 5"
    network: DenoiserNetwork

    def build_network(self) -> nn.Module:
        return DenoiserNetwork(self.card, self.settings, diffusion=False)

    def scores(self, images: Tensor, perturbed: Tensor | None = None) -> Tensor:
        t = torch.ones(len(images), device=images.device)
        return self.network.scores(None, self.network.condition(images, perturbed), t, images.shape[-2:])

    def streams(self, labelled: Labelled, pool: Pool) -> tuple[Tensor, PseudoLabels, Tensor]:
        """As FixMatch's in train mode; in eval mode labelled images and strong views share a pass."""
        if self.settings.method.labels == "train":
            own, weak = self.learn(labelled, pool)
            (strong,) = in_one_pass(self.scores, (mixed(pool), True))
            return own, self.accept(weak.softmax(1), pool.inside), strong
        pseudo = self.pseudo_labels(pool.weak, pool.keys, pool.inside)
        own, strong = in_one_pass(self.scores, (labelled.images, False), (mixed(pool), True))
        return own, pseudo, strong
