"""The asynchronous client: `AsyncClient`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Self

from eager_sgl.budget.sequences import Account, Ledger
from eager_sgl.budget.tokens import TokenLedger
from eager_sgl.config import REASONING_END, SamplingConfig, require
from eager_sgl.core import PromptResult
from eager_sgl.engine.addresses import API_KEY_VARIABLE
from eager_sgl.engine.client import Prompt
from eager_sgl.engine.gate.choice import GateChoice, require_gate
from eager_sgl.engine.limits import REQUEST_TIMEOUT, SILENCE_TIMEOUT
from eager_sgl.engine.probe import ServerProfile
from eager_sgl.engine.replicas import Replicas
from eager_sgl.engine.transport import Transport
from eager_sgl.generate.limits import PromptLimits
from eager_sgl.generate.mapping import (
    Budget,
    MapItem,
    OnLeft,
    joined,
    map_prompts,
    methods_of,
    num_running,
)
from eager_sgl.generate.observers import Observer, OnProgress, progress_of
from eager_sgl.generate.prompt import grow
from eager_sgl.generate.resuming import resume
from eager_sgl.generate.stream import Stream
from eager_sgl.methods import Method
from eager_sgl.search.utility import Utility

__all__ = ["AsyncClient"]

STREAM_INTERVAL = 8


class AsyncClient:
    """Generates from prompts on one or several SGLang servers of the same model.

        async with AsyncClient("http://localhost:30000") as client:
            result = await client.generate(prompt, EagerInit(EagerConfig(threshold=2.2)))

    It connects when its context begins, or with its first request, and belongs to the event loop
    that it connects in.

    Args:
        servers: base URL of a server, or of several: the tree of a prompt lives on one of them, and
            continues on another if that fails.
        api_key: of the servers; the environment variable EAGER_SGL_API_KEY if None.
        timeout: seconds that a prompt may take; its result is then partial. None for no limit.
        request_timeout: seconds in total for one request. A request for a sequence's tokens is then
            aborted: the tokens it has decoded stay, and the rest is requested anew.
        silence_timeout: seconds without any byte of an answer, with the same effect. Until the
            first one, for which a queued request waits, bytes of the client's other answers from
            the server count too.
        chat_options: how the server renders chat messages: fields of its `/tokenize` such as
            `reasoning_effort`, and `chat_template_kwargs` with variables of the template.
        router: base URL of SGLang's router in front of a single server's replicas; see `connect`.
        gate: how servers may report steps: "auto" by the plugin that is installed beside them,
            "pickle" also by a processor that requests carry, on servers that were started with
            `--enable-custom-logit-processor` (which lets everyone who may send requests run code
            there).

    Attributes:
        transports: send the requests, one per server.

    Raises:
        ValueError: a URL, the key, a timeout or the gate is invalid.
    """

    def __init__(
        self,
        servers: str | Sequence[str],
        *,
        api_key: str | None = None,
        timeout: float | None = None,
        request_timeout: float = REQUEST_TIMEOUT,
        silence_timeout: float = SILENCE_TIMEOUT,
        chat_options: Mapping[str, object] | None = None,
        router: str | None = None,
        gate: GateChoice = "auto",
    ) -> None:
        urls = [servers] if isinstance(servers, str) else list(servers)
        require(bool(urls), "servers", servers, "the URL of a server, or of several")
        require_gate(gate)
        if router is not None and len(urls) > 1:
            raise ValueError(
                f"router is {router} beside {len(urls)} servers; give the router and one server "
                "behind it, or the servers without a router"
            )
        key = os.environ.get(API_KEY_VARIABLE) if api_key is None else api_key
        self.transports = [
            Transport(
                url,
                api_key=key,
                request_timeout=request_timeout,
                silence_timeout=silence_timeout,
                router=router,
            )
            for url in urls
        ]
        self._limits = PromptLimits(timeout=timeout)
        self._chat_options, self._gate = chat_options, gate
        self._connecting = asyncio.Lock()
        self._replicas: Replicas | None = None
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None

    async def __aenter__(self) -> Self:
        await self.replicas()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; prompts that still run fail."""
        replicas, self._replicas = self._replicas, None
        try:
            if replicas is not None:
                await replicas.aclose()
        finally:
            for transport in self.transports:
                await transport.aclose()

    async def replicas(self) -> Replicas:
        """The connected servers.

        Raises:
            ServerUnreachableError: no server answers.
            AuthenticationError: the API key is missing or wrong.
            ServerUnsuitableError: a radix cache does not serve `input_ids` prefixes, or the servers
                have different models.
        """
        home = os.getpid(), asyncio.get_running_loop()
        if self._home is not None and self._home[0] != home[0]:
            # A forked process has no connections, and no monitor of the servers.
            self._home, self._replicas, self._connecting = None, None, asyncio.Lock()
        if self._home not in (None, home):
            raise RuntimeError(
                "the client is connected in another event loop; make a client for every loop"
            )
        if self._replicas is not None:
            return self._replicas
        async with self._connecting:
            if self._replicas is None:
                try:
                    self._replicas = await Replicas.connect(
                        self.transports, self._chat_options, self._gate
                    )
                except BaseException:  # the next request may connect
                    for transport in self.transports:
                        await transport.disconnect()
                    raise
                self._home = home
            return self._replicas

    @property
    def profile(self) -> ServerProfile:
        """Facts about the servers and their model, once the client is connected."""
        if self._replicas is None:
            raise RuntimeError("the client is not connected; enter its context first")
        return self._replicas.profile

    async def is_answering(self) -> bool:
        """Whether a server is up: one request to each, with a short timeout, until one is."""
        asking = [asyncio.create_task(transport.is_answering()) for transport in self.transports]
        try:
            for answer in asyncio.as_completed(asking):
                if await answer:
                    return True
            return False
        finally:
            for task in asking:
                task.cancel()

    async def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """The token ids of a prompt; see `TokenClient.encode`."""
        replicas = await self.replicas()
        return await replicas.call(lambda client: client.encode(prompt))

    async def decode(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """The texts of several token sequences, special tokens left out."""
        replicas = await self.replicas()
        return await replicas.call(lambda client: client.decode(sequences))

    async def generate(
        self,
        prompt: Prompt,
        method: Method,
        *,
        account: Account | None = None,
        timeout: float | None = None,
        max_tokens: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> PromptResult:
        """The sequences of a prompt.

        Args:
            account: this prompt's part of a ledger; what is left of it caps M, and what is used is
                committed.
            timeout: seconds that the prompt may take; the client's if None.
            max_tokens: generated tokens at which the prompt ends, discarded ones included.
            on_progress: called with the cost whenever a part of an answer has arrived.

        Returns:
            The sequences with their tokens, texts and cost. After `timeout` or `max_tokens` it is
            partial: `stopped` says why, and nothing runs on the servers any more.

        Raises:
            ValueError: the prompt is empty, or a stop rule or utility returns something else than
                its role requires.
            RequestRejectedError: the prompt leaves no room in the model's context.
            ServerError: no server answers. What was generated is `partial_of(error)`, as for a
                cancelled task.
        """
        observers, interval = progress_of(on_progress)
        return await grow(
            await self.replicas(),
            prompt,
            method,
            account=account,
            limits=self._limits_of(timeout, max_tokens, interval),
            observers=observers,
        )

    def _limits_of(
        self, timeout: float | None, max_tokens: int | None, interval: int | None
    ) -> PromptLimits:
        seconds = self._limits.timeout if timeout is None else timeout
        return PromptLimits(timeout=seconds, max_tokens=max_tokens, stream_interval=interval)

    def stream(
        self,
        prompt: Prompt,
        method: Method,
        *,
        account: Account | None = None,
        timeout: float | None = None,
        max_tokens: int | None = None,
        interval: int = STREAM_INTERVAL,
    ) -> Stream:
        """The growth of a prompt's tree as events.

            async for event in client.stream(prompt, method):
                if isinstance(event, TokensAppended): ...

        Leaving its context, or the loop if nothing else holds the stream, ends all requests of the
        tree on the server.

        Args:
            interval: tokens of a sequence between two events; SGLang sends all tokens of a request
                with each, so that small intervals are costly for long sequences.
        """
        limits = self._limits_of(timeout, max_tokens, interval)

        async def run(observer: Observer) -> PromptResult:
            replicas = await self.replicas()
            observers = [observer]
            return await grow(
                replicas, prompt, method, account=account, limits=limits, observers=observers
            )

        return Stream(run, self.decode)

    async def map(
        self,
        prompts: Sequence[Prompt],
        method: Method | Sequence[Method],
        *,
        budget: Budget | None = None,
        utility: Utility | None = None,
        concurrency: int | None = None,
        timeout: float | None = None,
        max_tokens: int | None = None,
        on_left: OnLeft | None = None,
    ) -> AsyncGenerator[MapItem, None]:
        """The results of many prompts, as they finish; one that fails does not end the others.

        Args:
            method: of all prompts, or one per prompt.
            budget: a `Ledger` of sequences, of which each prompt takes up to its M and returns
                those it does not use; or a `TokenLedger`, for which searches bid by `utility`.
            concurrency: prompts at the same time; all where they share tokens, else 64.
            timeout, max_tokens: of each prompt, as of `generate`.
            on_left: receives the items of prompts that have begun and were not returned when the
                iteration is left, by Ctrl-C too; results of those that still ran are partial.

        Raises:
            ValueError: the arguments do not fit together.
        """
        methods = methods_of(prompts, method, budget, utility)
        ledger = budget if isinstance(budget, Ledger) else None
        num_at_once = num_running(len(prompts), budget, concurrency)
        await self.replicas()
        if isinstance(budget, TokenLedger) and utility is not None:
            methods = joined(methods, budget, utility)

        async def generate(prompt: Prompt, method: Method, account: Account | None) -> PromptResult:
            return await self.generate(
                prompt, method, account=account, timeout=timeout, max_tokens=max_tokens
            )

        async for item in map_prompts(prompts, methods, generate, ledger, num_at_once, on_left):
            yield item

    async def resume(
        self,
        prompt: Prompt,
        result: PromptResult,
        num_sequences: int,
        sampling: SamplingConfig,
        *,
        threshold: float = 0.0,
        reasoning_end: str | None = REASONING_END,
        seed: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> PromptResult:
        """Take the deferred branches of highest entropy; the radix cache serves their prefixes.

        Args:
            prompt: as in the run that gave `result`.
            result: of `EagerInit` with a `deferred_threshold`; `num_sequences` at most are taken.
            sampling: how the new sequences continue; they do not branch again.
            threshold: lowest entropy in nats of a branch to take.
            reasoning_end, seed, on_progress: as of `FullParallel` and `generate`.

        Returns:
            The new sequences; parents are indices in `result`, whose tokens are not counted again.

        Raises:
            ValueError: an argument is invalid, or `result` of another model, or a branch too late.
        """
        observers, interval = progress_of(on_progress)
        return await resume(
            await self.replicas(),
            prompt,
            result,
            num_sequences,
            sampling,
            threshold=threshold,
            reasoning_end=reasoning_end,
            seed=seed,
            limits=self._limits_of(None, None, interval),
            observers=observers,
        )
