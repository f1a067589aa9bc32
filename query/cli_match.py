"""`query match`: two pictures, or all pictures of a folder, compared by geometry alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outcrop.query.commands import app
from outcrop.query.options import LocalFeatures, MinInliers, check_file, checked_features
from outcrop.schema.angles import angle_text
from outcrop.schema.errors import InputError, PartialFailure, UsageError
from outcrop.screen.options import MODEL, REGISTRY, STATE, Formerly, Session, command, hidden, option
from outcrop.screen.progress import Meter
from outcrop.screen.tables import print_json, print_table

if TYPE_CHECKING:
    from outcrop.query.verification.match import AllMatches, PairMatch
    from outcrop.query.verification.verifier import Verifier

MAX_DRAWINGS = 100
COLUMNS = ("query", "candidate", "match", "score", "inliers", "tentative", "rotation", "scale")

Pair = Annotated[
    list[Path] | None, typer.Argument(help="Two picture files: the query and the candidate.", show_default=False)
]


@dataclass(frozen=True)
class Features:
    """Which local features are matched, and how many inliers make a match."""

    min_inliers: MinInliers = None
    local_features: LocalFeatures = None
    input_size: Annotated[
        int | None,
        option("--input-size", panel="Model", help="patch: side of the network's input in pixels. [the model's own]"),
        Formerly("--size"),
    ] = None

    def verifier(self, session: Session) -> tuple[Verifier, int]:
        """The verifier, with the features of the settings' model where patch tokens are asked for, and the least inliers."""
        from outcrop.embed.models import resolve
        from outcrop.embed.opening import open_for_query
        from outcrop.query.verification.confidence import least_inliers
        from outcrop.query.verification.patch_tokens import PatchTokens
        from outcrop.query.verification.verifier import Verifier

        features, settings = checked_features(self.local_features), session.settings
        if self.input_size is not None and features != "patch":
            raise UsageError("--input-size needs --local-features patch; SIFT has a working size of its own")
        extractor = None
        if features == "patch":  # nothing is stored, so any model will do, and a fit that leaves no edge out
            model = resolve(settings, size=self.input_size, fit="squash")
            extractor = PatchTokens.of(open_for_query(model, settings))
        least = least_inliers(features) if self.min_inliers is None else self.min_inliers
        return Verifier.below(settings.state, settings.feature_cache_bytes, extractor), least


@command(app, MODEL, hidden(REGISTRY), STATE)
def match(
    session: Session,
    features: Features,
    pictures: Pair = None,
    all: Annotated[Path | None, option("--all", help="A folder: match every picture in it with every other.")] = None,
    png: Annotated[
        Path | None,
        option(
            "--png",
            panel="Output",
            help="Draw the pictures side by side with match lines and outline: a PNG file; "
            "with --all, a folder of them for the best 100 matches.",
        ),
        Formerly("--output", "-o"),
    ] = None,
) -> None:
    """Compare pictures with each other: matching local features, the homography, relative rotation and scale."""
    if (all is None) == (not pictures) or (pictures and len(pictures) != 2):
        raise UsageError("give two pictures, or --all FOLDER")
    if all is None:
        _check(pictures or [], png)
    elif png is not None:
        _make_folder(png)
    verifier, least = features.verifier(session)
    if all is not None:
        _all(session, all, verifier, least, png)
    elif pictures:
        _pair(session, pictures[0], pictures[1], verifier, least, png)


def _check(pictures: list[Path], png: Path | None) -> None:
    """Before the model is opened: whether the pictures are there, and the drawing can be written."""
    from outcrop.query.pictures import expand

    check_file(png, "--png")
    expand(pictures)


def _pair(session: Session, query: Path, candidate: Path, verifier: Verifier, least: int, png: Path | None) -> None:
    from outcrop.query.verification.drawing import write_drawing
    from outcrop.query.verification.match import match_pair

    found = match_pair(query, candidate, verifier, min_inliers=least)
    if png is not None:
        session.say(f"picture: {write_drawing(found, png).absolute()}")
    if not found.verified:
        session.say("no match: " + (found.match.reason or f"{found.match.inliers} inliers, {least} are needed"))
    if session.format == "json":
        print_json(found.as_json())
        return
    print_table([_row(found)], COLUMNS)
    if found.match.homography is not None:
        print("homography (query to candidate, pixels):")
        for line in found.match.homography:
            print("  " + "  ".join(f"{value: .8g}" for value in line))


def _all(session: Session, folder: Path, verifier: Verifier, least: int, png: Path | None) -> None:
    from outcrop.query.pictures import expand
    from outcrop.query.verification.match import match_all

    if not folder.is_dir():
        raise InputError(f"--all {folder} is not a folder; give a folder of pictures")
    with verifier, Meter(f"match {folder}", None, "pairs", session.quiet) as meter:
        found = match_all(expand([folder]), verifier, min_inliers=least, progress=meter.progress)
    if png is not None:
        _draw(session, found, png)
    if session.format == "json":
        print_json(found.as_json())
    else:
        print_table([_row(match) for match in found.matches], COLUMNS)
        print(f"{len(found.matches)} matches among {found.pairs} pairs of {found.pictures} pictures")
    for reason in found.failed:
        session.warn(reason)
    if found.failed:
        raise PartialFailure(f"{len(found.failed)} pictures of {folder} could not be read; they are named above")


def _row(found: PairMatch) -> dict[str, Any]:
    turned = found.match.rotation
    return {
        **found.as_json(),
        "score": f"{found.score:.4f}",
        "rotation": "" if turned is None else angle_text(turned, 1),
    }


def _draw(session: Session, found: AllMatches, folder: Path) -> None:
    from outcrop.query.verification.drawing import write_drawing

    for number, match in enumerate(found.matches[:MAX_DRAWINGS], 1):
        write_drawing(match, folder / f"{number:03d}_{match.query.stem}_{match.candidate.stem}.png")
    more = len(found.matches) - MAX_DRAWINGS
    session.say(f"pictures: {folder.absolute()}" + (f" (without {more} weaker matches)" if more > 0 else ""))


def _make_folder(folder: Path) -> None:
    """Before any work: a folder that could not be made would lose the pictures."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--png {folder} is a file; with --all, give a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"could not make the folder --png {folder} ({error.strerror or error}); give another"
        ) from None
