"""Chat templates that make the checks of families whose tokenizers no package carries."""

from __future__ import annotations

_CALLS = (
    "{% for c in m.tool_calls %}<call>{{ c.function.name }} "
    "{{ c.function.arguments | tojson }}</call>{% endfor %}"
)

TEMPLATES = {
    # Mistral and Devstral.
    "alternating": (
        "{% set ns = namespace(i=0) %}{% for m in messages %}"
        "{% if m.role == 'system' and loop.first %}[SYS]{{ m.content }}[/SYS]{% else %}"
        "{% if m.role == 'user' or (m.role == 'assistant' and not m.tool_calls) %}"
        "{% if (m.role == 'user') != (ns.i % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}"
        "{% set ns.i = ns.i + 1 %}{% endif %}"
        "{% if m.role == 'tool' %}[R]{{ m.content }}[/R]"
        "{% elif m.role == 'user' %}[INST]{{ m.content }}[/INST]"
        "{% else %}{{ m.content }}{% if m.tool_calls %}{% for c in m.tool_calls %}"
        "{% if c.id | length != 9 %}{{ raise_exception('ids have nine characters') }}{% endif %}"
        "[TOOL_CALLS]{{ c.function.name }}[ARGS]{{ c.function.arguments | tojson }}{% endfor %}"
        "{% endif %}</s>{% endif %}{% endif %}{% endfor %}{% if tools %}{% endif %}"
    ),
    # The same, where calls and results also have to come to the same number, last of all a user.
    "counting": (
        "{% set ns = namespace(calls=0) %}{% for m in messages %}"
        "{% if m.tool_calls %}{% set ns.calls = ns.calls + m.tool_calls | length %}{% endif %}"
        "{% if m.role == 'tool' %}{% set ns.calls = ns.calls - 1 %}"
        "{% elif m.role != 'assistant' and ns.calls != 0 %}"
        "{{ raise_exception('Not the same number of calls and responses') }}{% endif %}"
        "{% if ns.calls < 0 %}{{ raise_exception('A response without a call') }}{% endif %}"
        "<{{ m.role }}>{{ m.content }}" + _CALLS + "</{{ m.role }}>{% endfor %}"
        "{% if ns.calls != 0 %}{{ raise_exception('Calls without responses') }}{% endif %}"
        "{% if tools %}{{ tools | tojson }}{% endif %}"
    ),
    # Gemma.
    "strict": (
        "{% for m in messages %}"
        "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
        "<{{ 'model' if m.role == 'assistant' else 'user' }}>{{ m.content | trim }}</t>"
        "{% endfor %}<model>"
    ),
    # Qwen3.5.
    "query": (
        "{% set ns = namespace(found=false) %}{% for m in messages %}"
        "{% if m.role == 'system' and not loop.first %}"
        "{{ raise_exception('System message must be at the beginning.') }}{% endif %}"
        "{% if m.role == 'user' and not (m.content.startswith('<tool_response>') and "
        "m.content.endswith('</tool_response>')) %}{% set ns.found = true %}{% endif %}{% endfor %}"
        "{% if not ns.found %}{{ raise_exception('No user query found.') }}{% endif %}"
        "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|im_start|>"
        "{{ m.role }}\n{{ m.content }}{% if m.tool_calls %}{% for c in m.tool_calls %}<tool_call>\n"
        "<function={{ c.function.name }}>\n{% for k, v in c.function.arguments | items %}"
        "<parameter={{ k }}>\n{{ v }}\n</parameter>\n{% endfor %}</function>\n</tool_call>"
        "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n<think>\n"
    ),
    # gpt-oss: one call a turn, results right behind their call.
    "one_call": (
        "{% set ns = namespace(last='') %}{% for m in messages %}{% if m.role == 'tool' %}"
        "{% if not ns.last %}{{ raise_exception('no assistant message with a tool call') }}"
        "{% endif %}<|start|>functions.{{ ns.last }} to=assistant<|message|>{{ m.content }}"
        "<|end|>{% set ns.last = '' %}{% elif m.tool_calls %}"
        "{% if m.content and m.reasoning_content %}"
        "{{ raise_exception('Cannot pass both content and thinking') }}{% endif %}"
        "{% if m.content %}<|start|>assistant<|channel|>analysis<|message|>{{ m.content }}<|end|>"
        "{% endif %}{% set c = m.tool_calls[0].function %}{% set ns.last = c.name %}"
        "<|start|>assistant to=functions.{{ c.name }}<|message|>{{ c.arguments | tojson }}<|call|>"
        "{% else %}{% set ns.last = '' %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>"
        "{% endif %}{% endfor %}{% if tools %}{% for t in tools %}{{ t.function.name }}"
        "{% endfor %}{% endif %}<|start|>assistant"
    ),
    # Llama 3.1 with tools.
    "single": (
        "{% for m in messages %}{% if m.tool_calls %}{% if m.tool_calls | length != 1 %}"
        "{{ raise_exception('only supports single tool-calls at once!') }}{% endif %}"
        "<assistant>{{ m.tool_calls[0].function.name }} "
        "{{ m.tool_calls[0].function.arguments | tojson }}</assistant>"
        "{% else %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endif %}{% endfor %}"
        "{% if tools %}{{ tools | tojson }}{% endif %}"
    ),
    # Older DeepSeek: calls only beside no content, arguments as text.
    "null_content": (
        "{% for m in messages %}{% if m.role == 'assistant' and m.tool_calls and m.content is not "
        "defined %}<assistant>{% for c in m.tool_calls %}"
        "{{ c.function.name + ' ' + c.function.arguments }}{% endfor %}</assistant>"
        "{% elif m.role == 'tool' %}<result>{{ m.content }}</result>"
        "{% else %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endif %}{% endfor %}"
        "{% if tools %}{{ tools | tojson }}{% endif %}"
    ),
    # No turn may be empty.
    "filled": (
        "{% for m in messages %}{% if not m.content and not m.tool_calls %}"
        "{{ raise_exception('content must not be empty') }}{% endif %}"
        "<{{ m.role }}>{{ m.content }}" + _CALLS + "</{{ m.role }}>{% endfor %}"
        "{% if tools %}{{ tools | tojson }}{% endif %}"
    ),
    # Models that see: contents are lists.
    "parts": (
        "{% for m in messages %}<{{ m.role }}>{% for p in m.content %}{{ p.text }}{% endfor %}"
        + _CALLS
        + "</{{ m.role }}>{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}"
    ),
    # Says that it takes tools, and takes no results.
    "no_results": (
        "{% for m in messages %}{% if m.role not in ('system', 'user', 'assistant') %}"
        "{{ raise_exception('Unexpected role') }}{% endif %}"
        "<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}{% if tools %}{% endif %}"
    ),
    # Mistral's third: a call's turn doesn't count, and shows no text.
    "uncounted": (
        "{% set ns = namespace(i=0) %}{% for m in messages %}"
        "{% if m.role in ('user', 'assistant') and not m.tool_calls %}"
        "{% if (m.role == 'user') != (ns.i % 2 == 0) %}{{ raise_exception('alternate') }}"
        "{% endif %}{% set ns.i = ns.i + 1 %}{% endif %}{% if m.tool_calls %}"
        + _CALLS
        + "{% else %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endif %}{% endfor %}"
        "{% if tools %}{{ tools | tojson }}{% endif %}"
    ),
    # Gemma with tools: results and users are one side, and every turn counts.
    "two_sides": (
        "{% for m in messages %}{% if (m.role != 'assistant') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
        "{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "<{{ m.role }}>{% if m.tool_calls %}" + _CALLS + "{% else %}{{ m.content }}{% endif %}"
        "</{{ m.role }}>{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}"
    ),
    # Command: reads of a schema what not every tool has.
    "described": (
        "{% for t in tools or [] %}{{ t.function.name + ' ' + t.function.description }}"
        "{% for k, v in t.function.parameters.properties.items() %}{{ k + ': ' + v.type }}"
        "{% endfor %}{% endfor %}{% for m in messages %}<{{ m.role }}>{{ m.content }}"
        + _CALLS
        + "</{{ m.role }}>{% endfor %}"
    ),
    # Insists on a system prompt.
    "led": (
        "{% if messages[0].role != 'system' %}{{ raise_exception('a system message first') }}"
        "{% endif %}{% if tools %}{{ tools | tojson }}{% endif %}"
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}" + _CALLS + "</{{ m.role }}>"
        "{% endfor %}"
    ),
    # Takes one plain text and nothing else.
    "one_message": (
        "{% if messages | length != 1 or messages[0].role != 'user' %}"
        "{{ raise_exception('one message') }}{% endif %}<user>{{ messages[0].content }}</user>"
    ),
}
