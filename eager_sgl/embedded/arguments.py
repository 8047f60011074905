"""Fields of SGLang's `ServerArgs` (0.5.23): the runtime's values, checks and refusals."""

from __future__ import annotations

import difflib
import functools
import importlib.util
import json
import os
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eager_sgl.engine.addresses import require_key

__all__ = ["Arguments", "devices_fault", "plain_arguments", "resolve_arguments"]

Arguments = dict[str, Any]
"""Fields of `ServerArgs` by name, with values that JSON can hold."""

# For every device; SGLang's other defaults suit a GPU.
COMMON_ARGUMENTS: Arguments = {
    # An idle scheduler otherwise spins on one core.
    "sleep_on_idle": True,
    "log_level": "info",
    # One line per request would fill the log and slow the server.
    "log_level_http": "warning",
}

CPU_ARGUMENTS: Arguments = {
    "device": "cpu",
    "attention_backend": "torch_native",
    "sampling_backend": "pytorch",
    # Overlap hides scheduling behind a device's work; here both share the same core.
    "disable_overlap_schedule": True,
    # A new branch joins the step of running ones, instead of delaying them by one.
    "enable_mixed_chunk": True,
    # A cached prefix is shared token by token.
    "page_size": 1,
    "max_running_requests": 256,
    # Weights and KV pool take at most half of the memory, and the pool holds at most these tokens:
    # it is written once at the start, which takes time and memory even if it is never used.
    "mem_fraction_static": 0.5,
    "max_total_tokens": 131_072,
    # Graphs are captured for GPUs only.
    "cuda_graph_backend_decode": "disabled",
    "cuda_graph_backend_prefill": "disabled",
}

_ONE_MACHINE = "the runtime is on this machine alone; use connect() for a server on several"
_HTTP = "requests to the runtime use plain HTTP"

# Fields that the runtime depends on: their allowed values, and the reason.
FIXED: dict[str, tuple[tuple[object, ...], str]] = {
    "skip_tokenizer_init": ((False,), "prompts are tokenised by the server"),
    "disable_radix_cache": ((False,), "every branch would be generated anew"),
    "encoder_only": ((False,), "an encoder generates nothing"),
    "disaggregation_mode": (("null",), "the runtime has to prefill and to decode"),
    "nnodes": ((1,), _ONE_MACHINE),
    "node_rank": ((0,), _ONE_MACHINE),
    "use_ray": ((False,), "Ray's processes would outlive the runtime"),
    "tokenizer_worker_num": ((1,), "SGLang takes no API key with several"),
    "log_level": (("info", "debug"), "the stages of the start are read from the log"),
    "grpc_mode": ((False,), _HTTP),
    "smg_grpc_mode": ((False,), _HTTP),
    "ssl_keyfile": ((None,), _HTTP),
    "ssl_certfile": ((None,), _HTTP),
    "ssl_ca_certs": ((None,), _HTTP),
    "ssl_keyfile_password": ((None,), _HTTP),
    "enable_ssl_refresh": ((False,), _HTTP),
}


def _is_int(value: object, minimum: int, maximum: int) -> bool:
    return type(value) is int and minimum <= value <= maximum


def _is_count(value: object) -> bool:
    return value is None or _is_int(value, 1, 2**31 - 1)


_COUNT = (_is_count, "a whole number of at least 1")

# Fields whose values are passed on unchanged: their rule, as a function and in words.
CHECKED: dict[str, tuple[Callable[[object], bool], str]] = {
    "port": (
        lambda value: _is_int(value, 1, 65_535),
        "a port from 1 to 65535; leave it out for a free one",
    ),
    "host": (lambda value: isinstance(value, str) and value != "", "an address of this machine"),
    "random_seed": (
        lambda value: value is None or _is_int(value, 0, 2**32 - 1),
        "a whole number from 0 to 4294967295",
    ),
    "mem_fraction_static": (
        lambda value: value is None or (isinstance(value, float) and 0 < value < 1),
        "between 0 and 1",
    ),
    **dict.fromkeys(
        (
            "tp_size",
            "dp_size",
            "pp_size",
            "page_size",
            "context_length",
            "max_total_tokens",
            "max_running_requests",
        ),
        _COUNT,
    ),
}


def plain_arguments(server_args: Mapping[str, object]) -> Arguments:
    """Server arguments with values that JSON can hold.

    Raises:
        ValueError: SGLang has no such field, or the runtime cannot work with its value.
    """
    return {name: _plain(name, value) for name, value in server_args.items()}


def _plain(name: str, value: object) -> object:
    if name not in _field_names():
        similar = difflib.get_close_matches(name, _field_names(), n=1)
        hint = f"; did you mean {similar[0]!r}?" if similar else ""
        raise ValueError(f"SGLang has no server argument {name!r}{hint}")
    if name == "model_path":
        raise ValueError("model_path is the runtime's own argument, not one of server_args")
    if name == "api_key" and value is not None:
        return require_key(value)  # type: ignore[arg-type]
    value = str(value) if isinstance(value, Path) else value
    allowed, reason = FIXED.get(name, ((value,), ""))
    if value not in allowed:
        values = " or ".join(map(repr, allowed))
        raise ValueError(f"server argument {name} is {value!r}; it must be {values}: {reason}")
    is_right, expected = CHECKED.get(name, (lambda value: True, ""))
    if not is_right(value):
        raise ValueError(f"server argument {name} is {value!r}; it must be {expected}")
    try:
        json.dumps(value)
    except TypeError as error:
        raise ValueError(
            f"server argument {name} is {value!r}, which cannot be passed to the server's process"
        ) from error
    return value


@functools.cache
def _field_names() -> frozenset[str]:
    """The fields of `ServerArgs`, whose import would take more than ten seconds."""
    spec = importlib.util.find_spec("sglang")
    assert spec is not None
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0], "srt", "arg_groups", "field_order.py")
    return frozenset(runpy.run_path(str(path))["POSITIONAL_FIELD_ORDER"])


def resolve_arguments(server_args: Arguments, *, on_cpu: bool) -> Arguments:
    """All fields to set: the runtime's defaults, overridden by the user's server arguments."""
    return COMMON_ARGUMENTS | (CPU_ARGUMENTS if on_cpu else {}) | server_args


def devices_fault(arguments: Mapping[str, Any], num_devices: int) -> str | None:
    """Why the machine cannot serve with these arguments; None if it can.

    Args:
        arguments: all resolved fields.
        num_devices: that SGLang can serve on; 0 if the machine has only its CPU.
    """
    device, num_ranks = arguments.get("device"), 1
    for name in ("tp_size", "pp_size"):
        num_ranks *= arguments.get(name) or 1
    if num_devices == 0:
        num_ranks *= arguments.get("dp_size") or 1
        if device != "cpu":
            return f"device is {device!r}, but this machine has no accelerator; leave it out"
    elif device == "cpu" and os.environ.get("SGLANG_USE_CPU_ENGINE") != "1":
        return (
            "device is 'cpu', but this machine has an accelerator; hide it from the runtime, for "
            "example with environment={'CUDA_VISIBLE_DEVICES': ''}"
        )
    if num_ranks > max(num_devices, 1):
        return (
            f"tp_size, pp_size and dp_size need {num_ranks} devices, "
            f"but this machine has {num_devices or 'only its CPU'}; lower them"
        )
    return None
