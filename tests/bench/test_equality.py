"""Greedy answers are the same whatever saves time; and where they aren't, it is found."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.bench.equal import bodies, recordings
from tests.bench.equality import EPSILON, Recording, compared, differences
from tests.zoo.models import small_smollm2

# Six servers, one after the other, on a machine that may be busy.
pytestmark = [pytest.mark.model, pytest.mark.timeout(400)]

N_ANSWERS, N_TOKENS = 20, 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with a real tokenizer."""
    return small_smollm2(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def rows(folder: Path) -> dict[str, Recording]:
    """Answers of the corpora by what is on; the empty name is the reference."""
    return asyncio.run(recordings(folder, bodies(N_ANSWERS, max_chars=900, n_tokens=N_TOKENS)))


def test_answers_are_the_same_whatever_is_reused(folder: Path, rows: dict[str, Recording]) -> None:
    """Or the two tokens are as likely, up to rounding; and each of them really did something."""
    reference = rows[""]
    assert reference.n_cached == 0 and reference.n_written >= N_ANSWERS * 8
    for name, recording in rows.items():
        if name:
            found = compared(folder, reference, recording)
            assert found.n_answers == N_ANSWERS and found.n_wrong == 0, name
    for name in rows.keys() - {""}:
        assert rows[name].n_cached > 0.9 * rows[name].n_prompt
        is_guessed = name in ("equal_lookup", "equal_forced")
        assert (rows[name].n_passless > 0) == is_guessed, name


def test_wrong_token_is_found(folder: Path, rows: dict[str, Recording]) -> None:
    """One that the model finds less likely, one too few, and none of a prompt nobody answered."""
    reference = rows[""]
    prompts = list(reference.answers)
    wrong = {prompt: list(answer) for prompt, answer in reference.answers.items()}
    wrong[prompts[0]][5] = (wrong[prompts[0]][5] + 1) % 1000
    del wrong[prompts[1]][-3:]
    del wrong[prompts[2]]
    other = Recording(wrong)
    places = {each.prompt: (each.n_equal, each.pair[1]) for each in differences(reference, other)}
    last = len(reference.answers[prompts[1]]) - 3
    assert places == {prompts[0]: (5, wrong[prompts[0]][5]), prompts[1]: (last, -1)}
    found = compared(folder, reference, other)
    assert (found.n_answers, found.n_wrong) == (N_ANSWERS - 1, 2) and min(found.gaps) > EPSILON
