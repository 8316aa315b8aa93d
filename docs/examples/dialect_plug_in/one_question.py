"""An API of one question and one answer: `POST /ask` with `{"question": "..."}`."""

import json

from mlxdeck.server.chat import ChatRequest, Message, Sampling, Text, TextDelta
from mlxdeck.server.errors import BadRequest


class OneQuestion:
    """All names of `Dialect` in `mlxdeck.server.dialects.base`."""

    name = "one_question"
    path = "/ask"
    roots = ("/ask",)
    count_path = ""

    def decode(self, body, headers):
        """A bad field is a `BadRequest` that names it."""
        fields = json.loads(body)
        question = fields.get("question")
        if not isinstance(question, str):
            raise BadRequest("question", "expected text")
        message = Message("user", (Text(question),))
        model, stream = fields.get("model", ""), fields.get("stream") is True
        return ChatRequest(model, (), (message,), Sampling(max_tokens=1000), stream=stream)

    def decode_count(self, body, headers):
        """Never called, as there is no `count_path`."""
        return self.decode(body, headers)

    def count(self, n_tokens):
        """The same."""
        return b""

    def encoder(self, request, message_id):
        """One for each answer."""
        return Answer()

    def encode_error(self, error, request_id):
        """The body of an error; its status is the error's own."""
        return json.dumps({"error": error.message}).encode()


class Answer:
    """Writes one answer, in one piece or as a stream of server-sent events."""

    def collect(self, events):
        """The whole answer."""
        texts = [event.text for event in events if isinstance(event, TextDelta)]
        return json.dumps({"answer": "".join(texts)}).encode()

    def encode(self, event):
        """A piece of the stream; nothing for what this API has no words for."""
        if not isinstance(event, TextDelta):
            return b""
        return b"data: " + json.dumps({"more": event.text}).encode() + b"\n\n"

    def error(self, error):
        """The last piece of a stream that breaks."""
        return b"data: " + json.dumps({"error": error.message}).encode() + b"\n\n"
