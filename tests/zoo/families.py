"""The families of the zoo: an architecture, a tokenizer, a chat template and what is known of it.

Where no package carries a family's tokenizer, another one stands in for it, with the family's
markers as added tokens: once marked as special, once not, since models come both ways.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tests.real import models_home
from tests.zoo import models
from tests.zoo.models import Markers, build
from tests.zoo.vocabularies import VOCABULARIES

TEMPLATES = Path(__file__).parent / "templates"
WINDOW = 32_768
"""Of a family that says nothing else."""

States = Literal["plain", "sliding", "recurrent", "hybrid"]
"""What the layers keep: all keys and values, a window of them, a running state, or some of both."""


@dataclass(frozen=True, slots=True)
class Family:
    """One model of the zoo."""

    name: str
    architecture: str
    """The module of mlx-lm that holds its classes, and `model_type`."""
    vocabulary: str
    format: str
    """The tool-call format that its template shows."""
    template: str | None = None
    """A file of `templates/`; None for the package's own."""
    markers: Markers | None = None
    bold: Sequence[str] = ()
    """Tokens that it often writes: what begins a call, what ends a turn."""
    ends: Sequence[str] = ()
    """Tokens that end a turn, where it is not the tokenizer's own alone."""
    states: States = "plain"
    nested: bool = False
    window_tokens: int = WINDOW
    chain: str = ""
    """A text that it often writes, where what begins a call is more than one token."""
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def template_text(self) -> str | None:
        """The chat template; None for the package's own."""
        if self.template is None:
            return None
        return (TEMPLATES / f"{self.template}.jinja").read_text(encoding="utf-8")

    def folder(self) -> Path:
        """The folder of the model, made if it isn't there yet.

        Raises:
            Unavailable: Its tokenizer can't be had here.
        """
        home = models_home() / "zoo"
        target = home / f"{self.name.replace('/', '-')}-{self._recipe()}"
        if target.is_dir():
            return target
        home.mkdir(parents=True, exist_ok=True)
        for old in home.glob(f"{self.name.replace('/', '-')}-{'?' * 12}"):
            shutil.rmtree(old, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=home) as scratch:
            made = Path(scratch) / "made"
            config = dict(self.config)
            if self.ends:
                config["eos_token_id"] = list(self.ends)
            build(
                made,
                self.architecture,
                self.vocabulary,
                self.template_text,
                markers=self.markers,
                bold=self.bold,
                chain=self.chain,
                seeing=self.nested,
                **config,
            )
            # Another process may have been faster; what it made is the same.
            if not target.is_dir():
                made.rename(target)
        return target

    def end_ids(self) -> list[int]:
        """The tokens that end a turn."""
        folder = self.folder()
        told = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        own = told["eos_token"]
        return models.ids_of(folder, self.ends or [own if isinstance(own, str) else own["content"]])

    def _recipe(self) -> str:
        """A hash of all that the folder is made of."""
        told = json.dumps(asdict(self), sort_keys=True, default=list)
        made_by = Path(models.__file__).read_text(encoding="utf-8")
        parts = (told, self.template_text or "", made_by, *VOCABULARIES[self.vocabulary].sha256)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _stand_in(family: Family) -> list[Family]:
    """A family whose markers are special tokens, and one whose markers are not."""
    assert family.markers is not None
    plain = replace(family.markers, special=False)
    return [family, replace(family, name=f"{family.name}/text", markers=plain)]


_MOE = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "norm_topk_prob": True,
}
_DELTA = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 2,
    "num_hidden_layers": 4,
}
_MLA = {
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
}
_GRANITE = {
    "logits_scaling": 1.0,
    "attention_multiplier": 0.35,
    "embedding_multiplier": 1.0,
    "residual_multiplier": 1.0,
    "attention_bias": False,
    "mlp_bias": False,
}
_CHATML = ("<|im_start|>", "<|im_end|>")
_GLM = Markers(
    texts=(
        *("[gMASK]", "<sop>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>"),
        *("<|observation|>", "<think>", "</think>", "<tool_call>", "</tool_call>"),
        *("<tool_response>", "</tool_response>", "<arg_key>", "</arg_key>"),
        *("<arg_value>", "</arg_value>"),
    ),
    eos="<|endoftext|>",
)
_MINIMAX = Markers(
    texts=(
        *("]~!b[", "]~b]", "[e~[", "<think>", "</think>"),
        *("<minimax:tool_call>", "</minimax:tool_call>"),
    ),
    bos="]~!b[",
    eos="[e~[",
)
_KIMI = Markers(
    texts=(
        *("[BOS]", "[EOS]", "<|im_end|>", "<|im_user|>", "<|im_assistant|>", "<|im_system|>"),
        *("<|im_middle|>", "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
        *("<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"),
        *("<think>", "</think>"),
    ),
    bos="[BOS]",
    eos="[EOS]",
)
_MISTRAL = Markers(
    texts=(
        *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
        *("[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"),
        *("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[THINK]", "[/THINK]"),
    ),
    bos="<s>",
    eos="</s>",
)
_GEMMA4 = Markers(
    texts=(
        *("<|turn>", "<turn|>", "<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", '<|"|>'),
        *("<|tool_response>", "<tool_response|>", "<|channel>", "<channel|>", "<|think|>"),
    ),
)
_FUNCTION_GEMMA = Markers(
    texts=(
        *("<start_function_declaration>", "<end_function_declaration>", "<start_function_call>"),
        *("<end_function_call>", "<start_function_response>", "<end_function_response>"),
        "<escape>",
    ),
)
_LFM2 = Markers(
    texts=(
        *("<|startoftext|>", *_CHATML, "<|tool_list_start|>", "<|tool_list_end|>"),
        *("<|tool_call_start|>", "<|tool_call_end|>"),
        *("<|tool_response_start|>", "<|tool_response_end|>"),
    ),
    bos="<|startoftext|>",
    eos="<|im_end|>",
)
_FALCON = Markers(
    texts=("<|begin_of_text|>", *_CHATML, "<tool_call>", "</tool_call>"), eos="<|im_end|>"
)
_GRANITE_MARKERS = Markers(
    texts=("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>", "<|tool_call|>"),
    eos="<|end_of_text|>",
)
_PHI = Markers(
    texts=(
        *("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|tool|>"),
        *("<|/tool|>", "<|tool_call|>", "<|/tool_call|>", "<|tool_response|>"),
    ),
    eos="<|endoftext|>",
)
_LLAMA3 = Markers(
    renamed=(
        ("<|reserved_special_token_5|>", "<|python_tag|>"),
        ("<|reserved_special_token_4|>", "<|eom_id|>"),
    ),
)
_LLAMA4 = Markers(
    texts=("<|header_start|>", "<|header_end|>", "<|eot|>", "<|python_start|>", "<|python_end|>"),
    eos="<|eot|>",
)
_MAMBA = Markers(texts=("<|user|>", "<|assistant|>"))

_QWEN_BOLD = ("<tool_call>", "<|im_end|>", "<think>", "</think>")
_DEEPSEEK_BOLD = (
    *("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>"),
    "<｜end▁of▁sentence｜>",
)

_ALL: tuple[Family, ...] = (
    Family(
        "llama",
        "llama",
        "llama3_1",
        "llama3",
        "llama3_1",
        _LLAMA3,
        ("<|python_tag|>", "<|eot_id|>"),
        ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"),
        window_tokens=131_072,
        config={
            "max_position_embeddings": 131_072,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        },
    ),
    Family(
        "llama_plain",
        "llama",
        "llama3",
        "json_tags",
        bold=("<|eot_id|>",),
        chain="<tool_call>",
        ends=("<|eot_id|>", "<|end_of_text|>"),
    ),
    *_stand_in(
        Family(
            "llama4",
            "llama4_text",
            "llama3_1",
            "llama4",
            "llama4",
            _LLAMA4,
            ("<|python_start|>",),
            states="plain",
            config={
                "intermediate_size_mlp": 48,
                "no_rope_layers": [1, 0],
                "use_qk_norm": True,
            },
        )
    ),
    *_stand_in(
        Family(
            "mistral",
            "ministral3",
            "llama3",
            "mistral",
            "mistral",
            _MISTRAL,
            ("[TOOL_CALLS]", "</s>"),
            states="sliding",
            config={
                "layer_types": ["sliding_attention", "full_attention"],
                "sliding_window": 64,
                "rope_parameters": {
                    "rope_theta": 10_000.0,
                    "llama_4_scaling_beta": 0.1,
                    "original_max_position_embeddings": 4096,
                },
            },
        )
    ),
    *_stand_in(
        Family(
            "mistral_v3",
            "mistral",
            "llama3",
            "mistral_v3",
            "mistral_v3",
            _MISTRAL,
            ("[TOOL_CALLS]", "</s>"),
        )
    ),
    Family(
        "qwen2",
        "qwen2",
        "qwen3",
        "json_tags",
        "qwen2",
        bold=_QWEN_BOLD[:2],
        ends=("<|im_end|>", "<|endoftext|>"),
    ),
    Family(
        "qwen3",
        "qwen3",
        "qwen3",
        "json_tags",
        bold=_QWEN_BOLD,
        ends=("<|im_end|>", "<|endoftext|>"),
    ),
    Family(
        "qwen3_moe",
        "qwen3_moe",
        "qwen3",
        "qwen3_coder",
        "qwen3_coder",
        bold=_QWEN_BOLD[:2],
        config={**_MOE, "decoder_sparse_step": 1, "mlp_only_layers": [0]},
    ),
    Family(
        "qwen3_next",
        "qwen3_next",
        "qwen3",
        "json_tags",
        bold=_QWEN_BOLD,
        states="hybrid",
        config={
            **_MOE,
            **_DELTA,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "shared_expert_intermediate_size": 16,
            "partial_rotary_factor": 0.5,
        },
    ),
    Family(
        "qwen3_5",
        "qwen3_5",
        "qwen3",
        "qwen3_coder",
        "qwen3_5",
        bold=_QWEN_BOLD,
        states="hybrid",
        nested=True,
        config={
            **_DELTA,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "partial_rotary_factor": 0.5,
                "mrope_section": [1, 1, 0],
            },
        },
    ),
    Family(
        "gemma3",
        "gemma3_text",
        "gemma3",
        "json_tags",
        bold=("<end_of_turn>",),
        chain="<tool_call>",
        ends=("<end_of_turn>", "<eos>"),
        states="sliding",
        config={"sliding_window": 64, "sliding_window_pattern": 2, "query_pre_attn_scalar": 8},
    ),
    *_stand_in(
        Family(
            "function_gemma",
            "gemma3_text",
            "gemma3",
            "function_gemma",
            "function_gemma",
            _FUNCTION_GEMMA,
            ("<start_function_call>", "<end_of_turn>"),
            ("<end_of_turn>", "<eos>"),
            states="sliding",
            config={"sliding_window": 64, "sliding_window_pattern": 2, "query_pre_attn_scalar": 8},
        )
    ),
    *_stand_in(
        Family(
            "gemma4",
            "gemma4_text",
            "gemma3",
            "gemma4",
            "gemma4",
            _GEMMA4,
            ("<|tool_call>", "<turn|>"),
            ("<turn|>", "<eos>"),
            states="sliding",
            config={
                "num_hidden_layers": 4,
                "global_head_dim": 16,
                "sliding_window": 64,
                "layer_types": ["sliding_attention", "full_attention"] * 2,
                "num_kv_shared_layers": 2,
                "hidden_size_per_layer_input": 8,
                "vocab_size_per_layer_input": 262_144,
            },
        )
    ),
    Family(
        "gpt_oss",
        "gpt_oss",
        "gptoss",
        "harmony",
        "gpt_oss",
        bold=("<|return|>",),
        chain="<|channel|>commentary to=functions.",
        ends=("<|return|>", "<|call|>", "<|endoftext|>"),
        states="sliding",
        config={
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": 64,
            "layer_types": ["sliding_attention", "full_attention"],
            "tie_word_embeddings": False,
        },
    ),
    *_stand_in(
        Family(
            "glm4_moe",
            "glm4_moe",
            "llama3",
            "glm",
            "glm",
            _GLM,
            ("<tool_call>", "<|user|>", "</think>"),
            ("<|endoftext|>", "<|user|>", "<|observation|>"),
            config={
                "moe_intermediate_size": 16,
                "norm_topk_prob": True,
                "n_group": 1,
                "topk_group": 1,
                "n_shared_experts": 1,
                "n_routed_experts": 4,
                "num_experts_per_tok": 2,
                "routed_scaling_factor": 1.0,
                "first_k_dense_replace": 1,
                "rope_scaling": None,
                "use_qk_norm": True,
                "attention_bias": False,
                "partial_rotary_factor": 0.5,
            },
        )
    ),
    Family(
        "deepseek_v3_plain",
        "deepseek_v3",
        "deepseek_v3",
        "json_tags",
        bold=_DEEPSEEK_BOLD[3:],
        chain="<tool_call>",
        config=_MLA,
    ),
    Family(
        "deepseek_v31",
        "deepseek_v3",
        "deepseek_v3",
        "deepseek_v31",
        "deepseek_v31",
        bold=(*_DEEPSEEK_BOLD, "</think>"),
        config=_MLA,
        markers=Markers(texts=("<think>", "</think>"), special=False),
    ),
    Family(
        "deepseek_v3",
        "deepseek_v3",
        "deepseek_v3",
        "deepseek_v3",
        "deepseek_v3",
        bold=_DEEPSEEK_BOLD,
        config=_MLA,
    ),
    *_stand_in(
        Family(
            "minimax",
            "minimax",
            "llama3",
            "minimax",
            "minimax",
            _MINIMAX,
            ("<minimax:tool_call>", "[e~[", "</think>"),
            config={
                "num_local_experts": 4,
                "num_experts_per_tok": 2,
                "shared_intermediate_size": 0,
                "rotary_dim": 4,
            },
        )
    ),
    *_stand_in(
        Family(
            "kimi_k25",
            "kimi_k25",
            "qwen3",
            "kimi_k2",
            "kimi",
            _KIMI,
            ("<|tool_calls_section_begin|>", "<|tool_call_begin|>", "<|im_end|>"),
            ("<|im_end|>", "[EOS]"),
            nested=True,
            config=_MLA,
        )
    ),
    Family(
        "kimi_linear",
        "kimi_linear",
        "qwen3",
        "kimi_k2",
        "kimi",
        _KIMI,
        ("<|tool_calls_section_begin|>", "<|tool_call_begin|>", "<|im_end|>"),
        ("<|im_end|>", "[EOS]"),
        states="hybrid",
        window_tokens=65_536,
        config={
            **{key: value for key, value in _MLA.items() if key != "q_lora_rank"},
            "num_experts": 4,
            "num_experts_per_token": 2,
            "num_shared_experts": 1,
            "model_max_length": 65_536,
            "max_position_embeddings": 65_536,
            "linear_attn_config": {
                "num_heads": 4,
                "head_dim": 8,
                "short_conv_kernel_size": 4,
                "kda_layers": [1],
                "full_attn_layers": [2],
            },
        },
    ),
    *_stand_in(
        Family(
            "lfm2",
            "lfm2",
            "llama3",
            "pythonic",
            "lfm2",
            _LFM2,
            ("<|tool_call_start|>", "<|im_end|>"),
            states="hybrid",
            config={
                "norm_eps": 1e-5,
                "conv_bias": False,
                "conv_L_cache": 3,
                "block_dim": 32,
                "block_ff_dim": 48,
                "block_multiple_of": 16,
                "block_ffn_dim_multiplier": 1.0,
                "block_auto_adjust_ff_dim": False,
                "layer_types": ["conv", "full_attention"],
            },
        )
    ),
    *_stand_in(
        Family(
            "falcon_h1",
            "falcon_h1",
            "llama3",
            "json_tags",
            "falcon_h1",
            _FALCON,
            ("<tool_call>", "<|im_end|>"),
            states="hybrid",
            config={
                "mamba_d_ssm": 32,
                "mamba_n_heads": 4,
                "mamba_d_head": 8,
                "mamba_d_state": 8,
                "mamba_chunk_size": 16,
                "lm_head_multiplier": 1.0,
            },
        )
    ),
    Family(
        "mamba2",
        "mamba2",
        "llama3",
        "json_tags",
        "plain",
        _MAMBA,
        ("<|end_of_text|>",),
        states="recurrent",
        chain="<tool_call>",
        config={
            "num_heads": 8,
            "head_dim": 8,
            "intermediate_size": 64,
            "state_size": 8,
            "layer_norm_epsilon": 1e-5,
            "conv_kernel": 4,
            "n_groups": 1,
            "use_bias": False,
            "use_conv_bias": True,
            "time_step_limit": [0.0, 1e9],
            "time_step_rank": "auto",
        },
    ),
    *_stand_in(
        Family(
            "granite",
            "granite",
            "llama3",
            "granite",
            "granite3",
            _GRANITE_MARKERS,
            ("<|tool_call|>", "<|end_of_text|>"),
            config=_GRANITE,
        )
    ),
    Family(
        "granitemoehybrid",
        "granitemoehybrid",
        "llama3",
        "json_tags",
        "granite4",
        replace(
            _GRANITE_MARKERS,
            texts=(*_GRANITE_MARKERS.texts, "<tool_call>", "</tool_call>"),
            special=False,
        ),
        ("<tool_call>", "<|end_of_text|>"),
        states="hybrid",
        config={
            **_GRANITE,
            "layer_types": ["mamba", "attention"],
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "shared_intermediate_size": 16,
            "mamba_n_heads": 4,
            "mamba_d_head": 16,
            "mamba_proj_bias": False,
            "mamba_d_state": 8,
            "mamba_d_conv": 4,
            "mamba_n_groups": 1,
            "mamba_conv_bias": True,
        },
    ),
    *_stand_in(
        Family(
            "phi",
            "phi3",
            "gptoss",
            "phi",
            "phi4",
            _PHI,
            ("<|tool_call|>", "<|end|>"),
            ("<|end|>", "<|endoftext|>"),
        )
    ),
)
FAMILIES: Mapping[str, Family] = {each.name: each for each in _ALL}
