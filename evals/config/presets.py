"""How the models of the paper are run: their longest thinking mode, its end, sampling and θ.

Where the values come from:

- SmolLM3-3B: its card recommends temperature 0.6 and top-p 0.95, and its chat template knows
  `enable_thinking` (on by default); trained on 64k tokens.
- Qwen3-4B: its card recommends, for thinking, temperature 0.6, top-p 0.95, top-k 20, and
  `enable_thinking` (on by default); 32,768 tokens natively. Qwen3-4B-Thinking-2507 always thinks,
  262,144 tokens, the same sampling. The top-k of 20 is not applied here: within top-p 0.95 at that
  temperature it seldom binds, and the paper does not use it.
- DeepSeek-R1-0528-Qwen3-8B: its card evaluates at temperature 0.6 and top-p 0.95; it always
  thinks; `max_position_embeddings` 131,072.
- gpt-oss-20b: its README (openai/gpt-oss) recommends temperature 1.0 and top-p 1.0; the effort of
  its reasoning is `reasoning_effort`; the answer is in the harmony channel `final`; 131,072 tokens.
  The paper sampled it, as all others, at temperature 0.6 and top-p 0.95.

θ: the paper calibrates one per model in [1.8, 2.7] and does not list them. The README of its
reference implementation (DanielSc4/EAGer) runs gpt-oss-20b at 2.2, and its published results of
DeepSeek-R1-0528-Qwen3-8B (DanielSc4/entropy_get_results on the hub) carry 2.2, 2.4 and 2.7 in their
names. For the others nothing was found, and `DEFAULT_THRESHOLD` stands in. All of them are starting
points: `evals/calibrate.py` chooses θ for a model and a task.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["DEFAULT_THRESHOLD", "NO_PRESET", "PRESETS", "Preset", "find_preset", "preset_for"]

DEFAULT_THRESHOLD = 2.2
"""θ in nats of a model and a task without one: about the middle of the paper's range."""

NO_PRESET = "none"
THINKING = {"chat_template_kwargs": {"enable_thinking": True}}
VARIANT = r"([-_.](fp8|awq|gptq|int4|int8|bf16|mxfp4|w\d).*)?"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The values with which one model is run, unless the command line gives others.

    Attributes:
        name: as on the command line.
        pattern: matches the model's name, in lower case.
        reasoning_end: the text that closes its reasoning.
        temperature: τ.
        top_p: nucleus mass.
        threshold: θ in nats.
        threshold_source: where θ comes from.
        context: tokens of a prompt and a sequence that the model is made for.
        chat_options: fields of SGLang's `/tokenize` that switch on its longest thinking mode.
    """

    name: str
    pattern: str
    reasoning_end: str = "</think>"
    temperature: float = 0.6
    top_p: float = 0.95
    threshold: float = DEFAULT_THRESHOLD
    threshold_source: str = "a default, no published value was found"
    context: int
    chat_options: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """For `config.json`, which has the other values under their own names."""
        return {"name": self.name, "context": self.context}


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            name="smollm3-3b",
            pattern="smollm3-3b" + VARIANT,
            context=65_536,
            chat_options=THINKING,
        ),
        Preset(
            name="qwen3-4b-thinking-2507",
            pattern="qwen3-4b-thinking-2507" + VARIANT,
            context=262_144,
        ),
        Preset(
            name="qwen3-4b",
            pattern="qwen3-4b" + VARIANT,
            context=32_768,
            chat_options=THINKING,
        ),
        Preset(
            name="deepseek-r1-0528-qwen3-8b",
            pattern="deepseek-r1-0528-qwen3-8b" + VARIANT,
            threshold=2.4,
            threshold_source="of 2.2, 2.4 and 2.7 in the reference implementation's results",
            context=131_072,
        ),
        Preset(
            name="gpt-oss-20b",
            pattern="gpt-oss-20b" + VARIANT,
            reasoning_end="<|channel|>final<|message|>",
            temperature=1.0,
            top_p=1.0,
            threshold_source="the reference implementation's example",
            context=131_072,
            chat_options={"reasoning_effort": "high"},
        ),
    )
}
"""By name."""


def find_preset(name: str) -> Preset | None:
    """The preset of a name; None for `none`.

    Raises:
        ValueError: there is no such preset.
    """
    if name == NO_PRESET:
        return None
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; choose from {', '.join((*PRESETS, NO_PRESET))}")
    return PRESETS[name]


def preset_for(model: str) -> Preset | None:
    """The preset of a model by its path or hub id; None for a model without.

    The last part of the path that matches decides, so that a folder of the hub's cache
    (`models--Qwen--Qwen3-4B/snapshots/…`) matches too.
    """
    for part in reversed(re.split(r"/|--", model.lower())):
        for preset in PRESETS.values():
            if re.fullmatch(preset.pattern, part):
                return preset
    return None
