"""The window of each family, from the keys that its published config.json has."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.server.backends.local.engine.models.context_window import (
    GUESS_TOKENS,
    RECURRENT_TOKENS,
    ContextWindow,
    find_window,
)
from mlxdeck.server.backends.local.engine.models.kv_size import kv_bytes

ABSURD = {"model_max_length": 1000000000000000019884624838656}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}
GEMMA3 = {
    "model_type": "gemma3",
    "text_config": {
        "model_type": "gemma3_text",
        "hidden_size": 2560,
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
}
YARN_4 = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


def yarn(factor: float, original: int) -> dict[str, Any]:
    """A rope scaling as DeepSeek and those after it name it."""
    return {"type": "yarn", "factor": factor, "original_max_position_embeddings": original}


FAMILIES: dict[str, tuple[dict[str, Any], int]] = {
    "llama 2": ({"model_type": "llama", "max_position_embeddings": 4096}, 4096),
    "llama 3": ({"model_type": "llama", "max_position_embeddings": 8192}, 8192),
    "llama 3.1": (
        {"model_type": "llama", "max_position_embeddings": 131072, "rope_scaling": LLAMA3},
        131072,
    ),
    "llama 3.2": (
        {
            "model_type": "llama",
            "max_position_embeddings": 131072,
            "rope_scaling": {**LLAMA3, "factor": 32.0},
        },
        131072,
    ),
    "llama 4 scout": (
        {"model_type": "llama4", "text_config": {"max_position_embeddings": 10485760}},
        10485760,
    ),
    "mistral 7b": (
        {"model_type": "mistral", "max_position_embeddings": 32768, "sliding_window": 4096},
        32768,
    ),
    "mistral nemo": ({"model_type": "mistral", "max_position_embeddings": 1024000}, 1024000),
    "ministral 3": (
        {
            "model_type": "mistral3",
            "text_config": {
                "model_type": "ministral3",
                "max_position_embeddings": 262144,
                "rope_parameters": yarn(16.0, 16384),
            },
        },
        262144,
    ),
    "devstral": ({"model_type": "mistral", "max_position_embeddings": 131072}, 131072),
    "qwen 1": ({"model_type": "qwen", "seq_length": 8192}, 8192),
    "qwen 2.5": ({"model_type": "qwen2", "max_position_embeddings": 32768}, 32768),
    "qwen 2.5 stretched": (
        {"model_type": "qwen2", "max_position_embeddings": 32768, "rope_scaling": YARN_4},
        131072,
    ),
    "qwen 3": (
        {"model_type": "qwen3", "max_position_embeddings": 40960, "rope_scaling": None},
        40960,
    ),
    "qwen 3 stretched": (
        {"model_type": "qwen3", "max_position_embeddings": 40960, "rope_scaling": YARN_4},
        131072,
    ),
    "qwen 3 moe": ({"model_type": "qwen3_moe", "max_position_embeddings": 262144}, 262144),
    "qwen 3 next": ({"model_type": "qwen3_next", "max_position_embeddings": 262144}, 262144),
    "qwen 3.5": (
        {"model_type": "qwen3_5", "text_config": {"max_position_embeddings": 262144}},
        262144,
    ),
    "gemma 2": (
        {"model_type": "gemma2", "max_position_embeddings": 8192, "sliding_window": 4096},
        8192,
    ),
    "gemma 3 1b": ({"model_type": "gemma3_text", "max_position_embeddings": 32768}, 32768),
    "gemma 3 4b": (GEMMA3, 131072),
    "gemma 3 of newer files": (
        {
            "model_type": "gemma3_text",
            "max_position_embeddings": 131072,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0},
                "sliding_attention": {"rope_type": "default"},
            },
        },
        131072,
    ),
    "gemma 4": (
        {"model_type": "gemma4", "text_config": {"max_position_embeddings": 262144}},
        262144,
    ),
    "gpt-oss": (
        {
            "model_type": "gpt_oss",
            "max_position_embeddings": 131072,
            "initial_context_length": 4096,
            "sliding_window": 128,
            "rope_scaling": {**yarn(32.0, 4096), "rope_type": "yarn"},
        },
        131072,
    ),
    "chatglm": ({"model_type": "chatglm", "seq_length": 131072}, 131072),
    "glm 4.5": ({"model_type": "glm4_moe", "max_position_embeddings": 131072}, 131072),
    "glm 4.6": ({"model_type": "glm4_moe", "max_position_embeddings": 202752}, 202752),
    "deepseek v3": (
        {
            "model_type": "deepseek_v3",
            "max_position_embeddings": 163840,
            "rope_scaling": yarn(40, 4096),
        },
        163840,
    ),
    "minimax m2": ({"model_type": "minimax_m2", "max_position_embeddings": 196608}, 196608),
    "kimi k2": (
        {
            "model_type": "kimi_k2",
            "max_position_embeddings": 131072,
            "rope_scaling": yarn(32.0, 4096),
        },
        131072,
    ),
    "kimi linear": ({"model_type": "kimi_linear", "model_max_length": 1048576}, 1048576),
    "lfm2": ({"model_type": "lfm2", "max_position_embeddings": 128000}, 128000),
    "falcon h1": ({"model_type": "falcon_h1", "max_position_embeddings": 131072}, 131072),
    "granite": ({"model_type": "granite", "max_position_embeddings": 131072}, 131072),
    "phi 3": (
        {
            "model_type": "phi3",
            "max_position_embeddings": 131072,
            "original_max_position_embeddings": 4096,
            "rope_scaling": {"type": "longrope", "long_factor": [1.0], "short_factor": [1.0]},
        },
        131072,
    ),
    "phi 4": ({"model_type": "phi3", "max_position_embeddings": 16384}, 16384),
    "command r": (
        {
            "model_type": "cohere",
            "max_position_embeddings": 8192,
            "model_max_length": 131072,
        },
        131072,
    ),
    "nanochat": ({"model_type": "nanochat", "sequence_len": 2048}, 2048),
    "olmo": ({"model_type": "olmo", "max_sequence_length": 2048}, 2048),
    "mpt and dbrx": ({"model_type": "dbrx", "max_seq_len": 32768}, 32768),
    "gpt-2": ({"model_type": "gpt2", "n_ctx": 1024, "n_positions": 1024}, 1024),
    "internvl": (
        {"model_type": "internvl_chat", "llm_config": {"max_position_embeddings": 40960}},
        40960,
    ),
    "janus": (
        {"model_type": "multi_modality", "language_config": {"max_position_embeddings": 16384}},
        16384,
    ),
    "only stretching": (
        {"model_type": "llama", "rope_scaling": {**YARN_4, "rope_type": "yarn"}},
        131072,
    ),
    "linear from": (
        {"rope_scaling": {"type": "linear", "factor": 2, "original_max_position_embeddings": 4096}},
        8192,
    ),
    "numbers as text": ({"max_position_embeddings": "131072"}, 131072),
    "null, then another key": ({"max_position_embeddings": None, "n_ctx": 512}, 512),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_window_is_found_where_the_family_keeps_it(family: str) -> None:
    """And is no guess, whatever the tokenizer's placeholder says."""
    config, wanted = FAMILIES[family]
    found = find_window(config, ABSURD)
    assert (found.tokens, found.is_guess) == (wanted, False), found.source


@pytest.mark.parametrize(
    ("config", "tokenizer", "wanted", "words"),
    [
        ({"model_type": "llama"}, {"model_max_length": 16384}, 16384, "tokenizer_config"),
        (GEMMA3, {"model_max_length": 32768}, 131072, "the default of gemma3_text"),
        ({"model_type": "qwen3"}, {"model_max_length": 16384}, 16384, "tokenizer_config"),
        ({"model_type": "gpt_oss"}, ABSURD, 131072, "the default of gpt_oss"),
        ({"model_type": "gemma3", "text_config": {}}, {}, 131072, "the default of gemma3"),
    ],
)
def test_the_tokenizer_and_the_architecture_are_asked_next(
    config: dict[str, Any], tokenizer: dict[str, Any], wanted: int, words: str
) -> None:
    """Where config.json says nothing."""
    found = find_window(config, tokenizer)
    assert (found.tokens, found.is_guess) == (wanted, False)
    assert words in found.source


@pytest.mark.parametrize(
    ("config", "wanted", "words"),
    [
        ({"model_type": "llama"}, GUESS_TOKENS, "name none"),
        ({"model_type": "mamba2"}, RECURRENT_TOKENS, "mamba2 has no window"),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}},
         4096, "may reach 16,384"),
        ({"rope_scaling": LLAMA3}, 65536, "8 x 8,192"),
        ({"sliding_window": 4096}, GUESS_TOKENS, "name none"),
    ],
)  # fmt: skip
def test_a_guess_is_said_to_be_one(config: dict[str, Any], wanted: int, words: str) -> None:
    """With what is known of it."""
    found = find_window(config, ABSURD)
    assert (found.tokens, found.is_guess) == (wanted, True)
    assert words in found.source


@pytest.mark.parametrize(
    ("is_guess", "asked", "wanted"),
    [
        (False, 0, 8192),
        (False, 4096, 4096),
        (False, 16384, 8192),
        (True, 0, 8192),
        (True, 4096, 4096),
        (True, 16384, 16384),
    ],
)
def test_the_user_may_cut_a_window_and_raise_a_guess(
    is_guess: bool, asked: int, wanted: int
) -> None:
    """What a model says of itself is not exceeded, and that is told."""
    found = ContextWindow(8192, "here", is_guess).narrowed(asked)
    assert found.tokens == wanted
    assert ("--context-tokens" in found.source) == bool(asked)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["max_position_embeddings", "text_config", "rope_scaling", "factor", "type",
                 "model_type", "original_max_position_embeddings", "sliding_window", "layer_types",
                 "num_hidden_layers", "num_attention_heads", "head_dim", "full_attention"]
            ),
            inner,
        )
    ),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from([*FAMILIES["gpt-oss"][0], "text_config"]), json_values))
def test_any_json_has_some_window(config: dict[str, Any]) -> None:
    """Nothing that a file may hold is an exception."""
    assert find_window(config, config).tokens >= 1
    assert kv_bytes(config, 100, 2) >= 0


def test_kv_bytes_follow_layers_heads_and_windows() -> None:
    """Keys and values of each layer; sliding layers up to their window, latent ones as one."""
    plain = {
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "hidden_size": 64,
    }
    assert kv_bytes(plain, 1000, 2) == 4 * 2 * 2 * 8 * 2 * 1000
    assert kv_bytes({**plain, "head_dim": 16}, 1000, 2) == 2 * kv_bytes(plain, 1000, 2)
    half = {**plain, "layer_types": ["full_attention", "sliding_attention"] * 2}
    assert kv_bytes({**half, "sliding_window": 10}, 1000, 2) == 2 * 2 * 2 * 8 * 2 * (1000 + 10)
    latent = {**plain, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    assert kv_bytes(latent, 10, 2) == 4 * 576 * 2 * 10
    hybrid = {**plain, "full_attention_interval": 4}
    assert kv_bytes(hybrid, 1000, 2) == kv_bytes(plain, 1000, 2) // 4
    gemma = {"text_config": {**plain, "model_type": "gemma3_text", "num_hidden_layers": 6,
                             "sliding_window": 10}}  # fmt: skip
    assert kv_bytes(gemma, 1000, 2) == (1000 + 5 * 10) * 2 * 2 * 8 * 2
    assert kv_bytes({"model_type": "mamba2", **plain}, 1000, 2) == 0
    assert kv_bytes({}, 1000, 2) == 0
