"""The `query` command's application, and what its subcommands share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from outcrop.schema.errors import InputError, nearest
from outcrop.schema.filters import Filter, equals, where
from outcrop.schema.item import Kind
from outcrop.screen.options import Session, application

if TYPE_CHECKING:
    from outcrop.embed.encoder import Encoder
    from outcrop.query.search import Grouping
    from outcrop.store.collection import Collection

app = application("Ask a collection: what looks like this picture, like this item?")

K = Annotated[int, typer.Option("-k", "--top-k", min=1, max=16384, help="Hits per query.")]
Where = Annotated[
    Optional[list[str]],
    typer.Option(
        "--where",
        help="FIELD=VALUE, FIELD=A..B, FIELD=V1,V2, FIELD=PREFIX* or FIELD!=…; repeat it for AND.",
        show_default=False,
    ),
]
Raw = Annotated[
    str, typer.Option("--filter", help="A raw Milvus expression, for what --where cannot say.", show_default=False)
]
ExcludeSelf = Annotated[
    bool, typer.Option("--exclude-self", help="Leave out the item itself (items made of the very same file).")
]
Exact = Annotated[bool, typer.Option("--exact", help="Compare with every row, whatever the index.")]
Explain = Annotated[
    bool, typer.Option("--explain", help="Say how the search was done: partitions, filter, index or row by row.")
]
Report = Annotated[
    Optional[Path], typer.Option("--report", help="Write an HTML report with pictures.", show_default=False)
]

Output = Annotated[
    Optional[Path],
    typer.Option("--output", help="Write JSON, arrays (.npy) and contact sheets into this folder.", show_default=False),
]
RedisUri = Annotated[
    Optional[str],
    typer.Option(
        "--redis",
        help="Write the answers into this Redis too (redis://HOST:PORT/DATABASE). [OUTCROP_REDIS]",
        show_default=False,
    ),
]
RedisTtl = Annotated[
    Optional[int],
    typer.Option("--redis-ttl", min=1, help="Seconds after which they vanish from Redis. [never]", show_default=False),
]


GroupBy = Annotated[
    str,
    typer.Option(
        "--group",
        help="parent: one hit per photograph or specimen; none: every item; "
        "auto: by parent where references are among the hits.",
    ),
]
Turns = Annotated[
    int,
    typer.Option(
        "--turns",
        min=0,
        help="Turn the picture to so many angles round the circle, and search the images alone, no references. [0: as it is]",
        show_default=False,
    ),
]


@contextmanager
def opened(session: Session) -> Iterator[Collection]:
    """The collection that the settings name, open for the length of a `with`."""
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    with Store.of(session.settings) as store:
        yield Collection.open(store, session.settings.collection)


def open_encoder(session: Session, collection: Collection) -> Encoder:
    """The encoder of a collection's model, on the first device of the settings.

    Raises:
        SpaceMismatch: a model or weights are asked for that are not the collection's. WeightsError: no weights are found.
    """
    from outcrop.embed.models import resolve
    from outcrop.embed.opening import open_for_query

    model = resolve(session.settings, collection.space, collection.weights_hint)
    encoder = open_for_query(model, session.settings)
    session.say(encoder.describe())
    return encoder


def condition_of(texts: list[str] | None, raw: str) -> Filter:
    """What `--where` and `--filter` say."""
    return where(*(texts or ()), raw=raw)


def against(names: list[str] | None) -> Filter:
    """What `--against` says: kinds (``reference``) and names of datasets, any of them."""
    kinds = [name for name in names or () if name in tuple(Kind)]
    datasets = [name for name in names or () if name not in tuple(Kind)]
    chosen = Filter()
    if kinds:
        chosen &= equals("kind", *kinds)
    if datasets:
        chosen &= equals("dataset", *datasets)
    return chosen


def check_report(report: Path | None) -> None:
    """Before any work: a report that could not be written would lose it."""
    if report is None:
        return
    if report.is_dir():
        raise InputError(f"--report {report} is a folder; give the name of a file")
    if not report.absolute().parent.is_dir():
        raise InputError(f"--report {report}: the folder {report.absolute().parent} does not exist; create it")


def grouping_of(text: str) -> Grouping:
    """What `--group` names."""
    from outcrop.query.search import GROUPINGS

    for name in GROUPINGS:
        if text == name:
            return name
    raise InputError(f"--group is one of {', '.join(GROUPINGS)}, not {text!r}{nearest(text, GROUPINGS)}")


def kind_of(text: str) -> Kind:
    """What `--kind` names."""
    if text not in tuple(Kind):
        raise InputError(f"--kind is one of {', '.join(Kind)}, not {text!r}{nearest(text, Kind)}")
    return Kind(text)
