"""SGLang's `RuntimeEndpoint` on token ids.

SGLang's frontend sends text, and text does not round-trip to the tokens it was decoded from: the
radix tree misses, and the sequence may change. This endpoint sends the token ids of a state
(`eager_sgl.engine.frontend.states`) as `input_ids`, and tokenises only text that was appended
since. Any `@sgl.function` can run on it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from sglang.lang.interpreter import ProgramState

from eager_sgl.engine.addresses import API_KEY_VARIABLE
from eager_sgl.engine.client import Prompt, TokenClient
from eager_sgl.engine.frontend.interpreter import InterpreterBackend
from eager_sgl.engine.frontend.states import StateTokens, keep_tokens, tokens_in
from eager_sgl.engine.gate.choice import GateChoice, require_gate
from eager_sgl.engine.limits import REQUEST_TIMEOUT, SILENCE_TIMEOUT
from eager_sgl.engine.loop import run
from eager_sgl.engine.replicas import Replicas
from eager_sgl.engine.transport import Transport

__all__ = ["Prompt", "TokenEndpoint", "connect", "endpoint_of"]


def connect(
    url: str,
    *,
    api_key: str | None = None,
    request_timeout: float = REQUEST_TIMEOUT,
    silence_timeout: float = SILENCE_TIMEOUT,
    chat_options: Mapping[str, object] | None = None,
    router: str | None = None,
    gate: GateChoice = "auto",
) -> TokenEndpoint:
    """Connect to a running SGLang server, and check with real requests that branching works.

    Args:
        url: base URL of the server.
        api_key: of the server; the environment variable EAGER_SGL_API_KEY if None.
        request_timeout: seconds in total for one request. A request for a sequence's tokens is then
            aborted: the tokens it has decoded stay, and the rest is requested anew.
        silence_timeout: as of `AsyncClient`. Requests that generate nothing have shorter
            timeouts.
        chat_options: how the server renders chat messages: fields of its `/tokenize` such as
            `reasoning_effort`, and `chat_template_kwargs` with variables of the template.
        router: base URL of SGLang's router, which passes generation on to the replica that holds
            a prefix; `url` is then any of the replicas, for routes that a router does not pass on.
        gate: as of `AsyncClient`.

    Raises:
        ValueError: the URL, the key, a timeout or the gate is invalid.
        ServerUnreachableError: no server answers there.
        AuthenticationError: the API key is missing or wrong.
        ServerUnsuitableError: the radix cache does not serve `input_ids` prefixes.
    """
    require_gate(gate)
    transport = Transport(
        url,
        api_key=os.environ.get(API_KEY_VARIABLE) if api_key is None else api_key,
        request_timeout=request_timeout,
        silence_timeout=silence_timeout,
        router=router,
    )
    return TokenEndpoint(run(TokenClient.connect(transport, chat_options, gate)))


def endpoint_of(state: ProgramState) -> TokenEndpoint:
    """The endpoint that a state runs on.

    Raises:
        ValueError: the state runs on another backend.
    """
    backend = state.stream_executor.backend
    if not isinstance(backend, TokenEndpoint):
        raise ValueError(
            f"the program runs on {type(backend).__name__}; pass backend=eager_sgl.connect(url)"
        )
    return backend


class TokenEndpoint(InterpreterBackend):
    """The backend of SGLang programs on a connected server; made by `connect`.

    Attributes:
        client: sends the requests.
        profile: facts about the server that `connect` probed.
    """

    def __init__(self, client: TokenClient) -> None:
        super().__init__(client)
        self.replicas = Replicas.of(client)

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """The token ids of a prompt; see `TokenClient.encode`."""
        return run(self.client.encode(prompt))

    def decode(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """The texts of several token sequences, special tokens left out."""
        return run(self.client.decode(sequences))

    def require_known(self, noun: str, token_ids: object) -> tuple[int, ...]:
        """Token ids of the model; see `TokenClient.require_known`."""
        return self.client.require_known(noun, token_ids)

    def is_answering(self) -> bool:
        """Whether the server is up: one request with a short timeout, which is not repeated."""
        return run(self.client.is_answering())

    def token_ids(self, state: ProgramState) -> tuple[int, ...]:
        """The token ids of a state's whole text."""
        state.sync()
        return tokens_in(state.stream_executor, self.client).ids

    def set_prompt(self, state: ProgramState, prompt: Prompt) -> None:
        """Start a state with the tokens of a prompt; its text starts after the prompt.

        Raises:
            ValueError: the state has started already, or the prompt is empty.
        """
        if text := state.text():
            raise ValueError(f"the state holds {text!r}; a prompt can only be set on a new state")
        tokens = StateTokens(self.encode(prompt), "", from_text=False)
        keep_tokens(state.stream_executor, tokens)

    def append_tokens(self, state: ProgramState, token_ids: Sequence[int], text: str) -> None:
        """Append tokens of the model and their text to a state."""
        state.sync()
        tokens = tokens_in(state.stream_executor, self.client)
        state += text
        state.sync()
        keep_tokens(state.stream_executor, tokens.extended(token_ids, text))
