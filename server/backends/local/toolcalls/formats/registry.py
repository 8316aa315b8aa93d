"""The formats in which models write calls. A row in `_ALL` adds one, and so does a plug-in."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from mlxdeck.server.backends.local.engine.api import TemplateTraits
from mlxdeck.server.backends.local.toolcalls.formats.deepseek import DeepSeekV3, DeepSeekV31
from mlxdeck.server.backends.local.toolcalls.formats.gemma import FunctionGemma, Gemma4
from mlxdeck.server.backends.local.toolcalls.formats.glm import Glm
from mlxdeck.server.backends.local.toolcalls.formats.granite import Granite
from mlxdeck.server.backends.local.toolcalls.formats.harmony import Harmony
from mlxdeck.server.backends.local.toolcalls.formats.json_tags import JsonTags
from mlxdeck.server.backends.local.toolcalls.formats.kimi_k2 import KimiK2
from mlxdeck.server.backends.local.toolcalls.formats.library import LibraryFormat
from mlxdeck.server.backends.local.toolcalls.formats.llama3 import Llama3
from mlxdeck.server.backends.local.toolcalls.formats.minimax import MiniMax
from mlxdeck.server.backends.local.toolcalls.formats.mistral import Mistral, OldMistral
from mlxdeck.server.backends.local.toolcalls.formats.phi import Phi
from mlxdeck.server.backends.local.toolcalls.formats.plug_ins import load
from mlxdeck.server.backends.local.toolcalls.formats.pythonic import Llama4, Pythonic
from mlxdeck.server.backends.local.toolcalls.formats.qwen3_coder import Qwen3Coder
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.plug_ins import PlugInFault

log = logging.getLogger(__name__)

# In the order in which a template is tried: the more telling signs come first.
_ALL: tuple[ToolFormat, ...] = (
    *(MiniMax(), Gemma4(), FunctionGemma(), Glm(), Qwen3Coder(), KimiK2()),
    *(DeepSeekV3(), DeepSeekV31(), Harmony(), Llama4(), Pythonic(), Mistral(), OldMistral()),
    *(Phi(), Granite(), Llama3(), JsonTags()),
)
FORMATS: Mapping[str, ToolFormat] = {each.name: each for each in _ALL}


def format_named(name: str) -> ToolFormat:
    """The format of that name, of mlxdeck or of a plug-in.

    Raises:
        KeyError: There is no format of that name.
        PlugInFault: It is a plug-in that can't be used.
    """
    return FORMATS[name] if name in FORMATS else LibraryFormat(load(name))


def choose_format(name: str, traits: TemplateTraits) -> ToolFormat:
    """Find the format by its name; `auto` goes by the markers in the chat template.

    If the template has none of these, mlx-lm's knowledge of the model comes next. Then comes JSON
    between tags, the format shown to models whose template knows no tools. A plug-in that can't be
    used is logged, and `auto` replaces it.

    Raises:
        KeyError: There is no format of that name.
    """
    if name != "auto":
        try:
            return format_named(name)
        except PlugInFault as fault:
            log.error("%s; the chat template decides instead", fault)
    if traits.has_tools:
        for form in _ALL:
            if form.fits(traits.source):
                return form
    return LibraryFormat(traits.tool_markers) if traits.tool_markers else FORMATS["json_tags"]
