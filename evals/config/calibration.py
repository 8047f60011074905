"""θ from a file, and the model and entropy that it was calibrated for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from eager_sgl import EagerConfig
from evals.records.identity import model_name, weights_digest

__all__ = ["Calibration", "MismatchError"]

SCHEMA = 1


class MismatchError(ValueError):
    """θ was calibrated for another model, K or temperature."""


@dataclass(frozen=True)
class Calibration:
    """A θ in nats, and the model and the entropy that it was calibrated for.

    Attributes:
        model: hub id, or path of a folder.
        model_digest: of its weights; None if they were not on the machine that calibrated.
    """

    theta: float
    top_k: int
    entropy_temperature: float
    model: str
    model_digest: str | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a file.

        Raises:
            ValueError: the file cannot be read, or is not a calibration.
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
            raise ValueError(f"--theta: cannot read {path}: {error.strerror or error}") from error
        except KeyError as error:
            raise ValueError(f"--theta: {path} is not a calibration: it has no {error}") from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"--theta: {path} is not a calibration: {error}") from error
        if schema != SCHEMA:
            raise ValueError(f"--theta: {path} has schema {schema}; this version reads {SCHEMA}")
        return calibration

    def check_config(self, config: EagerConfig) -> None:
        """Raises MismatchError if the entropy is taken in another way."""
        for name in ("top_k", "entropy_temperature"):
            asked, calibrated = getattr(config, name), getattr(self, name)
            if asked != calibrated:
                raise MismatchError(f"{name} is {asked}; θ was calibrated for {calibrated}")

    def check_model(self, model: str) -> None:
        """Raises MismatchError for other weights, or, where one is not known, for another name."""
        digest = weights_digest(model)
        if digest is not None and self.model_digest is not None:
            if digest != self.model_digest:
                raise MismatchError(
                    f"the model in {model} has weights {digest}; θ was calibrated for "
                    f"{self.model_digest}, of {self.model}"
                )
        elif model_name(model) != model_name(self.model):
            raise MismatchError(f"the model is {model}; θ was calibrated for {self.model}")
