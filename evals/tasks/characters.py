"""Characters that no server can be sent."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["SURROGATE", "require_characters"]

SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, which UTF-8 does not have."""


def require_characters(name: str, value: Any) -> None:
    """Refuse half of a surrogate pair.

    Args:
        name: of the value, for the message.
        value: a text, or JSON with texts in it.

    Raises:
        ValueError: a text holds one.
    """
    if half := SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise ValueError(
            f"{name} holds {half[0]!r}, half of a surrogate pair, which is no character; write "
            "both halves or the character itself"
        )
