"""What is looked at and said before a run starts."""

from __future__ import annotations

import logging
import os

import torch
from rich.console import Console
from rich.markup import escape

from diffmatch.data.oddities import Oddities, measured
from diffmatch.domain import InputError
from diffmatch.progress import Bar
from diffmatch.running.plan import Plan
from diffmatch.scoring.evaluation import known_mask, members


def look_at_network(planned: Plan) -> None:
    """Build the method without memory.

    An encoder or stride that does not exist is refused before anything is read or written.

    A method of another package need not run on the meta device. Where it fails there, the run itself shows whether it
    can be built.

    Raises:
        InputError: as the network words it.
    """
    try:
        with torch.device("meta"):
            planned.build(pretrained=False)
    except InputError:
        raise
    except Exception as error:
        logging.getLogger("diffmatch").debug("%s does not run on the meta device: %s", planned.job.method, error)


def look_at_items(planned: Plan) -> list[str]:
    """Read every labelled item and every one that will be scored once, the pool's too.

    A bad file is refused before hours of training.

    Returns:
        A line for each kind of oddity of the files.

    Raises:
        InputError: as the plugin words it, or a mask that is missing or of another size than its image.
    """
    split, odd = planned.split, Oddities(planned.domain)
    items = [*split.labelled, *split.val, *split.test, *members(split, "unlabeled", planned.card.protocol())]
    with Bar("read what is learnt from or scored", len(items)) as bar:
        for item in bar.track(items):
            sample = planned.domain.read(item, mask=True)
            mask = known_mask(item, sample.mask)
            if mask.shape != sample.image.shape[2:]:
                raise InputError(f"{item.id}: image and mask differ in size, {sample.image.shape[2:]} and {mask.shape}")
            odd.add(item, measured(sample.image, mask, planned.card))
    return odd.told()


def announce(planned: Plan, console: Console) -> None:
    """Print what will be done. Fabricated data are announced first of all."""
    job, split, card = planned.job, planned.split, planned.card
    title = escape(card.title)
    if planned.data.fabricated:
        where = escape(str(planned.domain.root))
        console.print(
            f"[yellow]fabricated data[/]: invented {title} in {where}; real ones are given with --data, "
            f"or lie in $DIFFMATCH_DATA/{card.name}"
            + (", which is not there" if os.environ.get("DIFFMATCH_DATA") else "")
        )
    s = planned.settings
    console.print(
        f"[bold]{job.method}[/] on [bold]{title}[/], labels {split.budget} {card.label_unit}, seed {job.seed}, "
        f"preset {job.preset}: "
        f"{len(split.labelled)} labelled, {len(split.unlabelled)} unlabelled, "
        f"{len(split.val)} val, {len(split.test)} test; "
        f"split {escape(split.family)} {split.sha256[:8]}",
        highlight=False,
    )
    tree = "  ".join(f"{key}={value}" for key, value in s.flat().items())
    console.print(f"[dim]{escape(tree)}[/]", highlight=False)
