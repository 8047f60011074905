"""Whether a tree gives the distribution that the SGLang server itself samples from.

A tree knows temperature, top-p and top-k. All else is left to the SGLang server's own route.
"""

from __future__ import annotations

from collections.abc import Mapping

from eager_sgl.engine.probe import ServerProfile
from eager_sgl.server.facts import THINK_PARSERS, Facts
from eager_sgl.server.schema import Chat, Completion, TokenRequest, is_one_of

__all__ = ["inexactness_of", "law_of", "obstacle_of"]

_OF_TREES = {
    *("model", "messages", "prompt", "n", "max_tokens", "max_completion_tokens", "temperature"),
    *("top_p", "top_k", "seed", "stream", "stream_options", "user", "timeout", "eager"),
    *("chat_template_kwargs", "reasoning_effort", "continue_final_message"),
    "add_generation_prompt",
}
"""The fields that every method takes."""
_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "min_p": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "min_tokens": (0,),
    "logit_bias": ({},),
    "stop": ([],),
    "stop_regex": ([],),
    "stop_token_ids": ([],),
    "logprobs": (False,),
    "echo": (False,),
    "ignore_eos": (False,),
    "no_stop_trim": (False,),
    "include_stop_str_in_output": (False,),
    "skip_special_tokens": (True,),
    "separate_reasoning": (True,),
    "stream_reasoning": (True,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
}
"""Values of the other fields that change nothing."""
_NONEMPTY = "force_nonempty_content"
"""An option of templates that SGLang's reasoning parsers read too."""
_OPENAI: Mapping[str, float] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}


def obstacle_of(body: TokenRequest, facts: Facts) -> str | None:
    """Why a tree cannot answer a request, in a clause; None if it can."""
    others = body.given - _OF_TREES
    wrong = sorted(f for f in others if not is_one_of(getattr(body, f), _NEUTRAL.get(f, ())))
    if wrong:
        return f"only the SGLang server's own route honours {', '.join(wrong)}; leave it out"
    if isinstance(body, Completion) and len(body.prompts) > 1:
        return "a tree has one prompt; send a request for each"
    if isinstance(body, Chat) and (kinds := _other_parts(body)):
        return f"only the SGLang server's own route reads content of type {', '.join(kinds)}"
    if not isinstance(body, Chat) or facts.reasoning_parser is None:
        return None
    if facts.reasoning_parser not in THINK_PARSERS:
        return f"the reasoning of {facts.reasoning_parser} is split by the SGLang server alone"
    if (body.chat_template_kwargs or {}).get(_NONEMPTY):
        return f"only the SGLang server's own route honours {_NONEMPTY} of chat_template_kwargs"
    return None


def _other_parts(body: Chat) -> list[str]:
    """The types of the parts of messages that are no text, such as images."""
    contents = [message.get("content") for message in body.messages]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    kinds = {str(part.get("type")) for part in parts if isinstance(part, dict)}
    return sorted(kinds - {"text"})


def inexactness_of(body: TokenRequest, facts: Facts) -> str | None:
    """Why samples through the trie may differ from the server's own, in a clause."""
    law = law_of(body, facts)
    if law is None:
        return "the SGLang server's default sampling is not known; give temperature, top_p, top_k"
    changed = sorted(n for n in ("min_p", "repetition_penalty") if law[n] != _OPENAI[n])
    if changed:
        return f"the model's defaults set {', '.join(changed)}"
    if not _knows_samples(facts.profile, law["temperature"]):
        return (
            "the SGLang server returns raw logprobs and has no gate, so that probabilities at "
            f"temperature {law['temperature']:g} are not known; install eager_sgl beside it"
        )
    return None


def _knows_samples(profile: ServerProfile, temperature: float) -> bool:
    """Whether logprobs are of the distribution that is sampled from, before top-p."""
    return profile.logprobs == "tempered" or profile.gate == "plugin" or temperature in (0, 1)


def law_of(body: TokenRequest, facts: Facts) -> dict[str, float] | None:
    """The sampling parameters that the SGLang server would use; None if they are not known."""
    given: dict[str, float] = {n: getattr(body, n) for n in _OPENAI if n in body.given}
    defaults = facts.chat_defaults if isinstance(body, Chat) else {}
    if defaults is None:
        needed = ("temperature", "top_p", "top_k")
        return None if set(needed) - set(given) else {**_OPENAI, **given}
    return {**_OPENAI, **defaults, **given}
