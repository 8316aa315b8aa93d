"""`GET /v1/models`: what clients choose from, and how long its prompts may be."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from mlxdeck.server.admin.models import entry, page
from mlxdeck.server.backends.local.engine.api import ModelInfo, Progress
from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.errors import BadRequest
from tests.server.http import running

NAME = "mlx community/Échó-30B"
ANTHROPIC = {"anthropic-version": "2023-06-01"}


class Named(EchoEngine):
    """A model with a name that has to be encoded in a URL."""

    def load(self, progress: Progress) -> ModelInfo:
        """Nothing to load."""
        del progress
        return ModelInfo(NAME, "", NAME, 4096, "none")


async def test_a_model_tells_its_window_by_every_name() -> None:
    """In the list and alone, however its id is encoded; both APIs' own fields are there."""
    async with running(Named()) as server:
        listed = (await server.http.get("/v1/models")).json()
        (found,) = listed["data"]
        assert (listed["object"], listed["first_id"], listed["last_id"]) == ("list", NAME, NAME)
        assert (found["id"], found["object"], found["type"]) == (NAME, "model", "model")
        assert found["display_name"] == NAME and found["created_at"] and found["owned_by"]
        for name in ("max_input_tokens", "max_model_len", "context_window", "context_length"):
            assert found[name] == 4096
        assert found["max_tokens"] == 4096
        for path in (quote(NAME), quote(NAME, safe=""), f"{quote(NAME)}/"):
            assert (await server.http.get(f"/v1/models/{path}")).json() == found
        head = await server.http.head(f"/v1/models/{quote(NAME)}")
        assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ({}, {"code": "model_not_found", "param": None}),
        (ANTHROPIC, {"type": "not_found_error"}),
        ({"x-api-key": "k"}, {"type": "not_found_error"}),
    ],
)
async def test_an_unknown_model_is_a_404_in_the_clients_own_api(
    headers: dict[str, str], shown: dict[str, Any]
) -> None:
    """It names what was asked for and what there is."""
    async with running() as server:
        for path in ("other", "a%2Fb", "%ff%00", "echo%20"):
            told = await server.http.get(f"/v1/models/{path}", headers=headers)
            error = told.json()["error"]
            assert told.status_code == 404
            assert shown.items() <= error.items()
            assert "this server has echo" in error["message"]
            assert (told.json().get("type") == "error") == bool(headers)


async def test_the_window_is_left_out_until_it_is_known() -> None:
    """A model that loads is listed without figures that nobody knows yet."""
    assert not {"max_input_tokens", "max_tokens"} & entry("m").keys()
    async with running(max_output_tokens=100) as server:
        (found,) = (await server.http.get("/v1/models")).json()["data"]
        assert found["max_tokens"] == 100


IDS = [entry(name) for name in "abcde"]


@pytest.mark.parametrize(
    ("query", "ids", "more"),
    [
        ({}, "abcde", False),
        ({"limit": "2"}, "ab", True),
        ({"limit": "2", "after_id": "b"}, "cd", True),
        ({"limit": "2", "after_id": "d"}, "e", False),
        ({"after_id": "e"}, "", False),
        ({"limit": "2", "before_id": "e"}, "cd", True),
        ({"limit": "3", "before_id": "c"}, "ab", False),
        ({"limit": "", "after_id": "", "lifecycle": "active", "x": "1"}, "abcde", False),
    ],
)
def test_a_list_has_pages(query: dict[str, str], ids: str, more: bool) -> None:
    """By a limit and a cursor on either side; other parameters mean nothing here."""
    found = page(IDS, query)
    assert "".join(each["id"] for each in found["data"]) == ids
    assert found["has_more"] is more
    assert (found["first_id"], found["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "²"}, "limit"),
        ({"after_id": "z"}, "after_id"),
        ({"before_id": "z"}, "before_id"),
    ],
)
def test_a_page_that_is_none_names_its_parameter(query: dict[str, str], field: str) -> None:
    """As the API it comes from does."""
    with pytest.raises(BadRequest, match=f"^{field}: "):
        page(IDS, query)


async def test_a_served_model_has_the_name_that_was_asked_for() -> None:
    """In the list and in the status, whatever its own name is."""
    async with running(served_model_name="house/model") as server:
        (model,) = (await server.http.get("/v1/models")).json()["data"]
        status = (await server.http.get("/v1/status")).json()
    assert model["id"] == status["model"] == "house/model"
