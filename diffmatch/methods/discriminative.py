"""DiffMatch's network without diffusion: "Dis. Baseline" of the paper's Table 5."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffmatch.methods.fixmatch import FixMatch
from diffmatch.networks.segmenter import DenoiserNetwork


class Discriminative(FixMatch):
    """FixMatch's losses on g and f with y_t = 0 and t = 1: the same z, layers and weak-to-strong training as DiffMatch.

    It differs from DiffMatch in what the diffusion adds. At the defaults the loss differs too: `train.loss=squared`
    gives it DiffMatch's, without the adjustment. It differs from FixMatch in 3.9 M parameters (R50, D = 256).
    """

    version = 2  # the denoiser's branches start at zero
    title = "Dis. Baseline"
    citation = "DiffMatch, Table 5"
    network: DenoiserNetwork

    def build_network(self) -> nn.Module:
        return DenoiserNetwork(self.card, self.settings, diffusion=False)

    def scores(self, images: Tensor, perturbed: Tensor | None = None) -> Tensor:
        t = torch.ones(len(images), device=images.device)
        return self.network.scores(None, self.network.condition(images, perturbed), t, images.shape[-2:])
