"""`make zoo`: a table of what holds for each family of models, whatever its weights say."""

from __future__ import annotations

import argparse
import os
import random
import sys
from pathlib import Path

from tests.zoo.families import FAMILIES
from tests.zoo.markdown import write
from tests.zoo.table import CHECKS, Row, as_text, run
from tests.zoo.vocabularies import VOCABULARIES, Unavailable


def main() -> int:
    """Look at the families that were asked for; 1 if anything fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.zoo", description=__doc__)
    parser.add_argument("--families", default="", help="names with commas between them")
    parser.add_argument("--checks", default="", help="names with commas between them")
    parser.add_argument("--sample", type=int, default=0, help="so many families, by chance")
    parser.add_argument("--seed", type=int, default=1, help="which ones --sample draws")
    parser.add_argument("--markdown", type=Path, help="also write the table to a file")
    parser.add_argument("--fetch", action="store_true", help="only fetch the tokenizers")
    args = parser.parse_args()
    try:
        for vocabulary in VOCABULARIES.values():
            vocabulary.folder()
    except Unavailable as error:
        print(f"zoo: {error}", file=sys.stderr)
        return 1
    if args.fetch:
        return 0
    families = args.families.split(",") if args.families else list(FAMILIES)
    checks = args.checks.split(",") if args.checks else list(CHECKS)
    if unknown := [*({*families} - {*FAMILIES}), *({*checks} - {*CHECKS})]:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join([*FAMILIES, *CHECKS])}")
    if args.sample:
        families = random.Random(args.seed).sample(families, min(args.sample, len(families)))
        print(f"seed {args.seed}: {', '.join(families)}")
    done: list[Row] = []

    def tell(row: Row) -> None:
        _say(row)
        done.append(row)
        if args.markdown:
            # Anew after each family, so that a run that is broken off leaves what it has found.
            done.sort(key=lambda each: families.index(each.family))
            args.markdown.write_text(write(done), encoding="utf-8")

    rows = run(families, checks, tell)
    print("\n" + as_text(rows))
    return int(any(row.failed for row in rows))


def _say(row: Row) -> None:
    """Say what was found of one family, as soon as it is."""
    failed = "; ".join(f"{name}: {reason}" for name, reason in row.failed.items())
    print(f"{row.family} ({row.duration_s:.0f} s): {failed or 'ok'}", flush=True)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # MLX was used on threads that are gone, and aborts when it is torn down.
    os._exit(status)
