"""Where a text between tags ends that may itself contain tags: by names and nesting."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from mlxdeck.server.backends.local.toolcalls.reading.json_arguments import MAX_NAME, raw_value
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import (
    CutOff,
    Reading,
    StreamReader,
)

_OPENS_JSON = ("{", "[", '"')


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags of a format, without the blanks around them."""

    opens: str
    ends: str
    """Of a call."""
    key: str
    key_end: str
    value: str
    close: str
    outer: tuple[str, ...]
    padded: bool
    """Whether a value has lines of its own."""

    @property
    def markup(self) -> tuple[str, ...]:
        """Texts that would not survive as plain text."""
        listed = (self.opens, self.ends, self.key, self.value, self.close, *self.outer)
        return tuple(dict.fromkeys(filter(None, listed)))

    def trimmed(self, text: str, key: str, *, whole: bool) -> str:
        """A text without a wrong closing tag, or a closing tag written twice."""
        name = self.close.removeprefix("</").removesuffix(">")
        wrong = (self.close,) if whole else (f"</{key}>", f"</{name}={key}>", f"</{name}_{key}>")
        for tag in wrong:
            found = text.rstrip().removesuffix(tag)
            if found != text.rstrip() and tag.replace("</", "<").removesuffix(">") not in text:
                return found.removesuffix("\n")
        return text


def bare(name: str) -> str:
    """The name between tags, without quotes and other attributes."""
    return name.strip().strip("\"'").partition('"')[0]


class Payload:
    """Reads one value of a call that was not constrained."""

    def __init__(
        self, source: StreamReader, tags: Tags, expects: Callable[[str], bool], *, bare: bool
    ) -> None:
        """`expects` are the names of possible parameters; `bare`: without outer tags."""
        self._source = source
        self._tags = tags
        self._expects = expects
        self._bare = bare

    def read(self, *, json_first: bool) -> Reading[tuple[str, bool]]:
        """The text, and whether its closing tag was there.

        With `json_first`, a JSON value is taken whole, even if its texts contain tags.

        Raises:
            CutOff: It does not end.
        """
        begin = self._source.place
        if json_first:
            found = yield from self._json()
            if found is not None:
                return found, True
            self._source.back(begin)
        try:
            return (yield from self._text(nested=True))
        except CutOff:
            if self._source.cut:
                raise
            # Tags in the text that are not nested: the first end is as good as any.
            self._source.back(begin)
        return (yield from self._text(nested=False))

    def _json(self) -> Reading[str | None]:
        source = self._source
        yield from source.skip()
        if (yield from source.peek()) not in _OPENS_JSON:
            return None
        try:
            raw = yield from raw_value(source)
            json.loads(raw)
            yield from source.skip()
            closed = yield from source.match(self._tags.close)
            return raw if closed and (yield from self._goes_on(nested=True)) else None
        except (CutOff, ValueError, RecursionError):
            return None

    def _text(self, *, nested: bool) -> Reading[tuple[str, bool]]:
        source, tags = self._source, self._tags
        begin, calls, pairs = source.place, 0, 0
        marks = tuple(dict.fromkeys((tags.opens, tags.ends, tags.key, tags.close)))
        while True:
            _, mark = source.certain(*marks)
            at = source.place - len(mark)
            if not mark:
                yield from source.more()
            elif mark == tags.opens:
                calls += nested and (yield from self._names())
            elif mark == tags.ends:
                if not nested and (yield from self._over()):
                    source.back(at)
                    return self._between(begin, at).rstrip(), False
                calls -= 1
            elif nested and calls > 0:
                continue
            elif mark == tags.key:
                name = yield from self._key()
                if self._expects(name) and self._line_start(begin, at):
                    source.back(at)
                    return self._between(begin, at).rstrip(), False
                pairs += bool(name)
            else:
                if (not nested or pairs <= 0) and (yield from self._goes_on(nested=nested)):
                    return self._between(begin, at), True
                pairs -= 1

    def _between(self, begin: int, end: int) -> str:
        place = self._source.place
        self._source.back(end)
        text = self._source.since(begin)
        self._source.back(place)
        return text.removesuffix("\n") if self._tags.padded else text

    def _line_start(self, begin: int, at: int) -> bool:
        if at == begin or not self._tags.padded:
            return True
        place = self._source.place
        self._source.back(at)
        before = self._source.since(at - 1)
        self._source.back(place)
        return before.isspace()

    def _names(self) -> Reading[bool]:
        """Whether what opens a call is followed by what may be a tool's name."""
        source = self._source
        begin = source.place
        while (char := (yield from source.peek())) and (char.isalnum() or char in "_-.:\n"):
            source.take(1)
        found = source.since(begin).strip() != "" and char in ">\"'<"
        source.back(begin)
        return found

    def _key(self) -> Reading[str]:
        """The name of the parameter that may begin here; empty if none does."""
        source, tags = self._source, self._tags
        begin = source.place
        while source.place - begin <= MAX_NAME:
            char = yield from source.peek()
            if not char or char == "\n":
                break
            if (yield from source.match(tags.key_end)):
                name = source.since(begin).removesuffix(tags.key_end)
                source.back(begin)
                return bare(name)
            source.take(1)
        source.back(begin)
        return ""

    def _goes_on(self, *, nested: bool) -> Reading[bool]:
        """Whether the call continues or ends here, as it would after a value."""
        source, tags = self._source, self._tags
        begin = source.place
        yield from source.skip()
        try:
            if (yield from source.match(tags.key)):
                name = yield from self._key()
                return bool(name) and self._expects(name)
            if (yield from source.match(tags.ends)):
                return not nested or (yield from self._over())
            if (yield from source.any_of(*tags.outer)):
                return True
            return not (yield from source.peek())
        finally:
            source.back(begin)

    def _over(self) -> Reading[bool]:
        """Whether a call may be over here: another one comes, or nothing."""
        source, tags = self._source, self._tags
        begin = source.place
        yield from source.skip()
        closed = yield from source.any_of(*tags.outer, tags.opens)
        over = bool(closed) or self._bare or tags.ends in tags.outer
        over = over or not (yield from source.peek())
        source.back(begin)
        return over
