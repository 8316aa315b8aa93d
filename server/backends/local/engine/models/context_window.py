"""The length of a model's context window, from the files in its folder. Pure.

Models record it in different places: under a dozen keys of config.json, or in its part for the
language model. It may also be in the scaling of positions (rope scaling) or in
tokenizer_config.json. Or no file has it, because it is the default of the architecture. A sliding
window is something else: it limits single layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GUESS_TOKENS = 8_192
"""Used if no file names a length."""
RECURRENT_TOKENS = 131_072
"""For models whose state doesn't grow: they have no window, but answers get worse somewhere."""
MAX_TOKENS = 1 << 26
"""More is a placeholder, as the 1e30 of many a tokenizer_config.json."""

KEYS = (
    "model_max_length",
    "max_position_embeddings",
    "max_sequence_length",
    "seq_length",
    "max_seq_len",
    "max_seq_length",
    "seq_len",
    "sequence_len",
    "n_positions",
    "n_ctx",
    "max_context_length",
    "context_length",
    "max_model_len",
    "max_target_positions",
)
"""In the order in which they count. The first is Cohere's, beside a smaller second one."""
NESTED = ("text_config", "llm_config", "language_config", "thinker_config", "lm_config")
"""Parts of the config about text, in models that also take pictures or sound."""

RECURRENT = frozenset({"mamba", "mamba2", "falcon_mamba", "rwkv7", "rwkv", "recurrent_gemma"})
DEFAULTS = {
    "gemma": 8_192,
    "gemma2": 8_192,
    "gemma3": 131_072,
    "gemma3_text": 131_072,
    "gemma3n": 32_768,
    "gemma3n_text": 32_768,
    "gemma4": 131_072,
    "gemma4_text": 131_072,
    "gemma4_unified": 262_144,
    "gpt2": 1_024,
    "gpt_oss": 131_072,
    "gptj": 2_048,
    "gpt_neox": 2_048,
    "glm": 131_072,
    "glm4": 131_072,
    "glm4_moe": 131_072,
    "glm4_moe_lite": 202_752,
    "glm_moe_dsa": 202_752,
    "deepseek_v32": 163_840,
    "mistral": 131_072,
    "mistral3": 131_072,
    "ministral3": 262_144,
    "mistral4": 1_048_576,
    "mixtral": 131_072,
    "minimax": 131_072,
    "minimax_m2": 196_608,
    "lfm2": 128_000,
    "lfm2_moe": 128_000,
    "lfm2-vl": 128_000,
    "phimoe": 131_072,
    "llama4": 131_072,
    "llama4_text": 131_072,
    "qwen3_vl": 128_000,
    "qwen3_vl_moe": 128_000,
    "kimi_linear": 1_048_576,
    "seed_oss": 524_288,
    "jamba": 262_144,
    "ernie4_5": 131_072,
    "ernie4_5_moe": 131_072,
    "laguna": 131_072,
    "mellum": 131_072,
    "mimo_v2_flash": 131_072,
    "solar_open": 131_072,
    "longcat_flash": 131_072,
    "smollm3": 32_768,
    "qwen": 8_192,
    "qwen2": 32_768,
    "qwen2_moe": 32_768,
    "qwen3": 32_768,
    "qwen3_moe": 32_768,
    "qwen3_5": 131_072,
    "qwen3_5_moe": 131_072,
    "falcon_h1": 131_072,
    "afmoe": 131_072,
    "hunyuan_v1_dense": 32_768,
    "internlm2": 32_768,
    "internlm3": 32_768,
    "mimo": 32_768,
    "step3p5": 262_144,
    "nemotron-nas": 131_072,
    "iquestloopcoder": 131_072,
    "iquestcoder": 131_072,
    "youtu_llm": 131_072,
    "kimi_k3": 1_048_576,
    "minimax_m3_vl": 1_048_576,
    "deepseek_v41": 1_048_576,
    "muse_glimmer": 131_072,
    "muse_spark": 1_048_576,
    "apertus": 65_536,
    "bailing_hybrid": 262_144,
    "minicpm3": 32_768,
    "olmo_hybrid": 65_536,
    "qwen2_vl": 32_768,
    "qwen2_5_vl": 32_768,
}
"""By model type: the architecture's default length where config.json omits it.

transformers omits defaults in nested parts. The values are from there, else from mlx-lm. Families
with different lengths are left out, for example llama.
"""

ALREADY_STRETCHED = ("gemma3", "gemma4")
"""Their window counts the stretching in."""
ALSO_STRETCHED = frozenset({"linear", "dynamic", "ntk", "yarn"})
"""Stretching that a window may or may not count in, if it doesn't say from where it starts."""


@dataclass(frozen=True, slots=True)
class ContextWindow:
    """How far a model can look back."""

    tokens: int
    source: str
    """The place that names it, for a person."""
    is_guess: bool = False
    """Whether no file names it, so that the user may know better."""

    def narrowed(self, asked_tokens: int) -> ContextWindow:
        """The user's length, if possible: a guess may be raised, a named length only shortened."""
        if not asked_tokens or asked_tokens == self.tokens:
            return self
        if asked_tokens < self.tokens:
            return ContextWindow(asked_tokens, "--context-tokens")
        if self.is_guess:
            source = f"--context-tokens, instead of {self.tokens:,} ({self.source})"
            return ContextWindow(asked_tokens, source, is_guess=True)
        source = f"{self.source}; --context-tokens {asked_tokens:,} is more than that"
        return ContextWindow(self.tokens, source)


def find_window(config: Mapping[str, Any], tokenizer_config: Mapping[str, Any]) -> ContextWindow:
    """The window that a model's files name, or a guess."""
    parts = list(text_parts(config))
    for prefix, part in parts:
        if (found := _of_part(prefix, part)) is not None:
            return found
    kinds = [str(part.get("model_type", "")) for _, part in parts]
    default = next((kind for kind in kinds if kind in DEFAULTS), None)
    stated = count(tokenizer_config.get("model_max_length"))
    # A nested part omits defaults; elsewhere a missing value may be an error.
    if default and (len(parts) > 1 or not stated):
        return ContextWindow(DEFAULTS[default], f"the default of {default}")
    if stated:
        return ContextWindow(stated, "model_max_length in tokenizer_config.json")
    for kind in kinds:
        if kind in RECURRENT:
            source = f"{kind} has no window of its own; a guess"
            return ContextWindow(RECURRENT_TOKENS, source, is_guess=True)
    return ContextWindow(GUESS_TOKENS, "the model's files name none; a guess", is_guess=True)


def text_parts(config: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The parts of a config that are about text, innermost first, each with its path."""
    found: list[tuple[str, Mapping[str, Any]]] = [("", config)]
    at, prefix = config, ""
    for _ in NESTED:
        key = next((key for key in NESTED if isinstance(at.get(key), Mapping)), None)
        if key is None:
            break
        at, prefix = at[key], f"{prefix}{key}."
        found.insert(0, (prefix, at))
    return found


def _of_part(prefix: str, part: Mapping[str, Any]) -> ContextWindow | None:
    stated = next(((key, n) for key in KEYS if (n := count(part.get(key)))), None)
    kind, factor, original = _scaling(part)
    reach = count(original * factor)
    if stated is None:
        # A factor without the original length has no meaning.
        if not reach:
            return None
        source = f"{prefix}rope_scaling: {factor:g} x {original:,}"
        return ContextWindow(reach, source, is_guess=kind not in ("yarn", "linear"))
    key, tokens = stated
    if kind == "yarn" and reach > tokens:
        return ContextWindow(reach, f"{prefix}rope_scaling: {factor:g} x {original:,}")
    unclear = kind in ALSO_STRETCHED and factor > 1 and not original
    if unclear and not str(part.get("model_type", "")).startswith(ALREADY_STRETCHED):
        source = f"{prefix}{key}; rope_scaling may reach {round(tokens * factor):,}"
        return ContextWindow(tokens, source, is_guess=True)
    return ContextWindow(tokens, f"{prefix}{key}")


def _scaling(part: Mapping[str, Any]) -> tuple[str, float, int]:
    """How positions are stretched: kind, factor and from how many tokens on, 0 if unsaid."""
    told: Any = part.get("rope_scaling") or part.get("rope_parameters") or {}
    if isinstance(told, Mapping) and isinstance(told.get("full_attention"), Mapping):
        told = told["full_attention"]
    if not isinstance(told, Mapping):
        return "", 1.0, 0
    kind = str(told.get("rope_type") or told.get("type") or "")
    factor = number(told.get("factor")) or 1.0
    key = "original_max_position_embeddings"
    original = count(told.get(key)) or count(part.get(key))
    return kind, factor, original if kind not in ("", "default") else 0


def count(value: Any) -> int:
    """A number of tokens, or 0 for an invalid one; numbers may be texts."""
    found = number(value)
    return int(found) if 1 <= found <= MAX_TOKENS else 0


def number(value: Any) -> float:
    """A finite number, or 0 for what isn't one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 0.0
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return 0.0
    return found if math.isfinite(found) else 0.0
