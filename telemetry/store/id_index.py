"""Names by number and numbers by name, 50 bytes a name where a dictionary takes 200."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlxdeck.telemetry.columns.growable_array import grown

MAX_RECENT = 1 << 16
Names = np.ndarray[Any, np.dtype[np.bytes_]]
"""As UTF-8."""


class IdIndex:
    """Numbers names in the order in which they come. For one thread.

    The newest ones are in a dictionary; from time to time they go to a sorted array of hashes.
    """

    def __init__(self) -> None:
        self.n = 0
        self._texts = np.zeros(1024, "S8")
        self._recent: dict[bytes, int] = {}
        self._hashes = np.zeros(0, np.int64)
        self._numbers = np.zeros(0, np.int32)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, number: int) -> str:
        return bytes(self._texts[: self.n][number]).decode("utf-8", "replace")

    def number(self, name: str) -> int | None:
        """The number of a name, if it has one."""
        raw = name.encode("utf-8", "replace")
        found = self._recent.get(raw)
        if found is not None:
            return found
        old = int(self._among_old([raw])[0])
        return old if old >= 0 else None

    def numbers(self, names: Names) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The numbers of some names, all different; those that have none get one."""
        listed = names.tolist()
        get = self._recent.get
        found = np.array([get(name, -1) for name in listed], np.int64)
        unknown = np.flatnonzero(found < 0)
        if len(unknown) and len(self._hashes):
            found[unknown] = self._among_old([listed[place] for place in unknown.tolist()])
            unknown = np.flatnonzero(found < 0)
        if len(unknown):
            fresh = names[unknown]
            found[unknown] = numbers = np.arange(self.n, self.n + len(fresh))
            self._recent.update(zip(fresh.tolist(), numbers.tolist(), strict=True))
            self._put(fresh)
        if len(self._recent) > MAX_RECENT:
            self._settle()
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

    def _among_old(self, names: list[bytes]) -> np.ndarray[Any, np.dtype[np.int64]]:
        found = np.full(len(names), -1, np.int64)
        if not len(self._hashes):
            return found
        wanted = np.fromiter(map(hash, names), np.int64, len(names))
        # In their order the search goes through memory in one direction.
        order = np.argsort(wanted)
        wanted = wanted[order]
        places = np.searchsorted(self._hashes, wanted)
        for at in np.flatnonzero(self._hashes[places.clip(max=len(self._hashes) - 1)] == wanted):
            name = int(order[at])
            found[name] = self._equal(names[name], int(places[at]), int(wanted[at]))
        return found

    def _equal(self, name: bytes, place: int, wanted: int) -> int:
        """Of all names with the same hash, this one."""
        while place < len(self._hashes) and self._hashes[place] == wanted:
            number = int(self._numbers[place])
            if self._texts[number] == name:
                return number
            place += 1
        return -1

    def _settle(self) -> None:
        hashes = np.fromiter(map(hash, self._recent), np.int64, len(self._recent))
        numbers = np.fromiter(self._recent.values(), np.int32, len(self._recent))
        order = np.argsort(hashes, kind="stable")
        places = np.searchsorted(self._hashes, hashes[order])
        self._hashes = np.insert(self._hashes, places, hashes[order])
        self._numbers = np.insert(self._numbers, places, numbers[order])
        self._recent = {}
