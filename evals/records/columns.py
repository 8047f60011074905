"""The values of a sequence's tokens as text: what rules that cut or weigh sequences look at.

The text is base64 of zlib of: the version of the format (1 byte), then the columns in the order of
`TokenColumns`, in each the low bytes of its numbers before the high ones (a third less text). A
number is a value in 1/1024 nat (uint16); the largest one stands for a value that is not known, or
of 64 nats and more.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from eager_sgl import Sequence as Generated
from eager_sgl.signals import Floats

__all__ = ["RECORDED", "TokenColumns", "columns_of", "pack_columns", "unpack_columns"]

VERSION = 1
PER_NAT = 1024
UNKNOWN = 2**16 - 1


@dataclass(frozen=True)
class TokenColumns:
    """Values of the n tokens of a sequence, float64 [n] in nats; NaN where not known.

    Attributes:
        surprisals: −ln p of the drawn token, as of `eager_sgl.core.Sequence.logprobs`.
        entropies, confidences: see `eager_sgl.core.Sequence`.
    """

    surprisals: Floats
    entropies: Floats
    confidences: Floats


RECORDED = tuple(field.name for field in fields(TokenColumns))
"""Names of the columns, in their order."""


def columns_of(sequence: Generated) -> TokenColumns | None:
    """The values of a generated sequence; None where none were asked for."""
    if not sequence.confidences:
        return None
    return TokenColumns(
        -np.array(sequence.logprobs), np.array(sequence.entropies), np.array(sequence.confidences)
    )


def pack_columns(columns: TokenColumns) -> str:
    """The columns as text."""
    whole = np.array([_in_units(getattr(columns, name)) for name in RECORDED])
    planes = whole.astype("<u2")[..., None].view(np.uint8).swapaxes(1, 2)
    return base64.b64encode(zlib.compress(bytes([VERSION]) + planes.tobytes(), level=9)).decode()


def unpack_columns(text: str, num_tokens: int) -> TokenColumns:
    """The columns of a text.

    Args:
        num_tokens: of the sequence.

    Raises:
        ValueError: it is no such text, of another version, or of a sequence of another length.
    """
    try:
        content = zlib.decompress(base64.b64decode(text, validate=True))
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"packed columns cannot be read: {error}") from error
    if not content or content[0] != VERSION:
        raise ValueError(
            f"packed columns have version {content[0] if content else 'none'}; this program reads "
            f"{VERSION}, use the one that wrote them"
        )
    shape = len(RECORDED), 2, num_tokens
    if len(content) - 1 != np.prod(shape):
        raise ValueError(f"packed columns have {len(content) - 1} bytes for {num_tokens} tokens")
    planes = np.frombuffer(content, np.uint8, offset=1).reshape(shape)
    whole = planes.swapaxes(1, 2).copy().view("<u2")[..., 0]
    return TokenColumns(*np.where(whole == UNKNOWN, np.nan, whole / PER_NAT))


def _in_units(values: Floats | Sequence[float]) -> NDArray[np.float64]:
    scaled = np.round(np.maximum(values, 0.0) * PER_NAT)
    return np.where(scaled < UNKNOWN, scaled, UNKNOWN)
