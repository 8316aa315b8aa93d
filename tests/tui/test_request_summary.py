"""What happened to a request, in words."""

from __future__ import annotations

from mlxdeck.telemetry.schema import events as t
from mlxdeck.tui.present import request_summary


def test_a_request_that_was_refused_unread_tells_what_is_known() -> None:
    """No model, no parameters: nobody has read them."""
    refused = t.RequestStart(dialect="anthropic", body_bytes=12)
    assert dict(request_summary.request(refused)) == {"sent": "anthropic, 12B; refused unread"}


def test_the_model_that_served_it_is_told_where_it_is_known() -> None:
    """Beside the one that was asked for."""
    start = t.RequestStart(model="local", n_messages=1, n_tools=0)
    assert dict(request_summary.request(start))["model"] == "local"
    assert dict(request_summary.request(start, "smollm2"))["model"] == "local, served by smollm2"


def test_results_that_are_not_told_are_counted() -> None:
    """Only where there are any."""
    start = t.RequestStart(model="local", n_messages=1, n_tools=0, n_untold_results=30)
    assert dict(request_summary.request(start))["not told"] == "30 more results of tools"
