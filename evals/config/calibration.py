"""θ from a file, and what it was calibrated for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from eager_sgl.config import EagerConfig
from evals.records.identity import model_name, weights_digest

__all__ = ["Calibration", "MismatchError"]

SCHEMA = 1


class MismatchError(ValueError):
    """θ belongs to something else than what is run."""


@dataclass(frozen=True)
class Calibration:
    """A θ in nats and what it belongs to.

    Attributes:
        model: hub id, or path of a folder.
        model_digest: of its weights; None where they were not on the machine that calibrated.
    """

    theta: float
    top_k: int
    entropy_temperature: float
    model: str
    model_digest: str | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a calibration's file.

        Raises:
            ValueError: it cannot be read, or is of another kind.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            schema = content["schema"]
            calibration = cls(
                theta=float(content["theta"]),
                top_k=int(content["top_k"]),
                entropy_temperature=float(content["entropy_temperature"]),
                model=str(content["model"]),
                model_digest=content.get("model_digest"),
            )
        except OSError as error:
            raise ValueError(f"theta: cannot read {path}: {error.strerror or error}") from error
        except KeyError as error:
            raise ValueError(f"theta: {path} is no calibration: it has no {error}") from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"theta: {path} is no calibration: {error}") from error
        if schema != SCHEMA:
            raise ValueError(f"theta: {path} has schema {schema}; this version reads {SCHEMA}")
        return calibration

    def check_config(self, config: EagerConfig) -> None:
        """Raises MismatchError where the entropy is taken in another way."""
        for name in ("top_k", "entropy_temperature"):
            asked, own = getattr(config, name), getattr(self, name)
            if asked != own:
                raise MismatchError(f"{name} is {asked}; θ was calibrated for {own}")

    def check_model(self, model: str) -> None:
        """Raises MismatchError for another model: other weights, or, not knowing, another name."""
        digest = weights_digest(model)
        if digest is not None and self.model_digest is not None:
            if digest != self.model_digest:
                raise MismatchError(
                    f"the model in {model} has weights {digest}; θ was calibrated for "
                    f"{self.model_digest}, of {self.model}"
                )
        elif model_name(model) != model_name(self.model):
            raise MismatchError(f"the model is {model}; θ was calibrated for {self.model}")
