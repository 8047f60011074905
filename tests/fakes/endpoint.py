"""An endpoint whose requests a scripted server answers."""

from __future__ import annotations

from typing import cast

from eager_sgl.engine.endpoint import TokenEndpoint
from eager_sgl.engine.transport import Transport
from tests.fakes.scripted import ScriptedServer

__all__ = ["endpoint_of"]


def endpoint_of(server: ScriptedServer) -> TokenEndpoint:
    return TokenEndpoint(cast(Transport, server))
