"""The content of a JSON Schema, with its references followed: types, properties, choices. Pure.

A schema without a type allows any value; it is never treated as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mlxdeck.server.schemas.branches import (
    ANYTHING,
    MAX_BRANCHES,
    Branches,
    branch_choices,
    branch_kinds,
    distinct,
    kinds_of_value,
    mapping,
    referred,
)
from mlxdeck.server.schemas.patterns import Unsupported, compiled
from mlxdeck.server.schemas.validation import conforms

MAX_CHOICES = 512
"""Values that are held against the rest of the schema; of more, all are taken to conform."""
# Keywords that a list of properties doesn't express.
_BEYOND = (
    *("minProperties", "maxProperties", "propertyNames", "dependentRequired", "dependentSchemas"),
    *("dependencies", "if", "not", "allOf", "oneOf", "enum", "const"),
)
_LITERAL = ("enum", "const", "default", "examples")
_FEW: dict[str, list[Any]] = {"null": [None], "boolean": [True, False]}
_NAMED = ("properties", "patternProperties")


@dataclass(frozen=True, slots=True)
class Signature:
    """One set of arguments of a tool: required properties, optional properties, any others."""

    required: dict[str, Schema]
    optional: dict[str, Schema]
    other: Schema | None = None
    """Schema of other properties, which are not named."""
    order: tuple[str, ...] = ()
    """All names, as the schema lists them."""

    @property
    def orders(self) -> tuple[tuple[tuple[str, Schema, bool], ...], ...]:
        """Names, schemas and whether they are needed: those needed first, and as they are listed.

        Models write either.
        """
        first = tuple((name, told, True) for name, told in self.required.items())
        first += tuple((name, told, False) for name, told in self.optional.items())
        both = {**self.required, **self.optional}
        listed = tuple((name, both[name], name in self.required) for name in self.order)
        return (first,) if first == listed else (first, listed)


@dataclass(frozen=True)
class Schema:
    """A schema, and the whole one that its references are into."""

    told: Any
    root: Any

    @classmethod
    def of(cls, whole: Any) -> Schema:
        """A schema that is part of no other."""
        return cls(whole, whole)

    @cached_property
    def branches(self) -> tuple[dict[str, Any], ...]:
        """Schemas without references and combinations at their top, any of which is enough."""
        return tuple(Branches(self.root).of(self.told, 0))[:MAX_BRANCHES]

    @cached_property
    def kinds(self) -> frozenset[str]:
        """The allowed types, also where only other keywords imply them; all if nothing does."""
        found: set[str] = set()
        for branch in self.branches:
            found |= branch_kinds(branch)
        return frozenset(found) or ANYTHING

    @property
    def text_only(self) -> bool:
        """Whether only a text is allowed."""
        return self.kinds == {"string"}

    @cached_property
    def choices(self) -> list[Any] | None:
        """All values that conform, where they are listed."""
        listed: list[Any] = []
        for branch in self.branches:
            part = branch_choices(branch)
            if part is None:
                part = _FEW.get(str(branch.get("type")))
            if part is None:
                return None
            listed += part
        listed = distinct(listed)
        if len(listed) > MAX_CHOICES:
            return listed
        return [value for value in listed if self.accepts(value)] or None

    @cached_property
    def objects(self) -> tuple[dict[str, Any], ...]:
        """The branches that allow an object."""
        return tuple(each for each in self.branches if "object" in branch_kinds(each))

    def member(self, name: str) -> Schema:
        """The schema of a property; any value if there is none."""
        found: list[Any] = []
        for branch in self.objects:
            told = _property(branch, name)
            if told not in found:
                found.append(told)
        if len(found) > 1:
            # Which one it is depends on the other properties.
            found = [{"anyOf": [each for each in found if each != {}] or [{}]}]
        return Schema(found[0] if found else {}, self.root)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The properties that are declared."""
        listed = [mapping(branch.get("properties")) for branch in self.objects]
        return tuple(dict.fromkeys(name for each in listed for name in each))

    @cached_property
    def is_open(self) -> bool:
        """Whether other properties are expected too; a list of some means: these."""
        return any(
            branch.get("additionalProperties") not in (None, False)
            or branch.get("patternProperties")
            or ("properties" not in branch and branch.get("additionalProperties") is not False)
            for branch in self.objects
        )

    @cached_property
    def signatures(self) -> tuple[Signature, ...]:
        """The alternative sets of properties; none if the schema needs more than that."""
        found = []
        for branch in self.objects:
            named = branch.get("properties", {})
            needed = branch.get("required", [])
            if (
                any(key in branch for key in _BEYOND)
                or not isinstance(named, Mapping)
                or not isinstance(needed, list)
            ):
                return ()
            needed = dict.fromkeys(each for each in needed if isinstance(each, str))
            names = dict.fromkeys([*named, *needed])
            told = {name: Schema(_property(branch, name), self.root) for name in names}
            if any(each.told is False and name in needed for name, each in told.items()):
                continue
            others = branch.get("additionalProperties", "properties" not in branch)
            other = Schema(others if isinstance(others, Mapping) else {}, self.root)
            found.append(
                Signature(
                    {name: each for name, each in told.items() if name in needed},
                    {
                        name: each
                        for name, each in told.items()
                        if name not in needed and each.told is not False
                    },
                    other if others is not False and not names else None,
                    tuple(name for name in names if told[name].told is not False),
                )
            )
        return tuple(found)

    @property
    def standalone(self) -> Any:
        """The part as a separate schema, with the definitions that it refers to."""
        defined: dict[str, Any] = {}
        names: dict[str, str] = {}

        def moved(told: Any) -> Any:
            if isinstance(told, list):
                return [moved(each) for each in told]
            if not isinstance(told, Mapping):
                return told
            found = {key: each if key in _LITERAL else moved(each) for key, each in told.items()}
            for key in found.keys() & set(_NAMED):
                found[key] = {name: moved(each) for name, each in mapping(told[key]).items()}
            path = told.get("$ref")
            if isinstance(path, str) and path.startswith("#"):
                if path not in names:
                    names[path] = f"d{len(names)}"
                    defined[names[path]] = moved(referred(path, self.root))
                found["$ref"] = f"#/$defs/{names[path]}"
            return found

        told = self.told
        if not isinstance(told, Mapping):
            return {}
        found = moved({key: told[key] for key in told if key not in ("$defs", "definitions")})
        return {**found, "$defs": defined} if defined else found

    def item(self, index: int) -> Schema:
        """The schema of an item of a list."""
        for branch in self.branches:
            first = branch.get("prefixItems")
            if isinstance(first, list) and index < len(first):
                return Schema(first[index], self.root)
            if isinstance(items := branch.get("items"), Mapping):
                return Schema(items, self.root)
        return Schema({}, self.root)

    def accepts(self, value: Any) -> bool:
        """Whether a value conforms; if the schema can't be judged by, whether its kind does."""
        found = conforms(value, self.told, self.root)
        return bool(kinds_of_value(value) & self.kinds) if found is None else found


def _property(branch: Mapping[str, Any], name: str) -> Any:
    named = mapping(branch.get("properties"))
    if name in named:
        return named[name]
    for pattern, told in mapping(branch.get("patternProperties")).items():
        try:
            if compiled(pattern).found_in(name):
                return told
        except Unsupported:
            continue
    others = branch.get("additionalProperties")
    return others if isinstance(others, Mapping) else {}
