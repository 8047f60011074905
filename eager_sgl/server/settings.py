"""The settings of a server, and their command line."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from eager_sgl.engine.addresses import API_KEY_VARIABLE, read_urls
from eager_sgl.engine.checks import require_sampling
from eager_sgl.plugin.vocabulary import MAX_TOP_K
from eager_sgl.server.facts import CHAT_DEFAULTS
from eager_sgl.server.limits import RequestLimits
from eager_sgl.server.voting.operators import readers_of

__all__ = ["KEYS_VARIABLE", "EndpointSettings", "parser", "runtime_arguments", "settings_of"]

KEYS_VARIABLE = "EAGER_SGL_ENDPOINT_KEYS"


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """The settings of a server.

    Attributes:
        servers: base URLs of SGLang servers of one model.
        server_key: API key of the SGLang servers; that of the environment if None.
        keys: API keys of this server's clients; without any, no key is asked for.
        limits: what a request may ask for.
        chat_defaults: the SGLang server's sampling defaults of chats, where the model's folder
            cannot be read; None to read it.
        max_requests: bound on the requests that run or wait.
        max_in_flight: bound on the sequences and probes of all requests at the same time.
        max_body_bytes: of a request.
        deadline_s: seconds after which a request is answered with 504.
        drain_s: seconds that running requests have after SIGTERM.
        host, port: where the server listens.
    """

    servers: tuple[str, ...]
    server_key: str | None = None
    keys: tuple[str, ...] = ()
    limits: RequestLimits = field(default_factory=RequestLimits)
    chat_defaults: Mapping[str, float] | None = None
    max_requests: int = 1024
    max_in_flight: int = 512
    max_body_bytes: int = 8 * 2**20
    deadline_s: float = 600.0
    drain_s: float = 60.0
    host: str = "127.0.0.1"
    port: int = 8000


def parser(program: str) -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=program,
        description="An OpenAI-compatible server in front of SGLang servers.",
        epilog="With --model, further options are those of the SGLang server, such as "
        "--reasoning-parser qwen3.",
        allow_abbrev=False,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--server", help="base URL of an SGLang server; several with commas")
    source.add_argument(
        "--model", "--model-path", help="folder or hub id of a model, for an embedded server"
    )
    parser.add_argument("--server-key", help=f"API key of --server; else {API_KEY_VARIABLE}")
    parser.add_argument("--host", default=EndpointSettings.host, help="address to listen on")
    parser.add_argument("--port", type=int, default=EndpointSettings.port, help="port to listen on")
    parser.add_argument(
        "--keys-file", help=f"file with the clients' API keys, one a line; else {KEYS_VARIABLE}"
    )
    _add_limits(parser)
    return parser


def _add_limits(parser: argparse.ArgumentParser) -> None:
    limits, settings = RequestLimits(), EndpointSettings
    parser.add_argument("--max-requests", type=int, default=settings.max_requests)
    parser.add_argument("--max-sequences", type=int, default=limits.max_sequences)
    parser.add_argument(
        "--max-in-flight",
        type=int,
        default=settings.max_in_flight,
        help="sequences of all requests at the same time; further requests wait",
    )
    parser.add_argument("--max-body-bytes", type=int, default=settings.max_body_bytes)
    parser.add_argument("--deadline", type=float, default=settings.deadline_s, help="seconds")
    parser.add_argument("--drain", type=float, default=settings.drain_s, help="seconds")
    parser.add_argument("--threshold", type=float, help="θ of eager_init in nats, to ln K")
    parser.add_argument("--top-k", type=int, default=limits.top_k, help="K of trees")
    parser.add_argument(
        "--answers",
        action="append",
        default=[],
        metavar="NAME=MODULE:OBJECT",
        help="a function from the text after the reasoning to its answer, or None, for votes; "
        "requests name it in eager.answer",
    )
    parser.add_argument(
        "--chat-default",
        action="append",
        metavar="NAME=VALUE",
        help="a sampling default of the SGLang server's chats, such as top_p=0.95, of "
        f"{', '.join(CHAT_DEFAULTS)}; for a model whose generation_config.json this machine cannot "
        "read",
    )


def runtime_arguments(words: Sequence[str]) -> dict[str, object]:
    """The options of an embedded server, from the rest of a command line.

    Raises:
        ValueError: a value has no option before it.
    """
    arguments: dict[str, object] = {}
    name = None
    for word in words:
        if word.startswith("--"):
            name, has_value, value = word[2:].partition("=")
            name = name.replace("-", "_")
            arguments[name] = _value(value) if has_value else True
        elif name is None or arguments[name] is not True:
            raise ValueError(f"{word!r} follows no option; name an option before it")
        else:
            arguments[name] = _value(word)
    return arguments


def _value(text: str) -> object:
    """A number or an object where the text is its JSON, else the text."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def settings_of(arguments: argparse.Namespace) -> EndpointSettings:
    """The settings of a parsed command line; without servers where one is to be started.

    Raises:
        ValueError: a URL, a number or a default is not as it must be, a reader of answers cannot be
            used, or the file or variable of keys that is given has none.
    """
    _require_numbers(arguments)
    given = arguments.server
    return EndpointSettings(
        servers=() if given is None else read_urls("--server", given),
        server_key=arguments.server_key,
        keys=_keys(arguments.keys_file),
        limits=RequestLimits(
            max_sequences=arguments.max_sequences,
            threshold=arguments.threshold,
            top_k=arguments.top_k,
            readers=readers_of(arguments.answers),
        ),
        chat_defaults=_defaults(arguments.chat_default),
        max_requests=arguments.max_requests,
        max_in_flight=arguments.max_in_flight,
        max_body_bytes=arguments.max_body_bytes,
        deadline_s=arguments.deadline,
        drain_s=arguments.drain,
        host=arguments.host,
        port=arguments.port,
    )


def _require_numbers(arguments: argparse.Namespace) -> None:
    for name in (
        *("max_requests", "max_sequences", "max_in_flight", "max_body_bytes"),
        *("deadline", "drain"),
    ):
        if not 0 < getattr(arguments, name) < math.inf:
            option, value = name.replace("_", "-"), getattr(arguments, name)
            raise ValueError(f"--{option} is {value}; it must be finite and above 0")
    top_k, threshold = arguments.top_k, arguments.threshold
    if not 2 <= top_k <= MAX_TOP_K:
        raise ValueError(f"--top-k is {top_k}; it must be from 2 to {MAX_TOP_K}")
    if threshold is not None and not 0 < threshold <= math.log(top_k):
        raise ValueError(
            f"--threshold is {threshold}; it must be in (0, ln {top_k} = {math.log(top_k):.4f}]"
        )


def _keys(path: str | None) -> tuple[str, ...]:
    source, text = KEYS_VARIABLE, os.environ.get(KEYS_VARIABLE, "")
    if path is not None:
        source = f"--keys-file {path}"
        with open(path, encoding="utf-8") as file:
            text = file.read()
    keys = tuple(text.replace(",", " ").split())
    if not keys and (text or path is not None):
        raise ValueError(f"{source} has no key and would admit everyone; write one a line")
    return keys


def _defaults(options: Sequence[str] | None) -> dict[str, float] | None:
    if options is None:
        return None
    defaults = {}
    for option in options:
        name, _, text = option.partition("=")
        if name not in CHAT_DEFAULTS:
            known = ", ".join(CHAT_DEFAULTS)
            raise ValueError(f"--chat-default is {option!r}; it must be NAME=VALUE, of {known}")
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"--chat-default is {option!r}; it must be {name}=NUMBER") from None
        defaults[name] = int(value) if value.is_integer() else value
        try:
            require_sampling(defaults)
        except ValueError as error:
            raise ValueError(f"--chat-default: {error}") from None
    return defaults
