"""The scores of a reward model that the real runtime serves, and votes that they weigh."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eager_sgl import Client, EmbeddedRuntime, SamplingConfig, SearchConfig, Vote, connect
from eager_sgl.errors import RequestRejectedError, ServerUnsuitableError
from eager_sgl.voting.deciding import Undecided
from eager_sgl.voting.reward import RewardModel
from eager_sgl.voting.votes import vote_winner
from eager_sgl.voting.weighing import by_score
from evals.analysis.judged import Verdicts
from evals.tasks import find_task
from tests.conftest import API_KEY, REASONER

pytestmark = pytest.mark.integration

TASK = find_task("countdown")
QUESTION = TASK.load(1, (4,), 0)[0]
TEMPERATURE = 0.05


class Direct:
    """A reward model with random weights, and its scores by transformers.

    It has the sizes, the tokenizer and the template of the bundled reasoner.

    Args:
        folder: to write it to.
    """

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

        torch.manual_seed(0)
        config = LlamaConfig.from_pretrained(REASONER, num_labels=1)
        self._model = LlamaForSequenceClassification(config).float().eval()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(REASONER)
        self._model.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)
        self.folder = folder

    def score(self, answer: str) -> float:
        """Read at the last token, as SGLang does; transformers itself passes over the padding."""
        import torch

        messages = [*QUESTION.prompt, {"role": "assistant", "content": answer}]
        ids = self._tokenizer.apply_chat_template(messages, return_dict=False)
        with torch.inference_mode():
            states = self._model.model(torch.tensor([ids])).last_hidden_state
            return float(self._model.score(states[0, -1]))


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Direct:
    return Direct(tmp_path_factory.mktemp("reward") / "model")


@pytest.fixture(scope="module")
def runtime(direct: Direct) -> Iterator[EmbeddedRuntime]:
    log_path = direct.folder.with_name("runtime.log")
    arguments = {"is_embedding": True}
    with EmbeddedRuntime(direct.folder, log_path=log_path, server_args=arguments) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def reward_model(runtime: EmbeddedRuntime) -> RewardModel:
    return RewardModel(runtime.url, QUESTION.prompt, api_key=runtime.api_key)


def test_the_server_gives_the_scores_of_its_model(
    reward_model: RewardModel, direct: Direct
) -> None:
    answers = ["(12-(15-10))/07", "(12-(15-10))/08", "07", ""]  # a cached prefix serves some
    repeated = [*answers, answers[0]]  # and all but a token of the last one
    scores = [reward_model.score(answer) for answer in repeated]
    assert scores == pytest.approx([direct.score(answer) for answer in repeated], abs=1e-4)
    pairs = zip(sorted(scores[:-1]), sorted(scores[:-1])[1:], strict=False)
    assert min(high - low for low, high in pairs) > 1e-3


def test_scores_weigh_votes(server_url: str, reward_model: RewardModel, direct: Direct) -> None:
    classes = Verdicts(TASK, QUESTION).classes
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=256)
    vote = Vote(
        SearchConfig(max_sequences=8, sampling=sampling),
        answers=classes,
        rule=Undecided(),
        weigh=by_score(reward_model, TEMPERATURE),
    )
    with Client(server_url, api_key=API_KEY) as client:
        result = client.generate(QUESTION.prompt, vote)
    answers = classes(result.sequences)
    scores = [direct.score(s.final_text) for s in result.sequences]
    highest = max(s for s, given in zip(scores, answers, strict=True) if given is not None)
    weights = [
        0.0 if given is None else math.exp((score - highest) / TEMPERATURE)
        for score, given in zip(scores, answers, strict=True)
    ]
    assert len(set(scores)) > 2
    assert result.vote is not None
    assert result.vote.weights == pytest.approx(weights, rel=0.01)
    assert result.vote.answer == vote_winner(answers, weights)


def test_a_server_without_a_reward_model_gives_no_score(server_url: str) -> None:
    policy = RewardModel(server_url, QUESTION.prompt, api_key=API_KEY)
    with pytest.raises(RequestRejectedError, match="does not appear to be an embedding model"):
        policy.score("07")


def test_a_reward_model_takes_no_client(runtime: EmbeddedRuntime) -> None:
    with pytest.raises(ServerUnsuitableError, match="generates nothing"):
        connect(runtime.url, api_key=runtime.api_key)
    runtime.check()
