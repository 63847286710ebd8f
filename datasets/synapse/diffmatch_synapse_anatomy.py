"""Does a label map name the organs it shows? Anatomy tells.

Archives with other orders of the same eight organs are in circulation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffmatch.domain import Mask

AORTA, LEFT_KIDNEY, RIGHT_KIDNEY, LIVER, SPLEEN = 1, 3, 4, 5, 7

CASCADE = (0, 7, 4, 3, 2, 6, 5, 8, 1)
"""CASCADE's order of the organs -> the class index here.

Theirs: spleen, right kidney, left kidney, gallbladder, pancreas, liver, stomach, aorta.
"""


def doubts(masks: Sequence[Mask], names: Sequence[str], upright: bool) -> list[str]:
    """What is anatomically odd about volumes of class indices, each (slices, rows, columns); nothing if all is well.

    The liver is the largest organ, the aorta spans the most slices, the right kidney lies on the liver's side.

    Args:
        names: of the classes.
        upright: columns run from the patient's right to the left, so that the liver must lie before the spleen.
    """
    if not masks:
        return []
    pixels = np.stack([np.bincount(plane.ravel(), minlength=256)[1 : len(names)] for mask in masks for plane in mask])
    largest, longest = 1 + int(pixels.sum(0).argmax()), 1 + int((pixels > 0).sum(0).argmax())
    if (largest, longest) == (CASCADE.index(LIVER), CASCADE.index(AORTA)):
        return [
            "the labels are in CASCADE's order of organs (6 is the largest, 8 spans the most slices), so classes "
            "would go by wrong names; "
            f"convert them: label = numpy.array({list(CASCADE)})[label], or take the raw layout"
        ]
    if (largest, longest) != (LIVER, AORTA):
        return [
            f"the largest organ is called {names[largest]} the one in most slices {names[longest]}, where liver and "
            "aorta "
            f"should be; the labels may follow another order than {', '.join(names[1:])}"
        ]
    sides = [side for mask in masks if (side := _sides(mask))]
    if any(abs(right - liver) > abs(left - liver) for left, right, liver, _ in sides):
        return ["the left kidney lies nearer to the liver than the right one: the two may have changed places"]
    if upright and any(liver > spleen for _, _, liver, spleen in sides):
        return ["liver and spleen are on each other's side: the headers may not say how the volumes lie"]
    return []


def _sides(mask: Mask) -> tuple[float, ...] | None:
    """Mean column of left kidney, right kidney, liver and spleen, None where one is absent.

    Rows if the volume lies turned.
    """
    wanted = (LEFT_KIDNEY, RIGHT_KIDNEY, LIVER, SPLEEN)
    centres = [np.argwhere(mask == c)[:, 1:].mean(0) if (mask == c).any() else None for c in wanted]
    if any(centre is None for centre in centres):
        return None
    across = np.array(centres, float)
    # Right and left organs lie furthest apart along the patient's width.
    axis = int(np.abs(across[0] - across[1]).argmax())
    return tuple(float(value) for value in across[:, axis])
