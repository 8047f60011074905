"""What all replicas of a client must have in common: weights, a context, perhaps the gate."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from eager_sgl.engine.client import TokenClient
from eager_sgl.engine.gate.choice import GateForm
from eager_sgl.engine.probe import ServerProfile
from eager_sgl.engine.replicas.weights import Fingerprint, fingerprint_of, require_same_weights
from eager_sgl.errors import ServerUnsuitableError

__all__ = ["Agreement"]


@dataclass(frozen=True)
class Agreement:
    """What the replicas that were up at connect have in common.

    Attributes:
        fingerprint: of the first one's weights.
        profile: of the first one, with the smallest context of all, and without a gate if one
            replica has none, or another one, which `no_gate` names; it honours seeds if all
            replicas do. Logprobs are of the same kind everywhere: a tree reads those of all its
            replicas alike.
    """

    fingerprint: Fingerprint
    profile: ServerProfile

    @classmethod
    async def of(cls, clients: Sequence[TokenClient]) -> Agreement:
        """The agreement of replicas; their profiles are reduced to the common one.

        Raises:
            ServerUnsuitableError: one serves other weights than the first, or other logprobs.
            ServerError: one has stopped answering.
        """
        first = await fingerprint_of(clients[0])
        await asyncio.gather(*(require_same_weights(first, client) for client in clients[1:]))
        agreement = cls(first, _common_profile(clients))
        for client in clients:
            agreement._require_same_logprobs(client)
            agreement._reduce(client)
        return agreement

    async def admit(self, client: TokenClient) -> None:
        """Admit a replica that answers again; its profile is reduced to the common one.

        Raises:
            ServerUnsuitableError: it serves other weights or logprobs, or less than trees count on.
            ServerError: it does not answer, or not as SGLang does.
        """
        await require_same_weights(self.fingerprint, client)
        self._require_same_logprobs(client)
        self._require_enough(client)
        self._reduce(client)

    def _reduce(self, client: TokenClient) -> None:
        common = self.profile
        client.profile = replace(
            client.profile,
            context_length=common.context_length,
            no_gate=common.no_gate,
            gate=common.gate,
            gate_honours_seed=common.gate_honours_seed,
        )

    def _require_same_logprobs(self, client: TokenClient) -> None:
        kind, common = client.profile.logprobs, self.profile.logprobs
        if kind != common:
            raise ServerUnsuitableError(
                f"{client.transport.url} returns {kind} logprobs, the other replicas {common} "
                "ones; start all with the same SGLANG_RETURN_ORIGINAL_LOGPROB"
            )

    def _require_enough(self, client: TokenClient) -> None:
        url, profile, common = client.transport.url, client.profile, self.profile
        if profile.context_length < common.context_length:
            raise ServerUnsuitableError(
                f"{url} has a context of {profile.context_length} tokens, the other replicas one "
                f"of {common.context_length}; start it with the same options"
            )
        if common.honours_seed and not profile.honours_seed:
            raise ServerUnsuitableError(
                f"{url} does not honour seeds, unlike the other replicas; start it with the same "
                "options"
            )
        if common.gate is not None and profile.gate != common.gate:
            reason = profile.no_gate or f"its gate is a {profile.gate}, theirs a {common.gate}"
            raise ServerUnsuitableError(
                f"{url} has no entropy gate, unlike the other replicas: {reason}"
            )
        if common.gate_honours_seed and not profile.gate_honours_seed:
            raise ServerUnsuitableError(
                f"the gate of {url} does not honour seeds, unlike those of the other replicas"
            )


def _common_profile(clients: Sequence[TokenClient]) -> ServerProfile:
    form, no_gate = _common_gate(clients)
    return replace(
        clients[0].profile,
        context_length=min(client.profile.context_length for client in clients),
        no_gate=no_gate,
        honours_seed=all(client.profile.honours_seed for client in clients),
        gate=form,
        gate_honours_seed=all(client.profile.gate_honours_seed for client in clients),
    )


def _common_gate(clients: Sequence[TokenClient]) -> tuple[GateForm | None, str | None]:
    """The gate that all have, and why there is none."""
    for client in clients:
        if client.profile.gate is None:
            reason = f"its replica {client.transport.url} has none ({client.profile.no_gate})"
            return None, reason
    forms = {client.profile.gate for client in clients}
    if len(forms) > 1:
        return None, "some of its replicas have the plugin, and some do not"
    return forms.pop(), None
