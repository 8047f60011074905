"""Several servers of one model, as one client uses them.

A tree lives on one replica, whose radix cache holds its prefixes: `Lease`. A monitor pings all
replicas; the trees of one that fails continue on another, and it is taken in again once it answers.

Low to high: `weights` and `agreement` (what all replicas must have in common), `lease` (`Replica`,
`Lease`), `health` (pings), `pool` (`Replicas`).
"""

from eager_sgl.engine.replicas.lease import Lease
from eager_sgl.engine.replicas.pool import Replicas

__all__ = ["Lease", "Replicas"]
