"""Print a corpus as JSON lines: `python -m tests.corpora edits --seed 1`.

A line is a request, the answer to be expected, and facts to group by.
"""

from __future__ import annotations

import argparse
import json
import sys

from tests.corpora.chats import chats
from tests.corpora.edits import edits
from tests.corpora.repetitive import repetitions
from tests.corpora.tool_turns import tool_turns

CORPORA = {"edits": edits, "chats": chats, "tools": tool_turns}


def main(arguments: list[str]) -> None:
    """Print one."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpora", description=__doc__)
    parser.add_argument("corpus", choices=[*CORPORA, "repetitive"])
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args(arguments)
    if told.corpus == "repetitive":
        for each in repetitions(told.seed):
            print(json.dumps(each._asdict(), ensure_ascii=False))
    else:
        for example in CORPORA[told.corpus](told.seed):
            print(example.to_json())


if __name__ == "__main__":
    main(sys.argv[1:])
