"""Whether a service is there and well, by gRPC's standard health protocol."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from app.service.client import open_channel

UP, UNWELL, AWAY = "up", "up, and cannot do its work", "away"


def health_of(address: str, authority: str | None, *, key: str, timeout: float = 3.0) -> str:
    """Return `UP`, `UNWELL` or `AWAY`.

    Parameters
    ----------
    address, authority, key
        As `app.service.client.Client` takes them.
    timeout : float
        Seconds in which it must answer.

    Raises
    ------
    ConfigError
        If the address is none, or is elsewhere and there is no ``authority``.
    """
    channel = open_channel(address, authority, key=key)
    try:
        request = health_pb2.HealthCheckRequest(service="")
        found = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout)
    except grpc.RpcError:
        return AWAY
    finally:
        channel.close()
    return UP if found.status == health_pb2.HealthCheckResponse.SERVING else UNWELL
