"""Random schemas with values that conform, and texts that look like markup."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from mlxdeck.server.chat import ToolSpec

Shape = tuple[dict[str, Any], st.SearchStrategy[Any]]
"""A schema, and the values that it allows."""

MARKUP = (
    *("</parameter>", "\n</parameter>\n", "</parameter>\n<parameter=fake>\n", "</function>"),
    *("\n</parameter>\n</function>\n</tool_call>", "<parameter=b>\n", "<function=Run>\n"),
    *("<tool_call>\n<function=Run>\n<parameter=a>\nx\n</parameter>\n</function>\n</tool_call>",),
    *('<tool_call>{"name": "Run", "arguments": {}}</tool_call>', "</tool_call>", "<tool_call>"),
    *("<tool_call>Run\n<arg_key>a</arg_key>\n<arg_value>x</arg_value>\n</tool_call>",),
    *("</arg_value>", "<arg_key>b</arg_key>", '</parameter>\n<parameter name="b">', "</invoke>"),
    *('<invoke name="Run">\n<parameter name="a">x</parameter>\n</invoke>', "<escape>", '<|"|>'),
    *("<tool_call|>", "<end_function_call>", "<|call|>", "[TOOL_CALLS]", "<|python_tag|>"),
    *("```\n", "```json\n{}\n```", "`", "\\", "\\n", "C:\\Users\\new", '"', "'", "null", "None"),
    *("5", "true", '"5"', "[1]", "{}", '{"a": 1}', " ", "\n", "\r\n", "é", "😀", "<think>"),
    *("</think>", "</minimax:tool_call>", "<minimax:tool_call>", "=", ",", ")", "]", "}"),
)
# A grammar has no room for a raw DEL, which JSON allows; models write none.
_CHARS = st.characters(exclude_characters="\x7f", codec="utf-8")
TEXTS = (
    st.text(_CHARS, max_size=12)
    | st.sampled_from(MARKUP)
    | st.lists(st.sampled_from(MARKUP) | st.text(_CHARS, max_size=3), max_size=4).map("".join)
)
_NAMES = ("a", "b", "c_d", "path")
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner),
    max_leaves=3,
)


def _of(schema: dict[str, Any], values: st.SearchStrategy[Any]) -> st.SearchStrategy[Shape]:
    return st.just((schema, values))


def _bounded() -> st.SearchStrategy[Shape]:
    text = st.text("abc<>/é\n", min_size=1, max_size=4)
    return _of({"type": "string", "minLength": 1, "maxLength": 4}, text)


LEAVES: st.SearchStrategy[Shape] = st.one_of(
    _of({"type": "string"}, TEXTS),
    _of({"type": "string"}, TEXTS),
    _bounded(),
    _of({"type": "string", "pattern": "^[a-c]+/x$|^-$"}, st.sampled_from(["ab/x", "-"])),
    _of({"type": "string", "enum": ["a", "5", "x y", '"q"']}, st.sampled_from(["a", "5", "x y"])),
    _of({"enum": [1, "1", None, True, [1], {"k": "v"}]}, st.sampled_from([1, "1", None, True])),
    _of({"const": "only"}, st.just("only")),
    _of({"const": 3}, st.just(3)),
    _of({"type": "integer"}, st.integers(-(10**9), 10**9)),
    _of({"type": "integer", "minimum": 0, "maximum": 9}, st.integers(0, 9)),
    _of({"type": "number"}, st.integers(-999, 999) | st.sampled_from([0.5, -2.25])),
    _of({"type": "boolean"}, st.booleans()),
    _of({"type": "null"}, st.none()),
    _of({"type": ["string", "null"]}, st.none() | TEXTS),
    _of({"type": ["integer", "string"]}, st.integers(-99, 99) | TEXTS),
    _of({"oneOf": [{"const": "on"}, {"const": 0}]}, st.sampled_from(["on", 0])),
    _of({}, _ANY),
    _of({"description": "anything"}, _ANY),
)


@st.composite
def _nested(draw: st.DrawFn, inner: st.SearchStrategy[Shape]) -> Shape:
    kind = draw(st.sampled_from(["array", "items", "object", "properties", "nullable", "all"]))
    schema, values = draw(inner)
    if kind in ("array", "items"):
        told: dict[str, Any] = {"type": "array"} if kind == "array" else {}
        return {**told, "items": schema}, st.lists(values, max_size=2)
    if kind == "nullable":
        return {"anyOf": [schema, {"type": "null"}], "default": None}, st.none() | values
    if kind == "all":
        return {"allOf": [schema], "description": "x"}, values
    told = {"type": "object"} if kind == "object" else {}
    told |= {"properties": {"k": schema}, "required": ["k"]}
    return told, st.fixed_dictionaries({"k": values})


SHAPES = st.recursive(LEAVES, _nested, max_leaves=4)


@st.composite
def tools(draw: st.DrawFn) -> tuple[ToolSpec, dict[str, Any]]:
    """A tool, some of whose parameters are references, and arguments that conform."""
    properties: dict[str, Any] = {}
    defined: dict[str, Any] = {}
    arguments: dict[str, Any] = {}
    needed = []
    for name in draw(st.lists(st.sampled_from(_NAMES), unique=True, max_size=3)):
        schema, values = draw(SHAPES)
        if draw(st.booleans()):
            defined[f"{name}_"] = schema
            schema = draw(
                st.sampled_from(
                    [
                        {"$ref": f"#/$defs/{name}_"},
                        {"allOf": [{"$ref": f"#/$defs/{name}_"}]},
                        {"anyOf": [{"$ref": f"#/$defs/{name}_"}, {"type": "null"}]},
                    ]
                )
            )
        properties[name] = schema
        is_needed = draw(st.booleans())
        needed += [name] * is_needed
        if is_needed or draw(st.booleans()):
            arguments[name] = draw(values)
    schema = {"type": "object", "properties": properties, "required": needed, "$defs": defined}
    # A grammar of JSON wants the order in which the schema lists them.
    listed = {name: arguments[name] for name in properties if name in arguments}
    return ToolSpec("Run", "", schema), listed
