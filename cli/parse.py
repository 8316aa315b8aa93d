"""Show how the server parses a model's answer. Prints text, thinking and tool calls as JSON."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from mlxdeck.cli.settings import refuse_idle
from mlxdeck.settings.errors import UserError

EXAMPLE = "mlxdeck parse answer.txt --format qwen3_coder --explain"


def add(parser: ArgumentParser) -> None:
    parser.add_argument(
        "file", nargs="?", default="-", metavar="FILE", help="the model's answer; default: stdin"
    )
    parser.add_argument(
        "--format",
        default="",
        metavar="NAME",
        help="format of tool calls, as --formats lists them; default: auto",
    )
    parser.add_argument("--formats", action="store_true", help="list the formats, and leave")
    parser.add_argument(
        "--tools", metavar="FILE", help="JSON with the tools; default: every tool name is accepted"
    )
    parser.add_argument("--cut", action="store_true", help="the answer ended at its token limit")
    parser.add_argument("--explain", action="store_true", help="add each step of the parser")


def run(args: Namespace) -> int:
    from mlxdeck.server.backends.local.toolcalls import explain
    from mlxdeck.telemetry.control_characters import shown_json

    if args.formats:
        refuse_idle(args, "with --formats", "format", "tools", "cut", "explain")
        print("\n".join(explain.listed()))
        return 0
    text, tools = _read(args.file), _read(args.tools) if args.tools else ""
    try:
        report = explain.explain(
            text,
            format_=args.format or "auto",
            tools=tools,
            complete=not args.cut,
            notes=args.explain,
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    print(shown_json(report, indent=2))
    return 0


def _read(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{name} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{name} can't be read: it is no text in UTF-8") from error
