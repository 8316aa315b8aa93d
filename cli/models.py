"""List models that can be served without a download. Any other Hugging Face id is downloaded."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from mlxdeck.cli.settings import server_settings

EXAMPLE = "mlxdeck models"


def add(_: ArgumentParser) -> None: ...


def run(args: Namespace) -> int:
    from mlxdeck.server.backends.local.engine.models.loader import list_models

    for model in list_models(server_settings(args).models_folder):
        print(f"{model.name:<48} {model.source:<8} {model.path}")
    return 0
