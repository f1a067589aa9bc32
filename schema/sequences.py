"""Long sequences whose members are made when they are asked for: of a million files, only what cannot be made again is held."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain
from typing import Generic, TypeVar, overload

T = TypeVar("T", covariant=True)
S = TypeVar("S")


class Lazy(Sequence[T]):
    """A sequence of which a subclass says `_at` and the length. A member is made anew each time, those of a slice too."""

    @abstractmethod
    def _at(self, place: int) -> T:
        """The member at a place from 0 on."""

    @overload
    def __getitem__(self, place: int) -> T: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[T]: ...

    def __getitem__(self, place: int | slice) -> T | Sequence[T]:
        if isinstance(place, slice):
            return Chosen(self, range(*place.indices(len(self))))
        if not -len(self) <= place < len(self):
            raise IndexError(f"{place} is beyond the {len(self)} members")
        return self._at(place % len(self))

    def __iter__(self) -> Iterator[T]:
        return map(self._at, range(len(self)))


class Made(Lazy[T], Generic[S, T]):
    """What `make` gives of each member of `of`."""

    def __init__(self, of: Sequence[S], make: Callable[[S], T]) -> None:
        self.of, self.make = of, make

    def __len__(self) -> int:
        return len(self.of)

    def __iter__(self) -> Iterator[T]:
        return map(self.make, self.of)

    def _at(self, place: int) -> T:
        return self.make(self.of[place])


class Joined(Lazy[T]):
    """Sequences one after the other."""

    def __init__(self, *parts: Sequence[T]) -> None:
        self.parts = parts
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(self.parts)

    def _at(self, place: int) -> T:
        part = bisect_right(self._ends, place)
        return self.parts[part][place - (self._ends[part - 1] if part else 0)]


class Chosen(Lazy[T]):
    """The members of `of` at some `places`, in their order."""

    def __init__(self, of: Sequence[T], places: Sequence[int]) -> None:
        self.of, self.places = of, places

    def __len__(self) -> int:
        return len(self.places)

    def _at(self, place: int) -> T:
        return self.of[self.places[place]]
