"""`query match`: two pictures, or all pictures of a folder, held against each other by geometry alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from outcrop.query.cli_rerank import check_features
from outcrop.query.console import app
from outcrop.schema.errors import InputError, PartialFailure, UsageError
from outcrop.screen.options import MODEL, REGISTRY, STATE, Session, command
from outcrop.screen.progress import Meter
from outcrop.screen.tables import print_json, print_table

if TYPE_CHECKING:
    from outcrop.query.verification.features import Extractor
    from outcrop.query.verification.match import AllMatches, PairMatch
    from outcrop.query.verification.verifier import Verifier

MAX_DRAWINGS = 100

MinInliers = Annotated[
    Optional[int],
    typer.Option(
        "--min-inliers",
        min=4,
        help="Inliers from which two pictures count as a match. [12; patch: 25]",
        show_default=False,
    ),
]


@command(app, MODEL, REGISTRY, STATE)
def match(
    session: Session,
    pictures: Annotated[Optional[list[Path]], typer.Argument(help="Two picture files: the query and the candidate.", show_default=False)] = None,
    all: Annotated[Optional[Path], typer.Option("--all", help="A folder: every picture in it against every other.", show_default=False)] = None,
    output: Annotated[Optional[Path], typer.Option("--output", "-o", help="Write the pictures side by side with match lines and the outline: a PNG file; with --all a folder, for the best 100 matches.", show_default=False)] = None,
    min_inliers: MinInliers = None,
    features: Annotated[str, typer.Option("--features", help="Local features to match: sift, or patch (tokens of --model).")] = "sift",
    size: Annotated[Optional[int], typer.Option("--size", help="patch: side of the network's input in pixels. [the preset's]", show_default=False)] = None,
) -> None:  # fmt: skip
    """Hold pictures against each other: matching local features, the homography, how far one is turned and scaled."""
    from outcrop.query.verification.confidence import least_inliers
    from outcrop.query.verification.verifier import Verifier

    check_features(features)
    if size is not None and features != "patch":
        raise UsageError("--size is for --features patch; SIFT has a working size of its own")
    if (all is None) == (not pictures) or (pictures and len(pictures) != 2):
        raise UsageError("give two pictures, or --all FOLDER")
    _check_output(output, folder=all is not None)
    extractor = _patch_tokens(session, size) if features == "patch" else None
    verifier = Verifier.below(session.settings.state, session.settings.feature_cache_bytes, extractor)
    least = least_inliers(features) if min_inliers is None else min_inliers
    if all is not None:
        _all(session, all, verifier, least, output)
    elif pictures:
        _pair(session, pictures[0], pictures[1], verifier, least, output)


def _patch_tokens(session: Session, size: int | None) -> Extractor:
    """Patch tokens of the model that is asked for; nothing is stored, so any will do."""
    from outcrop.embed.models import resolve
    from outcrop.embed.opening import open_for_query
    from outcrop.query.verification.patch_tokens import PatchTokens

    return PatchTokens.of(open_for_query(resolve(session.settings, size=size), session.settings))


def _pair(session: Session, query: Path, candidate: Path, verifier: Verifier, least: int, output: Path | None) -> None:
    from outcrop.query.verification.match import match_pair

    found = match_pair(query, candidate, verifier, min_inliers=least)
    if session.format == "json":
        print_json(found.as_json())
    else:
        print_table([_row(found)], COLUMNS)
        if found.proof.homography is not None:
            print("homography (query to candidate, pixels):")
            for line in found.proof.homography:
                print("  " + "  ".join(f"{value: .8g}" for value in line))
    if not found.verified:
        session.say("no match: " + (found.proof.reason or f"{found.proof.inliers} inliers, {least} are needed"))
    if output is not None:
        from outcrop.query.verification.drawing import write_drawing

        session.say(f"picture: {write_drawing(found, output).absolute()}")


def _all(session: Session, folder: Path, verifier: Verifier, least: int, output: Path | None) -> None:
    from outcrop.query.pictures import expand
    from outcrop.query.verification.match import match_all

    if not folder.is_dir():
        raise InputError(f"--all {folder} is no folder; give a folder of pictures")
    with verifier, Meter(f"match {folder}", None, "pairs", session.quiet) as meter:

        def progress(done: int, total: int) -> None:
            meter.total = total
            meter.update(done)

        found = match_all(expand([folder]), verifier, min_inliers=least, progress=progress)
    if session.format == "json":
        print_json(found.as_json())
    else:
        print_table([_row(match) for match in found.matches], COLUMNS)
        print(f"{len(found.matches)} matches among {found.pairs} pairs of {found.pictures} pictures")
    if output is not None:
        _draw_all(session, found, folder, output)
    for reason in found.failed:
        session.warn(reason)
    if found.failed:
        raise PartialFailure(f"{len(found.failed)} pictures of {folder} could not be read; they are named above")


COLUMNS = ("query", "candidate", "match", "score", "inliers", "tentative", "rotation", "scale")


def _row(found: PairMatch) -> dict[str, Any]:
    turned = found.proof.rotation
    return {**found.as_json(), "score": f"{found.score:.4f}", "rotation": "" if turned is None else f"{turned:.1f}"}


def _draw_all(session: Session, found: AllMatches, folder: Path, output: Path) -> None:
    from outcrop.query.verification.drawing import write_drawing

    for number, match in enumerate(found.matches[:MAX_DRAWINGS], 1):
        write_drawing(match, output / f"{number:03d}_{match.query.stem}_{match.candidate.stem}.png")
    more = len(found.matches) - MAX_DRAWINGS
    session.say(f"pictures: {output.absolute()}" + (f" (without {more} weaker matches)" if more > 0 else ""))


def _check_output(output: Path | None, *, folder: bool) -> None:
    """Before any work: a picture that could not be written would lose it."""
    if output is None:
        return
    if folder:
        if output.exists() and not output.is_dir():
            raise InputError(f"--output {output} is a file; with --all, give a folder")
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"--output {output} cannot be made ({error.strerror or error}); give another folder"
            ) from None
    elif output.is_dir():
        raise InputError(f"--output {output} is a folder; give the name of a PNG file")
    elif not output.absolute().parent.is_dir():
        raise InputError(f"--output {output}: the folder {output.absolute().parent} does not exist; create it")
