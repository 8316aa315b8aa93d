"""`mlxdeck`: runs the command, and reports errors that the user can fix."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import nullcontext, suppress
from types import FrameType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from mlxdeck.cli.command_parser import CommandParser

OPTIONS = ("-h", "--help", "--version")
"""In front of a command."""
LEFT_OVER_S = 0.5
"""For a thread to end that is through with its work."""
COMMANDS = (
    *("claude", "run", "up", "serve", "env", "tui", "replay", "inspect"),
    *("report", "stats", "why", "export"),
    *("check", "bench", "parse", "doctor", "models", "fits", "pull", "rm"),
    *("config", "service", "completion", "help"),
)
"""In the order of `--help`. Each is a module here with `EXAMPLE`, `add(parser)` and `run(args)`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status.

    Without `argv`, this is the whole process: Ctrl+C before and after the command ends it quietly.
    Slow imports therefore come after this function has begun.
    """
    if argv is None:
        _leave_on_interrupt()
    try:
        status = _run(argv)
    except SystemExit as left:
        if argv is not None or not isinstance(left.code, int):
            raise
        status = left.code
    if argv is None:
        _leave_on_interrupt()
        _leave_threads(status)
    return status


def _leave_threads(status: int) -> None:
    """End the process at once if a thread is left that Python would wait for.

    A signal that ends the dashboard leaves the thread that waits for keys.
    """
    import threading

    main_thread = threading.main_thread()
    left = [each for each in threading.enumerate() if each is not main_thread and not each.daemon]
    for thread in left:
        thread.join(LEFT_OVER_S)
    if any(thread.is_alive() for thread in left):
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(status)


def _leave_on_interrupt() -> None:
    def leave(number: int, _: FrameType | None) -> None:
        os._exit(128 + number)

    signal.signal(signal.SIGINT, leave)


def _run(argv: Sequence[str] | None) -> int:
    import io

    from mlxdeck.cli.places import copied_here
    from mlxdeck.settings.errors import UserError

    args = _parsed(sys.argv[1:] if argv is None else list(argv))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A character that the terminal can't show must not end the command.
            stream.reconfigure(errors="replace")
    try:
        # `tui` follows a server itself.
        with nullcontext() if args.parser.prog.endswith(" tui") else copied_here(args):
            status = int(args.run(args))
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"mlxdeck: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader closed the pipe. Send what Python still flushes to the null device.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parsed(words: list[str]) -> Namespace:
    """The arguments of a command line; ends the process if they are wrong."""
    from mlxdeck.settings.errors import nearest

    first = words[0] if words else "--help"
    if not first.startswith("-") and first not in COMMANDS:
        build_parser(()).error(
            f"unknown command {nearest(first, COMMANDS)} (mlxdeck --help lists all)"
        )
    if first.startswith("-") and not any(each.startswith(first) for each in OPTIONS):
        build_parser(()).error(
            f"unknown option {nearest(first, OPTIONS)}. Options follow a command, as in: mlxdeck"
            " serve --port 9000"
        )
    # Only the command that runs is imported.
    parser = build_parser((first,) if first in COMMANDS else COMMANDS)
    args, unknown = parser.parse_known_args(words or [first])
    if unknown:
        args.parser.refuse(unknown)
    return args


def build_parser(names: Sequence[str] = COMMANDS) -> CommandParser:
    """The parser of some commands and their arguments."""
    from importlib import import_module

    from mlxdeck.cli.command_parser import CommandFormatter, CommandParser

    parser = CommandParser(
        prog="mlxdeck",
        formatter_class=CommandFormatter,
        description="Serve a local MLX model to Claude Code, and see what each request costs.",
    )
    parser.add_argument("--version", action="version", version=f"mlxdeck {own_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in names:
        module = import_module(f"mlxdeck.cli.{name}")
        text = str(module.__doc__)
        command = commands.add_parser(
            name, help=text.split(".")[0], description=text, epilog=f"example: {module.EXAMPLE}"
        )
        command.set_defaults(run=module.run, parser=command)
        module.add(command)
        command.shorten_usage()
    return parser


def version(name: str) -> str:
    """The version of an installed package."""
    from importlib import metadata

    return metadata.version(name)


def own_version() -> str:
    """The installed version; a bare checkout has none."""
    from importlib.metadata import PackageNotFoundError

    try:
        return version("mlxdeck")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
