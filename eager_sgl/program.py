"""Methods inside SGLang programs.

`set_prompt` sets the prompt of a state, `eager_generate` generates from the tokens of a state, and
`continue_from` appends a sequence to it:

    @sgl.function
    def answer(s, question, method):
        set_prompt(s, [{"role": "user", "content": question}])
        result = eager_generate(s, method)
        continue_from(s, result.sequences[0])
"""

from __future__ import annotations

from sglang.lang.interpreter import ProgramState

from eager_sgl.budget.sequences import Account
from eager_sgl.core import PromptResult, Sequence
from eager_sgl.engine.client import Prompt
from eager_sgl.engine.frontend.endpoint import endpoint_of
from eager_sgl.engine.loop import run
from eager_sgl.generate.limits import PromptLimits
from eager_sgl.generate.observers import OnProgress, progress_of
from eager_sgl.generate.prompt import grow
from eager_sgl.methods import Method

__all__ = ["continue_from", "eager_generate", "set_prompt"]


def eager_generate(
    s: ProgramState,
    method: Method,
    *,
    account: Account | None = None,
    timeout: float | None = None,
    max_tokens: int | None = None,
    on_progress: OnProgress | None = None,
) -> PromptResult:
    """Sequences from the tokens that a state holds so far; the state itself does not change.

    Args:
        s: a state of any program that runs on a `TokenEndpoint`.
        method, account, timeout, max_tokens, on_progress: as of `AsyncClient.generate`.

    Returns:
        The sequences, each with its tokens and text, and what they cost.

    Raises:
        ValueError: a stop rule or utility returns something else than its role requires.
        RequestRejectedError: the state leaves no room in the model's context.
        ServerError: the server failed, or is gone.
        KeyboardInterrupt: Ctrl-C; nothing runs on the server any more, and `partial_of` returns
            what it has generated.
    """
    endpoint = endpoint_of(s)
    observers, interval = progress_of(on_progress)
    growing = grow(
        endpoint.replicas,
        endpoint.token_ids(s),
        method,
        account=account,
        limits=PromptLimits(timeout=timeout, max_tokens=max_tokens, stream_interval=interval),
        observers=observers,
    )
    return run(growing)


def set_prompt(s: ProgramState, prompt: Prompt) -> None:
    """Set the prompt of a new state: plain text, token ids, or chat messages.

    Chat messages are rendered with the model's template, which `sgl.user` does not use.
    """
    endpoint_of(s).set_prompt(s, prompt)


def continue_from(s: ProgramState, sequence: Sequence) -> None:
    """Append a sequence to the state it was generated from, token for token.

    A stop token at its end is omitted, so that the program can continue in the same turn.
    """
    endpoint, token_ids = endpoint_of(s), sequence.open_token_ids
    endpoint.append_tokens(s, token_ids, endpoint.decode([token_ids])[0])
