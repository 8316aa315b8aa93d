"""What a loaded model is, in the words of the seam and of `GET /v1/status`."""

from __future__ import annotations

from mlxdeck.server.backends.base import BackendInfo
from mlxdeck.server.backends.local.engine.api import ModelInfo
from mlxdeck.server.backends.local.prompt.template_trial import TemplateTrial


def model_report(model: ModelInfo, template: TemplateTrial, signature: str) -> BackendInfo:
    """A model with its template; `signature` is the model's share of an answer's key."""
    return BackendInfo(
        model.name,
        signature,
        model.context_tokens,
        model.device,
        template.summary,
        {
            "model_path": model.path,
            "context": {
                "source": model.context_source,
                "is_guess": model.context_is_guess,
                "kv_bytes": model.kv_bytes,
                "kv_layers": [
                    (each.token_bytes, each.most_tokens, each.fixed_bytes)
                    for each in model.kv_cost.layers
                ],
            },
            "chat_template": template.report(),
        },
    )
