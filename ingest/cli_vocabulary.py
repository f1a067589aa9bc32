"""`ingest vocabulary`: what a pooling learns from the pictures themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outcrop.ingest.commands import app
from outcrop.ingest.options import NEW_OF_PICTURES
from outcrop.screen.options import MODEL as ALL_OF_MODEL
from outcrop.screen.options import REGISTRY, SEED, STATE, STORE, Group, Session, command, hidden, option

if TYPE_CHECKING:
    from outcrop.ingest.vocabulary import Fitted

MODEL: Group = {name: kind for name, kind in ALL_OF_MODEL.items() if name != "pooling"}
NEW: Group = {name: kind for name, kind in NEW_OF_PICTURES.items() if name != "index"}


@dataclass(frozen=True)
class Making:
    """What is fitted."""

    pooling: Annotated[
        str,
        option(
            "--pooling",
            panel="What to make",
            help="vlad, or a plain pooling whose vectors are whitened: token, avg or gem. [vlad]",
        ),
    ] = "vlad"
    words: Annotated[int, option("--words", panel="What to make", help="Words of vlad. [32]")] = 32
    dim: Annotated[int, option("--dim", panel="What to make", help="Numbers of a vector, at most. [512]")] = 512


@command(app, STORE, hidden(REGISTRY), MODEL, NEW, SEED, STATE)
def vocabulary(
    session: Session,
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|DIR",
            help="A dataset of the registry or the collection, or a folder of photographs or meshes.",
            show_default=False,
        ),
    ],
    making: Making,
) -> None:
    """Fit what a pooling needs to your own pictures: the vocabulary of vlad, and a projection that whitens; new collections use it."""
    from outcrop.embed.fitting import Size
    from outcrop.ingest.console import OnScreen
    from outcrop.ingest.vocabulary import fit_vocabulary
    from outcrop.schema.space import AskedPooling
    from outcrop.screen.progress import Meter

    with OnScreen(session) as screen, Meter("fit", None, "files", session.quiet) as meter:
        made = fit_vocabulary(
            source,
            session.settings,
            AskedPooling.parse(making.pooling),
            Size(making.words, making.dim),
            screen,
            meter.update,
        )
    _print(session, made)


def _print(session: Session, made: Fitted) -> None:
    from outcrop.embed.models import find_preset
    from outcrop.screen.tables import print_json

    if session.format == "json":
        print_json(as_json(made))
        return
    print(f"{made.vocabulary}\n{made.path}")
    base = made.vocabulary.base
    fit = "" if base.fit == find_preset(base.model).fit else f" --fit {base.fit}"
    print(f"a new collection uses it with --pooling {made.vocabulary.space.pooled_by}{fit}")


def as_json(made: Fitted) -> dict[str, Any]:
    """Plain values."""
    fitted = made.vocabulary
    return {
        "vocabulary": fitted.digest,
        "pooling": fitted.space.pooled_by,
        "file": str(made.path),
        "model": fitted.base.model,
        "dim": fitted.base.dim,
        "words": len(fitted.words.words) if fitted.words is not None else 0,
        "files": made.sources,
        "failed": made.failed,
        "samples": fitted.samples,
    }
