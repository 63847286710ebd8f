"""Commands that use a finished run as a model: predict and export."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from diffmatch.card import ExpectedError
from diffmatch.cli.options import app, console, show
from diffmatch.domain import InputError

RunOrFile = Annotated[Path, typer.Argument(help="a finished run's folder, or a file of `diffmatch export`")]
Checkpoint = Annotated[Literal["last", "val"], typer.Option("--checkpoint", help="of a run folder")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="sampler steps; absent: the run's")]
Draws = Annotated[int | None, typer.Option("--draws", min=1, help="noise draws averaged; absent: the run's")]


class LeftOutError(ExpectedError):
    """Some inputs could not be predicted; the others were."""


@app.command()
def predict(
    run: RunOrFile,
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="pictures, volumes, or folders of them; of two dates, folders with A/ and B/"),
    ] = None,
    before: Annotated[Path | None, typer.Option("--before", help="of two dates: the earlier file, or a folder")] = None,
    after: Annotated[Path | None, typer.Option("--after", help="the later one")] = None,
    out: Annotated[Path, typer.Option("--out", help="a folder; the same call again goes on in it")] = Path("masks"),
    save: Annotated[
        str, typer.Option("--save", help="labels, probabilities, overlay, uncertainty: one or several, with commas")
    ] = "labels",
    checkpoint: Checkpoint = "last",
    steps: Steps = None,
    draws: Draws = None,
) -> None:
    """Masks for files of your own, in the set's numbers. It needs the run folder alone, not its data.

    Masks are PNG for pictures, GeoTIFF for pictures that lie on Earth, and NIfTI for volumes.
    """
    import torch

    from diffmatch.model.batch import predict_files, saved
    from diffmatch.model.model import load
    from diffmatch.model.paths import Source, named, pairs, pairs_below

    wanted = saved(save)
    if (before is None) != (after is None) or (before is None) == (not files):
        raise InputError("name the files, or both --before and --after")
    model = load(run, checkpoint=checkpoint, steps=steps, draws=draws).to(
        "cuda" if torch.cuda.is_available() else "cpu"
    )
    if model.manifest.fabricated:
        console.print("[yellow]this model was trained on invented data[/]: it knows nothing of real ones")
    sources: Mapping[str, Source]
    if model.card.dates == 1:
        if before:
            raise InputError(f"--before, --after: {run} was trained on one date ({model.card.title}); name the files")
        sources = dict(named(files or [], model.endings))
    elif before and after:
        sources = pairs(before, after, model.endings)
    else:
        sources = pairs_below(files or [], model.endings)
    done = predict_files(model, sources, out, wanted)
    if done.files:
        shares, inputs = 100 * done.pixels.sum(0) / done.pixels.sum(), (done.pixels > 0).sum(0)
        show(
            ["class", "stored as", "% of pixels", "in inputs"],
            (
                (name, str(value), f"{shares[c]:.1f}", f"{inputs[c]} of {len(done.files)}")
                for c, (name, value) in enumerate(zip(model.classes, model.reading.values, strict=True))
            ),
        )
    kept = f" ({done.before} more were there already)" if done.before else ""
    console.print(
        f"written: {', '.join(wanted)} of {len(done.files)} inputs below {out}{kept}", soft_wrap=True, markup=False
    )
    for problem in done.problems:
        print(f"left out: {problem}", file=sys.stderr)
    if done.problems:
        raise LeftOutError(
            f"{len(done.problems)} of {len(sources)} inputs were left out; mend them and give the same command again"
        )


@app.command()
def export(
    run: RunOrFile,
    out: Annotated[
        Path, typer.Option("--out", help="model.safetensors for diffmatch.load, model.onnx for onnxruntime")
    ],
    checkpoint: Checkpoint = "last",
    steps: Steps = None,
    draws: Draws = None,
    size: Annotated[
        str | None, typer.Option("--size", help="ONNX: height x width of all images, as 256x256; absent: any size")
    ] = None,
) -> None:
    """One file of a finished run, to share: weights, card and settings."""
    from diffmatch.model.export import export_model, size_of
    from diffmatch.model.model import load

    sides = size_of(size) if size else None
    model = load(run, checkpoint=checkpoint, steps=steps, draws=draws)
    with console.status("writing; a graph is traced and compared with PyTorch, which can take a minute"):
        difference = export_model(model, out, sides)
    if difference is not None:
        console.print(f"compared with PyTorch: probabilities differ by {difference:.1g} at most")
    console.print(f"written: {out} ({out.stat().st_size / 1e6:.1f} MB)", soft_wrap=True, markup=False)
