"""A backend that says the last message again, in capitals or not."""

from mlxdeck.server.backends.base import BackendInfo
from mlxdeck.server.backends.simple import SimpleBackend
from mlxdeck.server.chat import Finished, Started, Text, TextDelta, Usage


class Parrot(SimpleBackend):
    """`SimpleBackend` has everything but the answer."""

    def __init__(self, name, options):
        # The signature changes whenever the same request could draw another answer.
        self.is_loud = bool(options.get("loud"))
        super().__init__(name, BackendInfo("parrot", f"parrot 1 {self.is_loud}", 4096, "none"))

    async def answer(self, chat, parts):
        """`Started` first, `Finished` last; a `ServerError` may end it anywhere."""
        blocks = chat.messages[-1].blocks
        said = " ".join(block.text for block in blocks if isinstance(block, Text))
        yield Started(Usage(len(said)))
        for word in said.split():
            yield TextDelta(f"{word.upper() if self.is_loud else word} ")
        yield Finished("end_turn", Usage(len(said), 0, len(said)))
