"""What a collection says of itself whose vectors were averaged with those of verified neighbours (`collection average`).

The space stays what it was: a plain query's vector is compared with averaged ones. But rows that are not averaged do not belong
among them, so whatever writes rows asks here first.
"""

from __future__ import annotations

import json
import shlex

from pydantic import BaseModel, ConfigDict, ValidationError

from outcrop.schema.errors import Refused

PROPERTY_AVERAGED = "outcrop.averaged"


class Averaged(BaseModel):
    """How a collection was averaged: from which `source` (its physical name), with up to how many `neighbours` of each
    photograph, of which items (`where`, conditions as they were given). `finished` says that it was not interrupted."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: str
    neighbours: int
    where: tuple[str, ...] = ()
    finished: bool = False

    @classmethod
    def of_text(cls, text: str | None) -> Averaged | None:
        """The inverse of `as_text`; None where a collection says nothing.

        Raises:
            ValueError: it says something that cannot be read.
        """
        if not text:
            return None
        try:
            return cls.model_validate(json.loads(text))
        except (ValidationError, RecursionError) as error:
            raise ValueError(f"averaged: {str(error).splitlines()[0]}") from None

    def as_text(self) -> str:
        """JSON, as the collection's properties have it."""
        return self.model_dump_json()

    def again(self, name: str) -> str:
        """The command that brings the collection of this name up to date."""
        conditions = "".join(f" --where {shlex.quote(each)}" for each in self.where)
        return f"collection average {self.source} {name} --neighbours {self.neighbours}{conditions}"

    def __str__(self) -> str:
        of = f" ({', '.join(self.where)})" if self.where else ""
        end = "" if self.finished else "; interrupted: run `collection average` again"
        return f"vectors of {self.source}{of} with those of up to {self.neighbours} verified neighbours{end}"


def require_plain(name: str, averaged: Averaged | None) -> None:
    """Refuses to write plain vectors among averaged ones, or to average them once more.

    Raises:
        Refused: naming the source, and what to do instead.
    """
    if averaged is not None:
        raise Refused(
            f"the vectors of collection {name!r} are averaged with those of verified neighbours, and plain ones do not belong "
            f"among them; use its source (--collection {averaged.source}), then run `{averaged.again(name)}` again"
        )


def require_alike(name: str, theirs: Averaged | None, mine: Averaged | None) -> None:
    """Refuses to bring rows that were averaged as `mine` says into a collection that says `theirs`.

    Raises:
        Refused: one of them is plain, or they were averaged in different ways.
    """
    if _way(theirs) != _way(mine):
        said = [f"averaged ({one})" if one is not None else "plain" for one in (mine, theirs)]
        raise Refused(f"the rows are {said[0]}, those of collection {name!r} are {said[1]}; give a new name with --to")


def _way(averaged: Averaged | None) -> Averaged | None:
    return None if averaged is None else averaged.model_copy(update={"finished": True})
