"""Branches of running requests, without a second prefill of what these have decoded.

SGLang puts the tokens of a request into the radix tree when the request has ended, so that a branch
of one that runs would compute them again. Here the branch names its parent, and the parent's tokens
are put there first, by the call that SGLang makes for the chunks of a long prompt.
"""

from __future__ import annotations

import logging
from typing import Any

from eager_sgl.plugin.carried import carried_params, plain_id
from eager_sgl.plugin.vocabulary import Gate

__all__ = ["publish_parent"]

logger = logging.getLogger(__name__)

_CACHES = ("RadixCache", "UnifiedRadixCache")


def publish_parent(scheduler: Any, request: Any, **kwargs: object) -> None:
    """Before `Scheduler.handle_generate_request`: put the parent's tokens into the radix tree.

    Nothing depends on it but the prefill: where it cannot be done, the branch computes its prefix.
    """
    try:
        params = request.sampling_params.custom_params
        gate = Gate.parse(params or carried_params(request.rid).get("custom_params"))
        if gate is not None and gate.parent is not None:
            _publish(scheduler, gate.parent)
    except ValueError:
        return  # the request's report says so
    except Exception:
        logger.exception("The parent of request %s is not shared", request.rid)


def _publish(scheduler: Any, parent: str) -> None:
    cache = scheduler.tree_cache
    if not (_keeps_tokens_alone(cache) and _decodes_in_step(scheduler)):
        return
    batches = (scheduler.running_batch, scheduler.last_batch)
    for request in (request for batch in batches if batch for request in batch.reqs):
        if request.rid.startswith(parent) and plain_id(request.rid) == parent:
            if _is_decoding(request):
                request.refresh_fill_ids()
                # The last token's keys and values are computed in the next step.
                num_known = len(request.origin_input_ids) + len(request.output_ids) - 1
                cache.checkpoint(request, up_to=min(num_known, request.kv.kv_committed_len))
            return


def _decodes_in_step(scheduler: Any) -> bool:
    """Whether all ranks know the same tokens of a request here."""
    is_whole = scheduler.disaggregation_mode.name == "NULL" and _num_stages() == 1
    return is_whole and bool(scheduler.spec_algorithm.is_none())


def _num_stages() -> int:
    """Of pipeline parallelism."""
    from sglang.srt.runtime_context import get_parallel

    return int(get_parallel().pp_size)


def _keeps_tokens_alone(cache: Any) -> bool:
    """Whether a prefix is the keys and values of its tokens.

    A recurrent state is that of the last token, which may be ahead of those that are known, and a
    sliding window has evicted tokens.
    """
    is_known = type(cache).__name__ in _CACHES
    return is_known and not cache.supports_mamba() and not cache.supports_swa()


def _is_decoding(request: Any) -> bool:
    return bool(
        request.output_ids
        and not request.finished()
        and not request.is_retracted
        and not request.skip_radix_cache_insert
        and request.kv.req_pool_idx is not None
    )
