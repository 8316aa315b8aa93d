"""Errors that a user can correct."""

from __future__ import annotations


class UserError(Exception):
    """Base of errors that the user can fix. A command prints the text without a traceback."""


class SettingsError(UserError, ValueError):
    """A setting is unknown or has a bad value; the text names the source."""
