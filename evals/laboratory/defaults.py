"""The rules that are played where a command line names none: each part alone, and combinations."""

from __future__ import annotations

__all__ = ["DEFAULT_RULES"]

START = "beta:0.6/0.7/0.8/0.9/0.95"
MODE = "mode:0.05/0.2/0.5/0.8"
CUT = "cut:0.9/0.5:8/16/32:4/8"
WEIGHTS = "weights:probability"
FEWER = "parallel:2/3/4/5/6/8/12/16/24"
DEFAULT_RULES = ",".join(
    [
        FEWER,
        START,
        MODE,
        f"{CUT},cut:0.1:8/16/32:4/8,cut:0.9/0.5:8/16/32:calibrated",
        "filter:0.9/0.5/0.1:8/16/32",
        "trie",
        f"parallel+{WEIGHTS},{FEWER}+{WEIGHTS}",
        "weights:mean,weights:tail:8/16/32,weights:lowest:8/16/32",
        "shared:0.05/0.1/0.15/0.2/0.3/0.5",
        f"{START}+{CUT}",
        f"{START}+trie",
        f"{START}+ahead:0.5/1/2+trie",
        f"share:0.7/0.8/0.9/0.95:3/5/8+{WEIGHTS}+trie",
        f"share:0.7/0.75/0.8:3+ahead:0/0.5/1+outweighed:0.1+{WEIGHTS}+trie",
        f"{START}+{WEIGHTS}",
        f"{CUT}+trie",
        f"{CUT}+{WEIGHTS}",
        f"{FEWER}+{WEIGHTS}+trie",
        f"{START}+{WEIGHTS}+trie",
        f"{START}+ahead:1+{WEIGHTS}+trie",
        f"{START}+{CUT}+trie",
        f"{START}+{CUT}+{WEIGHTS}",
        f"{START}+{CUT}+{WEIGHTS}+trie",
        "shared:0.05/0.1/0.15/0.2/0.3+weights:probability",
        "shared:0.02/0.03/0.05/0.1/0.15/0.2+weights:probability+trie",
        "beta:0.7/0.8/0.9+shared:0.05/0.1/0.15/0.2/0.3+weights:probability+trie",
    ]
)
