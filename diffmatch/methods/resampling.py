"""Resampling: labelled images are drawn so that every class is shown as often as any other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diffmatch.domain import Item
from diffmatch.methods.supervised import Supervised
from diffmatch.settings import Section


class Resampling(Supervised[Section]):
    """L = L_sup on images drawn by p_i = 1/K sum_{c in i} 1/m_c.

    A class is drawn evenly, then one of the m_c images that show it.

    K classes are labelled at all; each of them is in a drawn image with probability 1/K at least, be it in one image of
    a thousand. Byrd & Lipton 2019 (section 2) draw examples by the inverse of their class's count and find that, unlike
    weights in the loss, this goes on to matter in networks that separate their training set. Their settings: two
    classes of CIFAR-10 drawn 1:256 to 256:1, SGD.

    Differs from the paper: an image has many classes, hence the sum; what a random crop cuts off is not made up for. An
    image without a labelled pixel is never drawn.
    """

    family = "class-imbalance"
    use = "rare classes, no pool"
    title = "Resampling"
    citation = "Byrd & Lipton, ICML 2019"

    def sample_weights(self, items: Sequence[Item], pixels: NDArray[np.int64]) -> NDArray[np.float64] | None:
        present = pixels > 0
        weights: NDArray[np.float64] = (present / np.maximum(present.sum(0), 1)).sum(1)
        return weights if weights.any() else None
