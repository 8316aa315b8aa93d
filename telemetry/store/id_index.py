"""Names by number and numbers by name, 50 bytes a name where a dictionary takes 200."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np

from mlxdeck.telemetry.columns.growable_array import grown, zeros

MAX_RECENT = 1 << 16
HEARD_BITS = 24
"""The power of two of how many bits tell whether a name was heard: 2 MB, right for a million."""
Names = np.ndarray[Any, np.dtype[np.bytes_]]
"""As UTF-8."""
Numbers = np.ndarray[Any, np.dtype[np.int64]]
Hashes = np.ndarray[Any, np.dtype[np.uint64]]


class IdIndex:
    """Numbers names in the order in which they come. For one thread.

    The newest ones are in a dictionary; from time to time they go to a sorted array of hashes. Most
    names that come are new, which a bit that is not set tells without a search.
    """

    def __init__(self) -> None:
        self.n = 0
        self._texts = np.zeros(1024, "S8")
        self._recent: dict[bytes, int] = {}
        self._hashes = np.zeros(0, np.uint64)
        self._numbers = np.zeros(0, np.int32)
        self._heard = zeros(1 << HEARD_BITS - 3, np.uint8)
        self._factors = np.zeros(0, np.uint64)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, number: int) -> str:
        return bytes(self._texts[: self.n][number]).decode("utf-8", "replace")

    def number(self, name: str) -> int | None:
        """The number of a name, if it has one."""
        found = int(self.found(np.array([name.encode("utf-8", "replace")], "S"))[0])
        return found if found >= 0 else None

    def found(self, names: Names) -> Numbers:
        """The numbers of some names; -1 for one that has none."""
        return self._find(names, self._hashes_of(names))

    def numbers(self, names: Names) -> Numbers:
        """The numbers of some names, all different; those that have none get one."""
        hashes = self._hashes_of(names)
        found = self._find(names, hashes)
        unknown = np.flatnonzero(found < 0)
        if len(unknown):
            fresh = names[unknown]
            found[unknown] = numbers = np.arange(self.n, self.n + len(fresh))
            self._recent.update(zip(fresh.tolist(), numbers.tolist(), strict=True))
            self._put(fresh)
            places, bits = _bits(hashes[unknown])
            np.bitwise_or.at(self._heard, places, bits)
        if len(self._recent) > MAX_RECENT:
            self._settle()
        return found

    def _find(self, names: Names, hashes: Hashes) -> Numbers:
        found = np.full(len(names), -1, np.int64)
        places, bits = _bits(hashes)
        heard = np.flatnonzero(self._heard[places] & bits)
        if len(heard):
            get = self._recent.get
            found[heard] = [get(name, -1) for name in names[heard].tolist()]
            old = heard[found[heard] < 0]
            found[old] = self._among_old(names[old], hashes[old])
        return found

    def _hashes_of(self, names: Names) -> Hashes:
        """Multilinear: a word of zeros adds nothing, so that the length of an array doesn't matter.

        The factors are random, so that nobody can choose names that meet.
        """
        n_words = max(1, -(-names.itemsize // 4))
        if n_words > len(self._factors):
            more = [secrets.randbits(64) for _ in range(n_words - len(self._factors))]
            self._factors = np.append(self._factors, np.array(more, np.uint64))
        words = np.ascontiguousarray(names, f"S{4 * n_words}").view(np.uint32)
        products = words.reshape(len(names), n_words) * self._factors[:n_words]
        found: Hashes = products.sum(axis=1, dtype=np.uint64)
        return found

    def starting_with(self, prefix: str) -> list[int]:
        """The numbers of all names that begin so."""
        begins = np.char.startswith(self._texts[: self.n], prefix.encode())
        return [int(number) for number in np.flatnonzero(begins)]

    def texts(self) -> Names:
        """All names as UTF-8, in the order of their numbers."""
        return self._texts[: self.n]

    def _put(self, names: Names) -> None:
        if names.itemsize > self._texts.itemsize:
            longer = np.zeros(len(self._texts), names.dtype)
            longer[: self.n] = self._texts[: self.n]
            self._texts = longer
        if self.n + len(names) > len(self._texts):
            self._texts = grown(self._texts, self.n, self.n + len(names))
        self._texts[self.n : self.n + len(names)] = names
        self.n += len(names)

    def _among_old(self, names: Names, wanted: Hashes) -> Numbers:
        found = np.full(len(names), -1, np.int64)
        if not len(self._hashes) or not len(names):
            return found
        # In their order the search goes through memory in one direction.
        order = np.argsort(wanted)
        wanted = wanted[order]
        places = np.searchsorted(self._hashes, wanted)
        for at in np.flatnonzero(self._hashes[places.clip(max=len(self._hashes) - 1)] == wanted):
            name = int(order[at])
            found[name] = self._equal(names[name], int(places[at]), wanted[at])
        return found

    def _equal(self, name: bytes, place: int, wanted: np.uint64) -> int:
        """Of all names with the same hash, this one."""
        while place < len(self._hashes) and self._hashes[place] == wanted:
            number = int(self._numbers[place])
            if self._texts[number] == name:
                return number
            place += 1
        return -1

    def _settle(self) -> None:
        # They are the last ones.
        numbers = np.arange(self.n - len(self._recent), self.n, dtype=np.int32)
        hashes = self._hashes_of(self._texts[numbers])
        order = np.argsort(hashes, kind="stable")
        places = np.searchsorted(self._hashes, hashes[order])
        self._hashes = np.insert(self._hashes, places, hashes[order])
        self._numbers = np.insert(self._numbers, places, numbers[order])
        self._recent = {}


def _bits(hashes: Hashes) -> tuple[Numbers, np.ndarray[Any, np.dtype[np.uint8]]]:
    """Of each hash the byte and the bit in it that are set for names which were heard."""
    # The upper bits are the better mixed ones.
    places = (hashes >> np.uint64(64 - HEARD_BITS)).astype(np.int64)
    return places >> 3, np.left_shift(1, places & 7).astype(np.uint8)
