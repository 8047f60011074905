"""The scores of a reward model that an SGLang server runs.

    python -m sglang.launch_server --model-path MODEL --is-embedding

On a machine without an accelerator `EmbeddedRuntime(MODEL, log_path=…)` serves it. A suitable model
has one number for a text, such as `LlamaForSequenceClassification` with one label, and
`Qwen2ForRewardModel`.

SGLang's route for reward models is `/classify`, whose "embedding" is the score. (Its
`/v1/classify` returns a softmax over labels, and `/v1/score` compares labels.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence as Items

from eager_sgl.core import Sequence
from eager_sgl.engine.limits import PROBE
from eager_sgl.engine.loop import run
from eager_sgl.engine.protocol import tokens_of
from eager_sgl.engine.shapes import list_of
from eager_sgl.engine.transport import Transport
from eager_sgl.errors import ServerUnsuitableError

__all__ = ["RewardModel"]


class RewardModel:
    """Scores the answers to a prompt; a function for `by_score`.

        by_score(RewardModel("http://localhost:30001", messages), temperature=1.0)

    The reward model's own chat template renders the prompt and the assistant's message, at whose
    last token the score is read. The message is the text after the reasoning; `score` takes
    another, for a model that reads the reasoning too:

        by_score(lambda sequence: model.score("<think>" + sequence.text), temperature=1.0)

    A call blocks for an answer of the server.

    Args:
        url: base URL of its server.
        messages: of the prompt.
        api_key: sent as a bearer token.

    Raises:
        ValueError: the URL or the key is invalid.
    """

    def __init__(
        self, url: str, messages: Items[Mapping[str, str]], *, api_key: str | None = None
    ) -> None:
        self._transport = Transport(url, api_key=api_key)
        self._messages = [dict(message) for message in messages]

    def __call__(self, sequence: Sequence) -> float:
        """The score of a sequence's text after the reasoning; see `score`."""
        return self.score(sequence.final_text)

    def score(self, answer: str) -> float:
        """The score of an assistant's message; it may have any sign.

        Raises:
            ServerError: the server does not answer, or has no reward model.
        """
        return run(self._score(answer))

    async def _score(self, answer: str) -> float:
        messages = [*self._messages, {"role": "assistant", "content": answer}]
        rendered = {"messages": messages, "add_generation_prompt": False}
        token_ids = await self._transport.post("/tokenize", lambda: rendered, tokens_of)
        body = {"input_ids": token_ids}
        values = await self._transport.post("/classify", lambda: body, _embedding, patience=PROBE)
        if len(values) != 1 or not math.isfinite(values[0]):
            raise ServerUnsuitableError(
                f"{self._transport.url} answers with {len(values)} numbers for a text, where a "
                "reward model has one finite score; start its server with a reward model"
            )
        return values[0]


def _embedding(answer: object) -> list[float]:
    return list_of(float, answer, "embedding")
