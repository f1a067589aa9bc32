"""Every error a person can meet, in one tree, with one exit code per family.

::

    OutcropError                    1  what was done is not as it must be; without one of ours, a bug
    ├── UsageError                  2  the command line is wrong
    ├── InputError                  3  a file, a field or a value is wrong
    │   ├── RegistryError           3  the registry (data_key) cannot be read or does not say what is needed
    │   ├── ManifestError           3  a manifest cannot be read, or a field of it is wrong
    │   ├── PictureError            3  a picture cannot be decoded or is unfit
    │   ├── MeshError               3  a mesh or point cloud cannot be read, or gives no usable picture
    │   ├── FilterError             3  a condition names no field, or its value has the wrong type
    │   ├── OutOfMemory             3  the process may not use as much memory as the work needs
    │   ├── PlaceUnusable           3  a disk is full, read-only or failing: nothing more can be written there
    │   ├── ObjectsUnavailable      3  an object store does not answer, refuses, or gives other than all
    │   └── WeightsError            3  model weights are missing, damaged or belong to a different model
    ├── PartialFailure              4  the work ended, some items failed; the ledger is named
    ├── StoreUnreachable            5  Milvus does not answer, or its directory is locked
    │   ├── StoreBusy               5  Milvus answers, but takes no more for now: a rate limit, or a quota of memory or disk
    │   └── StoreUnusable           5  the Milvus Lite directory cannot be opened, however long one waits
    └── Refused                     6  the action would harm: nothing was done
        ├── SpaceMismatch           6  vectors of one space used with a collection of a different one
        └── Damaged                 6  a stored row is not what was written

A message names the thing, says what is wrong and what to do about it, in one line.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

EXIT_CODES: dict[int, str] = {
    0: "all done",
    1: "not done: the message says what to run again; with a traceback a bug: please report it with the command you typed",
    2: "usage: the command line is wrong",
    3: "bad input: the message names the file, the field and the fix",
    4: "finished, but some items failed: the ledger is named",
    5: "the store cannot be reached, or its directory is locked",
    6: "refused: space mismatch or unsafe action; nothing was changed",
}


class OutcropError(Exception):
    """Base of every error of this project. `exit_code` is what a command ends with."""

    exit_code = 1


class UsageError(OutcropError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_code = 2


class InputError(OutcropError):
    """A file, a field or a value given by the user is wrong."""

    exit_code = 3


class RegistryError(InputError):
    """The registry cannot be read, or does not hold what was asked for."""


class ManifestError(InputError):
    """A manifest cannot be read, or a field of it is wrong."""


class PictureError(InputError):
    """A picture cannot be decoded, or is unfit to be embedded."""


class MeshError(InputError):
    """A mesh or point cloud cannot be read, or gives no usable picture."""


class FilterError(InputError):
    """A condition names an unknown field or gives a value of the wrong type."""


class OutOfMemory(InputError):
    """Memory, or room for a thread, is missing: less must be asked for, or more allowed."""


class PlaceUnusable(InputError):
    """A disk is full, read-only or failing, or not to be written to: what comes next would fail as well."""


class ObjectsUnavailable(InputError, OSError):
    """An object store does not answer, refuses what is asked, or gives other than all of an object: `place` and the `cause`."""

    def __init__(self, place: str, cause: str) -> None:
        super().__init__(errno.EIO, cause, place)

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}; check the address, the credentials in the environment, and the store"

    def __reduce__(self) -> tuple[type[ObjectsUnavailable], tuple[str, str]]:
        return type(self), (str(self.filename), str(self.strerror))


class WeightsError(InputError):
    """Model weights are missing, damaged, or belong to another model."""


class PartialFailure(OutcropError):
    """The work ended, but some items failed; they are listed in the run's ledger."""

    exit_code = 4


class StoreUnreachable(OutcropError):
    """Milvus does not answer in time, or a Milvus Lite directory is held by another process."""

    exit_code = 5


class StoreBusy(StoreUnreachable):
    """Milvus answers, but takes no more for now (a rate limit, a quota of memory or disk): the same again later will do."""


class StoreUnusable(StoreUnreachable):
    """A Milvus Lite directory cannot be opened (no permission, no room, not one): waiting does not help."""


class Refused(OutcropError):
    """The action would lose or spoil data; nothing was done."""

    exit_code = 6


class SpaceMismatch(Refused):
    """Vectors of one embedding space are used with a collection of a different one."""


class Damaged(Refused):
    """A row in the store is not what was written (a bad disk, a foreign writer); nothing was made of it."""


def nearest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """A hint such as ``; did you mean 'altitude'?`` for a word that is not among `known` ('' where none is near).

    `cutoff` is how like two words must be, from 0 to 1 (the same).
    """
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {str(close[0])!r}?" if close else ""
