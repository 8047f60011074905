"""Trains a tiny reasoner from scratch: `python evals/reasoner/train.py [--style wordy]`.

Regenerates the data from the seed, writes the held-out prompts and the model folder. A model folder
is replaced only when the new folder is complete.
"""

import argparse
import json
import math
import random
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from evals.reasoner.chains import generate_chain, held_out_problems
from evals.reasoner.styles import PLAIN, STYLES, Style
from evals.reasoner.tokenizer import END, build_tokenizer
from evals.tasks.countdown import PROMPTS
from evals.tasks.countdown_rules import Problem, instruction

MODEL_FOLDER = Path(__file__).parent / "model"
MODEL_FOLDERS = {"plain": MODEL_FOLDER, "wordy": MODEL_FOLDER.with_name("wordy_model")}
NUM_HELD_OUT_PER_LEVEL = 150
BATCH_TOKENS = 1024
NUM_BATCHES_PER_STEP = 4
NUM_CHAINS_PER_POOL = 2048  # chains sorted by length together, so that a batch has little padding
NUM_WARMUP_STEPS = 100
IGNORED = -100

Example = tuple[list[int], list[int]]  # token ids, and labels with IGNORED for tokens without loss
Batch = tuple[Tensor, Tensor]  # both of several chains, [chains, length], padded on the right


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    held_out = held_out_problems(arguments.seed, NUM_HELD_OUT_PER_LEVEL)
    write_prompts(held_out, arguments.prompts)
    style = STYLES[arguments.style]
    tokenizer = build_tokenizer(style)
    model = build_model(tokenizer)
    examples = generate_examples(tokenizer, held_out, arguments.seed, style)
    train(model, batches(examples, arguments.seed), arguments.steps, arguments.learning_rate)
    save(model, tokenizer, arguments.output or MODEL_FOLDERS[arguments.style])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--style", choices=STYLES, default="plain", help="of the chains")
    parser.add_argument("--output", type=Path, help="default: the bundled model of the style")
    parser.add_argument("--prompts", type=Path, default=PROMPTS, help="held-out prompts")
    parser.add_argument("--steps", type=int, default=3200)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--threads", type=int, default=1, help="more are hardly faster")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def write_prompts(problems: list[Problem], path: Path) -> None:
    """A JSON line per problem: id, level, numbers, target."""
    rows = [
        {
            "id": f"countdown-{index:03d}",
            "level": problem.level,
            "numbers": problem.numbers,
            "target": problem.target,
        }
        for index, problem in enumerate(problems)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def build_model(tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """An untrained Llama of 0.86 M parameters; GPU attention kernels need a head_dim of 64."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=64,
        intermediate_size=384,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config._attn_implementation = "eager"  # on a CPU faster to train than the fused kernel
    model = LlamaForCausalLM(config)
    model.generation_config.update(do_sample=True, temperature=0.6, top_p=0.95)
    return model


def generate_examples(
    tokenizer: PreTrainedTokenizerBase, held_out: list[Problem], seed: int, style: Style = PLAIN
) -> Iterator[Example]:
    """Endless training examples; none shares its key with a held-out problem."""
    rng = random.Random(f"training {seed}")
    excluded = {problem.key for problem in held_out}
    while True:
        problem, spans = generate_chain(rng, excluded, style)
        assert problem.key not in excluded, f"held-out problem {problem} in training"
        token_ids = encode_prompt(tokenizer, problem)
        labels = [IGNORED] * len(token_ids)
        for text, trained in [*((span.text, span.trained) for span in spans), (END, True)]:
            span_ids = tokenizer.encode(text)
            token_ids += span_ids
            labels += span_ids if trained else [IGNORED] * len(span_ids)
        yield token_ids, labels


def encode_prompt(tokenizer: PreTrainedTokenizerBase, problem: Problem) -> list[int]:
    """The rendered chat prompt: the model is trained on the prompts that it is served with."""
    message = {"role": "user", "content": instruction(problem)}
    return list(
        tokenizer.apply_chat_template([message], add_generation_prompt=True, return_dict=False)
    )


def batches(examples: Iterator[Example], seed: int) -> Iterator[list[Batch]]:
    """Endless steps of a few batches of similar lengths, from short to long chains.

    A step must see all lengths: short chains succeed at once, so that a step of short chains alone
    teaches to write "ok" always, and the verdict is never learned.
    """
    rng = random.Random(f"batches {seed}")
    while True:
        pool = sorted(islice(examples, NUM_CHAINS_PER_POOL), key=lambda example: len(example[0]))
        groups = group_by_size(pool)
        num_steps = len(groups) // NUM_BATCHES_PER_STEP
        strata = [
            rng.sample(groups[start : start + num_steps], num_steps)
            for start in range(0, num_steps * NUM_BATCHES_PER_STEP, num_steps)
        ]
        yield from ([pad(group) for group in step] for step in zip(*strata, strict=True))


def group_by_size(pool: list[Example]) -> list[list[Example]]:
    """Splits examples sorted by length into groups of at most BATCH_TOKENS padded tokens."""
    groups: list[list[Example]] = [[]]
    for example in pool:
        if (len(groups[-1]) + 1) * len(example[0]) > BATCH_TOKENS:
            groups.append([])
        groups[-1].append(example)
    return groups


def pad(group: list[Example]) -> Batch:
    length = max(len(token_ids) for token_ids, _ in group)
    token_ids = [ids + [0] * (length - len(ids)) for ids, _ in group]
    labels = [row + [IGNORED] * (length - len(row)) for _, row in group]
    return torch.tensor(token_ids), torch.tensor(labels)


def train(
    model: LlamaForCausalLM,
    data: Iterator[list[Batch]],
    num_steps: int,
    learning_rate: float,
) -> None:
    """Short warm-up, then a cosine to zero; prints the mean loss every 100 steps."""
    optimizers = build_optimizers(model, learning_rate)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, num_steps))
        for optimizer in optimizers
    ]
    losses, num_tokens, start = [], 0, time.monotonic()
    for step in range(1, num_steps + 1):
        step_batches = next(data)
        losses.append(accumulate_gradients(model, step_batches))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        model.zero_grad()
        num_tokens += sum(token_ids.numel() for token_ids, _ in step_batches)
        if step % 100 == 0 or step == num_steps:
            recent = sum(losses[-100:]) / len(losses[-100:])
            elapsed = time.monotonic() - start
            print(f"step {step} loss {recent:.4f} tokens {num_tokens} s {elapsed:.0f}", flush=True)


def build_optimizers(model: LlamaForCausalLM, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers (half the steps of AdamW), AdamW for the rest."""
    named = list(model.named_parameters())
    matrices = [weight for name, weight in named if weight.ndim == 2 and "embed" not in name]
    others = [weight for name, weight in named if weight.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(
            matrices, lr=learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def rate(step: int, num_steps: int) -> float:
    """The learning rate of a step as a share of its peak."""
    warm_up = min(1.0, (step + 1) / NUM_WARMUP_STEPS)
    return warm_up * 0.5 * (1 + math.cos(math.pi * step / num_steps))


def accumulate_gradients(model: LlamaForCausalLM, step_batches: list[Batch]) -> float:
    """The backward passes of a step; returns its mean loss over the tokens that carry loss."""
    num_trained = sum(int((labels != IGNORED).sum()) for _, labels in step_batches)
    total = 0.0
    for token_ids, labels in step_batches:
        loss = summed_loss(model, token_ids, labels) / num_trained
        torch.autograd.backward(loss)
        total += loss.item()
    return total


def summed_loss(model: LlamaForCausalLM, token_ids: Tensor, labels: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=token_ids, use_cache=False).logits
    flat_logits = logits[:, :-1].float().flatten(0, 1)
    return cross_entropy(flat_logits, labels[:, 1:].flatten(), reduction="sum")


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes the model, rounded to bfloat16, and replaces the folder by renaming."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as workspace:
        fresh = Path(workspace) / "fresh"
        model.to(torch.bfloat16).save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
        if folder.exists():
            folder.rename(Path(workspace) / "old")
        fresh.rename(folder)


if __name__ == "__main__":
    main()
