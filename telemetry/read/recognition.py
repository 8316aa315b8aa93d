"""What data is, by how it begins: telemetry, another program's transcript, or neither."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from mlxdeck.telemetry.read.line_buffer import MAX_LINE_BYTES
from mlxdeck.telemetry.schema.codec import UTF8_MARK

_HEAD_BYTES = 64 << 10
"""So much of the beginning is looked at first."""
JUDGED_BYTES = 1 << 20
"""Data without an event in so much behind its first line is none of ours."""
EXPECTED = (
    "expected telemetry of mlxdeck (.jsonl, also .gz or .zst), a folder of such files, or"
    " transcripts of Claude Code"
)

Kind = Literal["telemetry", "transcript"]

_OTHERS: Mapping[bytes, str] = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive: unpack it first",
    b"BZh": "compressed with bzip2: decompress it first",
    b"\xfd7zXZ": "compressed with xz: decompress it first",
    b"\x04\x22\x4d\x18": "compressed with lz4: decompress it first",
    b"SQLite format 3": "a database of SQLite",
    b"PAR1": "a Parquet file: a recording can't be made of it again",
    b"\x7fELF": "a program",
    b"\xcf\xfa\xed\xfe": "a program",
}
_WIDE = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
"""How texts of UTF-16 and UTF-32 begin."""


class ForeignData(ValueError):
    """Data that nothing can be read of; the text says what it is."""


class _FirstLine(msgspec.Struct):
    """What tells lines of different programs apart."""

    v: object = None
    event: object = None
    type: object = None
    sessionId: object = None
    """In nearly all lines of a transcript."""
    leafUuid: object = None
    """In the others."""
    messageId: object = None


_decode = msgspec.json.Decoder(_FirstLine).decode


def kind_of(head: bytes, *, n_odd: int = 2) -> Kind | None:
    """What data is that begins like this; None if no whole line of it tells.

    So many odd lines, and no other ones, are none of ours: a single one may be torn.

    Raises:
        ForeignData: It is something else, beyond doubt.
    """
    if found := told_kind(head):
        return found
    _refuse_binary(head)
    if sum(1 for _ in itertools.islice(_lines(head), n_odd)) >= n_odd:
        raise ForeignData(f"holds no event of mlxdeck; {EXPECTED}")
    return None


def told_kind(head: bytes) -> Kind | None:
    """What the first whole line of ours says that it is; lines before it may be anything."""
    for raw in _lines(head):
        # Most of what is none of ours is no JSON either.
        if raw[:1] != b"{":
            continue
        try:
            line = _decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # A torn line, or one of another form: those behind it count.
            continue
        if line.v is not None and isinstance(line.event, str):
            return "telemetry"
        if isinstance(line.type, str) and (line.sessionId or line.leafUuid or line.messageId):
            return "transcript"
    return None


def is_enough(head: bytes) -> bool:
    """Whether nothing that follows can make this one of ours."""
    first_end = head.find(b"\n")
    return len(head) >= (MAX_LINE_BYTES if first_end < 0 else first_end + JUDGED_BYTES)


def head_of(path: Path) -> bytes:
    """How a plain file begins, as far as it has to be known to judge it; raises OSError."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        if len(head) < _HEAD_BYTES or told_kind(head):
            return head
        if b"\n" not in head:
            head += file.readline(MAX_LINE_BYTES)
        return head + file.read(JUDGED_BYTES)


def _lines(head: bytes) -> Iterator[bytes]:
    """Lines with something in them; without the last one, which may be torn."""
    for raw in head.split(b"\n")[:-1]:
        if raw := raw.removeprefix(UTF8_MARK).strip():
            yield raw


def _refuse_binary(head: bytes) -> None:
    wide = head.startswith(_WIDE) or (head[1:4:2] == b"\0\0" or head[:4:2] == b"\0\0")
    if wide:
        raise ForeignData("is UTF-16 or UTF-32 text: save it as UTF-8")
    for mark, what in _OTHERS.items():
        if head.startswith(mark):
            raise ForeignData(f"is {what}; {EXPECTED}")
    if b"\0" in head:
        raise ForeignData(f"holds binary data; {EXPECTED}")
