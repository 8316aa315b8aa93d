"""What models write, format by format, and what comes out of it.

The texts follow the models' published chat templates and the slips that their users have reported.
"""

from __future__ import annotations

import json
from typing import Any

from mlxdeck.server.chat import ToolSpec

Summary = list[tuple[str, Any]]
Case = tuple[str, Summary]


def _tool(name: str, required: list[str], **properties: Any) -> ToolSpec:
    schema = {"type": "object", "properties": properties, "required": required}
    return ToolSpec(name, f"{name}.", schema)


TEXT, WHOLE = {"type": "string"}, {"type": "integer"}
TOOLS = (
    _tool("Read", ["file_path"], file_path=TEXT, limit=WHOLE),
    _tool("Bash", ["command"], command=TEXT, timeout=WHOLE, background={"type": "boolean"}),
    _tool("Edit", ["file_path", "new"], file_path=TEXT, new=TEXT, all={"type": "boolean"}),
    _tool("Tags", ["tags"], tags={"type": "array", "items": TEXT}, at={"type": "object"}),
    _tool("Now", []),
)

CODE = 'def f(x):\n    return "<b>" + x  # {a: [1, 2]}\n'
Q = json.dumps(CODE)
READ, BASH = ("Read", {"file_path": "a.py"}), ("Bash", {"command": "ls -l", "timeout": 5})
EDIT = ("Edit", {"file_path": "a.py", "new": CODE})
TAGS = ("Tags", {"tags": ["x", "y, z"], "at": {"line": 3}})
NOW: tuple[str, dict[str, Any]] = ("Now", {})


def said(text: str) -> tuple[str, str]:
    """Text that came out as text."""
    return ("text", text)


J_READ = '{"name": "Read", "arguments": {"file_path": "a.py"}}'
J_BASH = '{"name": "Bash", "arguments": {"command": "ls -l", "timeout": 5}}'
J_EDIT = f'{{"name": "Edit", "arguments": {{"file_path": "a.py", "new": {Q}}}}}'
J_TAGS = '{"name": "Tags", "arguments": {"tags": ["x", "y, z"], "at": {"line": 3}}}'
J_NOW = '{"name": "Now", "arguments": {}}'
J_OTHER = '{"name": "Delete", "arguments": {"a": 1}}'

A_READ, A_BASH = '{"file_path": "a.py"}', '{"command": "ls -l", "timeout": 5}'

JSON_TAGS: list[Case] = [
    (f"<tool_call>\n{J_READ}\n</tool_call>", [READ]),
    (f"I'll look.\n<tool_call>\n{J_BASH}\n</tool_call>", [said("I'll look.\n"), BASH]),
    (f"<tool_call>{J_READ}</tool_call>\n<tool_call>{J_NOW}</tool_call>", [READ, NOW]),
    (f"<tool_call>\n{J_READ}\n{J_BASH}\n</tool_call>", [READ, BASH]),
    (f"<tool_call>[{J_READ}, {J_TAGS}]</tool_call>", [READ, TAGS]),
    (f"<tool_call>{J_EDIT}</tool_call>", [EDIT]),
    # The closing tag in a text, and none behind the call.
    (
        '<tool_call>{"name": "Bash", "arguments": {"command": "echo \'</tool_call>\'"}}',
        [("Bash", {"command": "echo '</tool_call>'"})],
    ),
    # A last brace too few, arguments before the name, arguments as a text.
    ('<tool_call>{"name": "Read", "arguments": {"file_path": "a.py"}</tool_call>', [READ]),
    ('<tool_call>{"arguments": {"file_path": "a.py"}, "name": "Read"}</tool_call>', [READ]),
    (
        '<tool_call>{"name": "Read", "arguments": "{\\"file_path\\": \\"a.py\\"}"}</tool_call>',
        [READ],
    ),
    ("<tool_call>{'name': 'Read', 'arguments': {'file_path': 'a.py',}}</tool_call>", [READ]),
    (f"<tool_call>{J_OTHER}</tool_call>", [said(f"<tool_call>{J_OTHER}</tool_call>")]),
    ("<tool_call>oops</tool_call> sorry", [said("<tool_call>oops</tool_call> sorry")]),
    ("Write <tool_call> before a call.", [said("Write <tool_call> before a call.")]),
    ('<tool_call>{"name": "Read"}</tool_call>', [said('<tool_call>{"name": "Read"}</tool_call>')]),
]

JSON_TAGS += [
    # The forms of other families, which finetunes write.
    (f"<tools>\n{J_READ}\n</tools>", [READ]),
    (f"<tool_call>\n{J_READ}\n</tools>", [READ]),
    (f"Look:\n<function_call>{J_BASH}</function_call>", [said("Look:\n"), BASH]),
    (f"{J_READ}\n</tool_call>", [READ]),
    (f"{J_READ}\n</tool_call>\nThen.", [said(f"{J_READ}\n</tool_call>\nThen.")]),
    (f"<function=Read>{A_READ}</function>", [READ]),
    (
        "<function=Bash>\n<parameter=command>\nls -l\n</parameter>\n<parameter=timeout>\n5\n"
        "</parameter>\n</function>",
        [BASH],
    ),
    ('<invoke name="Read"><parameter name="file_path">a.py</parameter></invoke>', [READ]),
    (
        "<tool_call>Read\n<arg_key>file_path</arg_key>\n<arg_value>a.py</arg_value>\n</tool_call>",
        [READ],
    ),
    ("<function=Nope>{}</function>", [said("<function=Nope>{}</function>")]),
    ("Say <function=Read> for it.", [said("Say <function=Read> for it.")]),
    # In code that prose goes on behind, a call is quoted.
    (
        f"Like so:\n```\n<tool_call>{J_READ}</tool_call>\n```\nDone.",
        [said(f"Like so:\n```\n<tool_call>{J_READ}</tool_call>\n```\nDone.")],
    ),
    (
        f"Write `<tool_call>{J_READ}</tool_call>` for it.",
        [said(f"Write `<tool_call>{J_READ}</tool_call>` for it.")],
    ),
    (
        f"I read.\n```xml\n<tool_call>{J_READ}</tool_call>\n<tool_call>{J_BASH}</tool_call>\n```",
        [said("I read.\n"), READ, BASH],
    ),
    # Single backslashes of a path.
    (
        '<tool_call>{"name": "Read", "arguments": {"file_path": "C:\\new\\a.py"}}</tool_call>',
        [("Read", {"file_path": "C:\\new\\a.py"})],
    ),
    (
        '<tool_call>{"name": "Bash", "arguments": {"command": "a\\nC:\\Users\\new"}}</tool_call>',
        [("Bash", {"command": "a\nC:\\Users\\new"})],
    ),
]

JSON_TAGS += [
    # Tags said twice, wrong ones, and such as are left over: none of them is text.
    (f"<tool_call>\n<tool_call>\n{J_READ}\n</tool_call>\n</tool_call>", [READ]),
    (f"<tool_call>\n{J_READ}\n</tool>", [READ]),
    (f"<tool_call>\n{J_READ}\n<tool_call>", [READ]),
    (f"<tool_call>{J_READ}</tool_call></function>", [READ]),
    (f"<tool_call>\n```json\n{J_READ}\n```\n</tool_call>", [READ]),
    (
        f"<tool_call>{J_READ}</tool_call>\nThen </tool_call> closes it.",
        [READ, said("Then </tool_call> closes it.")],
    ),
    # Last braces that are missing, comments.
    (
        '<tool_call>{"name": "Bash", "arguments": {"command": "ls -l", "timeout": 5</tool_call>',
        [BASH],
    ),
    ('<tool_call>{"name": "Read", "arguments": {"file_path": "a.py"</tool_call>', [READ]),
    (
        '<tool_call>{"name": "Read", /* it */ "arguments": {// "the\n"file_path": "a.py" # }\n}}'
        "</tool_call>",
        [READ],
    ),
    (
        '<tool_call>{"name": "Tags", "arguments": {"tags": ["x", // don\'t {\n"y, z"], '
        '"at": {"line": 3 /* " */}}}</tool_call>',
        [TAGS],
    ),
    (
        '<tool_call>{"name": "Bash", "arguments": {"command": "echo "</b>" x"}}</tool_call>',
        [
            said(
                '<tool_call>{"name": "Bash", "arguments": {"command": "echo "</b>" x"}}</tool_call>'
            )
        ],
    ),
    ('<tool_call>Bash(command="ls -l", timeout=5)</tool_call>', [BASH]),
    # The arguments beside the name.
    ('<tool_call>{"name": "Bash", "command": "ls -l", "timeout": "5"}</tool_call>', [BASH]),
    (
        '<tool_call>{"name": "Bash", "timeout": 5}</tool_call>',
        [said('<tool_call>{"name": "Bash", "timeout": 5}</tool_call>')],
    ),
    # A quotation in prose.
    (
        f'The form is "<tool_call>{J_READ}</tool_call>", as they say.',
        [said(f'The form is "<tool_call>{J_READ}</tool_call>", as they say.')],
    ),
    (f'It said "no".<tool_call>{J_READ}</tool_call>', [said('It said "no".'), READ]),
]

X_READ = "<function=Read>\n<parameter=file_path>\na.py\n</parameter>\n</function>"
X_BASH = (
    "<function=Bash>\n<parameter=command>\nls -l\n</parameter>\n<parameter=timeout>\n5\n"
    "</parameter>\n</function>"
)
QWEN3_CODER: list[Case] = [
    (f"<tool_call>\n{X_READ}\n</tool_call>", [READ]),
    (f"Let me see.\n\n<tool_call>\n{X_BASH}\n</tool_call>", [said("Let me see.\n\n"), BASH]),
    (f"<tool_call>\n{X_READ}\n</tool_call>\n<tool_call>\n{X_BASH}\n</tool_call>", [READ, BASH]),
    (f"<tool_call>\n{X_READ}\n{X_BASH}\n</tool_call>", [READ, BASH]),
    # The outer tag is what this model forgets.
    (f"{X_READ}\n</tool_call>", [READ]),
    (X_READ, [READ]),
    ("<tool_call>\n<function=Now>\n</function>\n</tool_call>", [NOW]),
    (
        "<tool_call>\n<function=Edit>\n<parameter=file_path>\na.py\n</parameter>\n"
        f"<parameter=new>\n{CODE}\n</parameter>\n</function>\n</tool_call>",
        [EDIT],
    ),
    (
        '<tool_call>\n<function=Tags>\n<parameter=tags>\n["x", "y, z"]\n</parameter>\n'
        '<parameter=at>\n{"line": 3}\n</parameter>\n</function>\n</tool_call>',
        [TAGS],
    ),
    # A closing tag in the middle of a value is a part of it.
    (
        "<tool_call>\n<function=Bash>\n<parameter=command>\necho '</parameter>' x\n</parameter>\n"
        "</function>\n</tool_call>",
        [("Bash", {"command": "echo '</parameter>' x"})],
    ),
    (
        "<tool_call>\n<function=Nope>\n</function>\n</tool_call>",
        [said("<tool_call>\n<function=Nope>\n</function>\n</tool_call>")],
    ),
]

_X_WRITE = (
    "<tool_call>\n<function=Edit>\n<parameter=file_path>\na.py\n</parameter>\n<parameter=new>\n"
    "{}\n</parameter>\n</function>\n</tool_call>"
)
QWEN3_CODER += [
    (_X_WRITE.format(text), [("Edit", {"file_path": "a.py", "new": text})])
    for text in (
        # Undeclared names, names that have been given, and whole calls are a part of a text.
        "x</parameter>\n<parameter=fake>\ny",
        "x\n</parameter>\n<parameter=file_path>\ny",
        f"See:\n<tool_call>\n{X_BASH}\n</tool_call>\nEnd.",
        "</function>\n</tool_call>\nmore",
        "write <function=Edit> and <parameter=new> so",
    )
]
QWEN3_CODER += [
    # Closing tags that were forgotten.
    ("<tool_call>\n" + X_BASH.replace("-l\n</parameter>", "-l") + "\n</tool_call>", [BASH]),
    (
        "<tool_call>\n<function=Read>\n<parameter=file_path>\na.py\n</function>\n</tool_call>",
        [READ],
    ),
    (
        "<tool_call>\n<function=Read>\n<parameter=file_path>\na.py\n</parameter>\n</tool_call>",
        [READ],
    ),
    (f"<tool_call>\n{J_READ}\n</tool_call>", [READ]),
    (f"<function=Read>{A_READ}</function>", [READ]),
]

QWEN3_CODER += [
    # Names as attributes, wrong closing tags, and one said twice.
    (
        '<tool_call>\n<function name="Bash">\n<parameter name="command">ls -l</parameter>\n'
        '<parameter name="timeout">\n5\n</parameter>\n</function>\n</tool_call>',
        [BASH],
    ),
    (
        '<function name="Read"><parameter name="file_path">a.py</parameter></function>',
        [READ],
    ),
    (f"<tool_call>\n{X_BASH.replace('</parameter>', '</command>', 1)}\n</tool_call>", [BASH]),
    (
        f"<tool_call>\n{X_BASH.replace('</parameter>', '</parameter=command>', 1)}\n</tool_call>",
        [BASH],
    ),
    (X_BASH.replace("</parameter>", "</parameter>\n</parameter>"), [BASH]),
    (
        _X_WRITE.format("<parameter>x</parameter>"),
        [("Edit", {"file_path": "a.py", "new": "<parameter>x</parameter>"})],
    ),
]

GLM: list[Case] = [
    (
        "<tool_call>Read\n<arg_key>file_path</arg_key>\n<arg_value>a.py</arg_value>\n</tool_call>",
        [READ],
    ),
    ("<tool_call>Read<arg_key>file_path</arg_key><arg_value>a.py</arg_value></tool_call>", [READ]),
    (
        "On it.<tool_call>Bash\n<arg_key>command</arg_key>\n<arg_value>ls -l</arg_value>\n"
        "<arg_key>timeout</arg_key>\n<arg_value>5</arg_value>\n</tool_call>",
        [said("On it."), BASH],
    ),
    ("<tool_call>Now\n</tool_call>", [NOW]),
    ("<tool_call>Now</tool_call>", [NOW]),
    (
        "<tool_call>Now</tool_call>\n<tool_call>Read\n<arg_key>file_path</arg_key>\n"
        "<arg_value>a.py</arg_value>\n</tool_call>",
        [NOW, READ],
    ),
    (
        "<tool_call>Edit\n<arg_key>file_path</arg_key>\n<arg_value>a.py</arg_value>\n"
        f"<arg_key>new</arg_key>\n<arg_value>{CODE}</arg_value>\n</tool_call>",
        [EDIT],
    ),
    (
        '<tool_call>Tags\n<arg_key>tags</arg_key>\n<arg_value>["x", "y, z"]</arg_value>\n'
        '<arg_key>at</arg_key>\n<arg_value>{"line": 3}</arg_value>\n</tool_call>',
        [TAGS],
    ),
    ("<tool_call>Nope</tool_call>", [said("<tool_call>Nope</tool_call>")]),
]

GLM += [
    (f"<tool_call>Read{A_READ}</tool_call>", [READ]),
    ('<tool_call>Read(file_path="a.py")</tool_call>', [READ]),
    (
        "<tool_call>Bash\n<arg_key>command</arg_key>\n<arg_value>ls -l\n<arg_key>timeout</arg_key>"
        "<arg_value>5</arg_value></tool_call>",
        [BASH],
    ),
    (f"<tool_call>{J_READ}</tool_call>", [READ]),
    (f"<tool_call>Read\n{A_READ}\n</tool_call>", [READ]),
]

M_READ = '<invoke name="Read">\n<parameter name="file_path">a.py</parameter>\n</invoke>'
M_BASH = (
    '<invoke name="Bash">\n<parameter name="command">ls -l</parameter>\n'
    '<parameter name="timeout">5</parameter>\n</invoke>'
)
M = ("<minimax:tool_call>\n", "\n</minimax:tool_call>")
MINIMAX: list[Case] = [
    (
        f"{M[0]}<invoke name='Read'><parameter name='file_path'>a.py</parameter></invoke>{M[1]}",
        [READ],
    ),
    (
        f'{M[0]}<invoke name="Read"><parameter name="file_path" string="true">a.py</parameter>'
        f"</invoke>{M[1]}",
        [READ],
    ),
    (f"{M[0]}{M_READ}{M[1]}", [READ]),
    (f"{M[0]}{M_READ}\n{M_BASH}{M[1]}", [READ, BASH]),
    (f"Reading.\n{M[0]}{M_READ}{M[1]}", [said("Reading.\n"), READ]),
    (f'{M[0]}<invoke name="Now">\n</invoke>{M[1]}', [NOW]),
    (
        f'{M[0]}<invoke name="Edit">\n<parameter name="file_path">a.py</parameter>\n'
        f'<parameter name="new">{CODE}</parameter>\n</invoke>{M[1]}',
        [EDIT],
    ),
    (
        f'{M[0]}<invoke name="Tags">\n<parameter name="tags">["x", "y, z"]</parameter>\n'
        f'<parameter name="at">{{"line": 3}}</parameter>\n</invoke>{M[1]}',
        [TAGS],
    ),
    (f"{M[0]}{M_READ}", [READ]),
    (M_READ, [READ]),
    (f"Yes.\n{M_READ}\n{M_BASH}", [said("Yes.\n"), READ, BASH]),
    (
        f'{M[0]}<invoke name="Nope">\n</invoke>{M[1]}',
        [said(f'{M[0]}<invoke name="Nope">\n</invoke>{M[1]}')],
    ),
]

D, D_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
DC, DC_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
DS = "<｜tool▁sep｜>"


def _v3(name: str, arguments: str) -> str:
    return f"{DC}function{DS}{name}\n```json\n{arguments}\n```{DC_END}"


def _v31(name: str, arguments: str) -> str:
    return f"{DC}{name}{DS}{arguments}{DC_END}"


A_EDIT, A_TAGS = (
    f'{{"file_path": "a.py", "new": {Q}}}',
    '{"tags": ["x", "y, z"], "at": {"line": 3}}',
)


def _deepseek(call: Any, between: str) -> list[Case]:
    return [
        (f"{D}{call('Read', A_READ)}{D_END}", [READ]),
        (f"Sure.\n\n{D}{call('Bash', A_BASH)}{D_END}", [said("Sure.\n\n"), BASH]),
        (f"{D}{call('Read', A_READ)}{between}{call('Bash', A_BASH)}{D_END}", [READ, BASH]),
        (f"{D}{call('Now', '{}')}{D_END}", [NOW]),
        (f"{D}{call('Edit', A_EDIT)}{D_END}", [EDIT]),
        (f"{D}{call('Tags', A_TAGS)}{D_END}", [TAGS]),
        # Letters that no keyboard has, written as those that one has; no arguments.
        (f"{D}{call('Bash', A_BASH)}{D_END}".replace("｜", "|").replace("▁", "_"), [BASH]),
        (f"{D}{call('Read', A_READ)}{D_END}".replace("｜", "|"), [READ]),
        (call("Read", A_READ).replace("▁", " "), [READ]),
        (f"{D}{call('Now', '')}{D_END}", [NOW]),
        # R1 leaves the outer markers out, or the last ones.
        (call("Read", A_READ), [READ]),
        (f"{D}{call('Read', A_READ)}", [READ]),
        (f"{D}{call('Nope', '{}')}{D_END}", [said(f"{D}{call('Nope', '{}')}{D_END}")]),
    ]


K = ("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>")


def _kimi(name: str, arguments: str, number: int = 0) -> str:
    head = f"<|tool_call_begin|>functions.{name}:{number}<|tool_call_argument_begin|>"
    return f"{head}{arguments}<|tool_call_end|>"


KIMI_K2: list[Case] = [
    (f"{K[0]}{_kimi('Read', A_READ)}{K[1]}", [READ]),
    (f"Looking.{K[0]}{_kimi('Bash', A_BASH)}{K[1]}", [said("Looking."), BASH]),
    (f"{K[0]}{_kimi('Read', A_READ)}{_kimi('Bash', A_BASH, 1)}{K[1]}", [READ, BASH]),
    (f"{K[0]}{_kimi('Now', '{}', 12)}{K[1]}", [NOW]),
    (f"{K[0]}{_kimi('Edit', A_EDIT)}{K[1]}", [EDIT]),
    (f"{K[0]}\n{_kimi('Tags', A_TAGS)}\n{K[1]}", [TAGS]),
    # The singular is a slip of the model's, a bare name another.
    (f"<|tool_call_section_begin|>{_kimi('Read', A_READ)}<|tool_call_section_end|>", [READ]),
    (
        f"{K[0]}<|tool_call_begin|>Read<|tool_call_argument_begin|>{A_READ}<|tool_call_end|>{K[1]}",
        [READ],
    ),
    (f"{K[0]}{_kimi('Nope', '{}')}{K[1]}", [said(f"{K[0]}{_kimi('Nope', '{}')}{K[1]}")]),
]

KIMI_K2 += [(f"{K[0]}{_kimi('Now', '')}{K[1]}", [NOW])]

MISTRAL: list[Case] = [
    (f"[TOOL_CALLS]Read[ARGS]{A_READ}", [READ]),
    (f"[TOOL_CALLS]Read[CALL_ID]abc123xyz[ARGS]{A_READ}", [READ]),
    (f"I check.[TOOL_CALLS]Bash[ARGS]{A_BASH}", [said("I check."), BASH]),
    (f"[TOOL_CALLS]Read[ARGS]{A_READ}[TOOL_CALLS]Bash[ARGS]{A_BASH}", [READ, BASH]),
    ("[TOOL_CALLS]Now[ARGS]{}", [NOW]),
    ("[TOOL_CALLS]Now[ARGS]", [NOW]),
    (f"[TOOL_CALLS]Edit[ARGS]{A_EDIT}", [EDIT]),
    (f"[TOOL_CALLS]Tags[ARGS]{A_TAGS}", [TAGS]),
    # Some conversions lose the second marker.
    (f"[TOOL_CALLS]Read{A_READ}", [READ]),
    ("[TOOL_CALLS]Nope[ARGS]{}", [said("[TOOL_CALLS]Nope[ARGS]{}")]),
]


def _listed(start: str, end: str) -> list[Case]:
    return [
        (f"{start}[{J_READ}]{end}", [READ]),
        (f"I read it.\n{start}[{J_READ}]{end}", [said("I read it.\n"), READ]),
        (f"{start}[{J_READ}, {J_BASH}]{end}", [READ, BASH]),
        (f"{start} [{J_NOW}]{end}", [NOW]),
        (f"{start}[{J_EDIT}]{end}", [EDIT]),
        (f"{start}[{J_TAGS}]{end}", [TAGS]),
        (f"{start}{J_READ}{end}", [READ]),
        (f'{start}[{J_READ[:-1]}, "id": "abcdef123"}}]{end}', [READ]),
        (f"{start}[{J_OTHER}]{end}", [said(f"{start}[{J_OTHER}]{end}")]),
    ]


L_READ = J_READ.replace("arguments", "parameters")
L_BASH = J_BASH.replace("arguments", "parameters")
LLAMA3: list[Case] = [
    (f"<|python_tag|>{L_READ}", [READ]),
    (f"<|python_tag|>{L_READ}; {L_BASH}", [READ, BASH]),
    (f"<|python_tag|>{L_READ}<|eom_id|>", [READ]),
    ('<|python_tag|>{"type": "function", ' + L_READ[1:], [READ]),
    ('<|python_tag|>{"type": "function", "function": {' + L_READ[1:] + "}", [READ]),
    # More often than not, the tag is left out.
    (L_READ, [READ]),
    (f"{L_READ}; {L_BASH}", [READ, BASH]),
    (
        '<|python_tag|>{"name": "Bash", "parameters": {"command": "ls -l", "timeout": "5"}}',
        [BASH],
    ),
    ('<|python_tag|>{"name": "Now", "parameters": {}}', [NOW]),
    ('<|python_tag|>Read(file_path="a.py")', [READ]),
    (f"<function=Read>{A_READ}</function>", [READ]),
    (f"<|python_tag|>{J_OTHER}", [said(f"<|python_tag|>{J_OTHER}")]),
]


def _pythonic(start: str, end: str) -> list[Case]:
    edit = f'Edit(file_path="a.py", new={Q})'
    return [
        (f'{start}[Read(file_path="a.py")]{end}', [READ]),
        (f"{start}[Read(file_path='a.py')]{end}", [READ]),
        (f'Sure. {start}[Bash(command="ls -l", timeout=5)]{end}', [said("Sure. "), BASH]),
        (f'{start}[Read(file_path="a.py"), Bash(command="ls -l", timeout=5)]{end}', [READ, BASH]),
        (f"{start}[Now()]{end}", [NOW]),
        (f"{start}[{edit}]{end}", [EDIT]),
        (f"{start}[Tags(tags=['x', 'y, z'], at={{'line': 3}})]{end}", [TAGS]),
        (
            f'{start}[Bash(command="a", background=True)]{end}',
            [("Bash", {"command": "a", "background": True})],
        ),
        # Without the markers it is still a list of calls.
        ('[Read(file_path="a.py"), Now()]', [READ, NOW]),
        (f"{start}[Nope(a=1)]{end}", [said(f"{start}[Nope(a=1)]{end}")]),
    ]


def _gemma(start: str, end: str, quote: str) -> list[Case]:
    def text(value: str) -> str:
        return f"{quote}{value}{quote}"

    read = f"{start}call:Read{{file_path:{text('a.py')}}}{end}"
    tags = f"call:Tags{{tags:[{text('x')},{text('y, z')}],at:{{line:3}}}}"
    return [
        (read, [READ]),
        (f"Ok.\n{read}", [said("Ok.\n"), READ]),
        (f"{start}call:Bash{{command:{text('ls -l')},timeout:5}}{end}", [BASH]),
        (f"{read}{start}call:Now{{}}{end}", [READ, NOW]),
        (f"{start}call:Now{{}}{end}", [NOW]),
        (f"{start}call:Edit{{file_path:{text('a.py')},new:{text(CODE)}}}{end}", [EDIT]),
        (f"{start}{tags}{end}", [TAGS]),
        (
            f"{start}call:Bash{{command:{text('a')}, background:true}}{end}",
            [("Bash", {"command": "a", "background": True})],
        ),
        # Slips into Python.
        (f"{start}call:Bash(command={text('ls -l')}, timeout=5){end}", [BASH]),
        (f"{start}call:Read{{file_path='a.py'}}{end}", [READ]),
        (f'{start}Read(file_path="a.py"){end}', [READ]),
        (f"{start}call:Nope{{}}{end}", [said(f"{start}call:Nope{{}}{end}")]),
    ]


def _harmony(name: str, arguments: str) -> str:
    head = f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"
    return f"{head}{arguments}<|call|>"


THOUGHT = "<|channel|>analysis<|message|>I look.<|end|><|start|>assistant"
HARMONY: list[Case] = [
    (f"<|channel|>commentary to=Read <|constrain|>json<|message|>{A_READ}<|call|>", [READ]),
    (f"<|channel|>commentary to= functions.Read<|message|>{A_READ}<|call|>", [READ]),
    (f"<|start|>assistant to=Read<|channel|>commentary<|message|>{A_READ}<|call|>", [READ]),
    (_harmony("Now", ""), [NOW]),
    (_harmony("Read", A_READ), [READ]),
    (f"{THOUGHT}{_harmony('Bash', A_BASH)}", [("thinking", "I look."), BASH]),
    ("<|channel|>final<|message|>Done.<|return|>", [said("Done.")]),
    (f"{THOUGHT}<|channel|>final<|message|>Done.", [("thinking", "I look."), said("Done.")]),
    (
        "<|channel|>commentary<|message|>I read it.<|end|><|start|>assistant"
        + _harmony("Read", A_READ),
        [said("I read it."), READ],
    ),
    (_harmony("Now", "{}"), [NOW]),
    (_harmony("Edit", A_EDIT), [EDIT]),
    (_harmony("Tags", A_TAGS), [TAGS]),
    # The recipient may come before the channel, and generation ends at <|call|>.
    (
        f"{THOUGHT} to=functions.Read<|channel|>commentary <|constrain|>json<|message|>{A_READ}",
        [("thinking", "I look."), READ],
    ),
    (_harmony("Nope", "{}"), [said(_harmony("Nope", "{}"))]),
]

PLAIN: list[Case] = [
    (J_READ, [READ]),
    ('{"tool": "Read", "input": {"file_path": "a.py"}}', [READ]),
    ('{"function": "Read", "parameters": {"file_path": "a.py"}}', [READ]),
    (f"I'll read it.\n```json\n{J_READ}\n```", [said("I'll read it.\n"), READ]),
    (f"```\n{J_BASH}\n```\n", [BASH]),
    (f"```json\n{J_READ}\n```\n```json\n{J_BASH}\n```", [READ, BASH]),
    (f"[{J_READ}, {J_BASH}]", [READ, BASH]),
    (f"{J_READ}\n{J_BASH}", [READ, BASH]),
    ('Read({"file_path": "a.py"})', [READ]),
    ('Read(file_path="a.py")', [READ]),
    ("```tool_code\nRead(file_path='a.py')\n```", [READ]),
    ("Now", [NOW]),
    ("`Now`", [NOW]),
    ("Now()", [NOW]),
    # Prose about calls is prose.
    ("Now is the time.", [said("Now is the time.")]),
    ("Reading is fun.", [said("Reading is fun.")]),
    ("I use Now", [said("I use Now")]),
    ("Read", [said("Read")]),
    (f"```json\n{J_READ}\n```\nreads a file.", [said(f"```json\n{J_READ}\n```\nreads a file.")]),
    (f"{J_READ} is how to call.", [said(f"{J_READ} is how to call.")]),
    (f"Write {J_READ}", [said(f"Write {J_READ}")]),
    (J_OTHER, [said(J_OTHER)]),
    ('{"result": 1, "name": "Read"}', [said('{"result": 1, "name": "Read"}')]),
    ("```python\nprint(1)\n```", [said("```python\nprint(1)\n```")]),
    ("```sql\nselect 1\n```", [said("```sql\nselect 1\n```")]),
]

CASES: dict[str, list[Case]] = {
    "json_tags": [*JSON_TAGS, *PLAIN],
    "qwen3_coder": QWEN3_CODER,
    "glm": GLM,
    "minimax": MINIMAX,
    "deepseek_v3": _deepseek(_v3, "\n"),
    "deepseek_v31": _deepseek(_v31, ""),
    "kimi_k2": KIMI_K2,
    "mistral": MISTRAL,
    "mistral_v3": _listed("[TOOL_CALLS]", ""),
    "llama3": LLAMA3,
    "llama4": _pythonic("<|python_start|>", "<|python_end|>"),
    "pythonic": _pythonic("<|tool_call_start|>", "<|tool_call_end|>"),
    "function_gemma": _gemma("<start_function_call>", "<end_function_call>", "<escape>"),
    "gemma4": _gemma("<|tool_call>", "<tool_call|>", '<|"|>'),
    "harmony": HARMONY,
    "granite": _listed("<|tool_call|>", ""),
    "phi": _listed("<|tool_call|>", "<|/tool_call|>"),
}
