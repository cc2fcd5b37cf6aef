"""Quick test that a server answers, before libraries that would try for minutes."""

from __future__ import annotations

import socket
import threading

SECONDS = 5.0  # for the name, and again for the connection


def obstacle(host: str, port: int, seconds: float = SECONDS) -> str | None:
    """Return the reason that nothing answers at a port, within twice these seconds, or None."""
    addresses: list[str] = []
    reason = f"the name {host} was not resolved within {seconds:g} seconds"

    def resolve() -> None:
        nonlocal reason
        try:
            addresses.extend(
                str(address[0])
                for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )
        except (OSError, UnicodeError) as error:
            reason = f"the name {host} is not known ({getattr(error, 'strerror', None) or error})"

    thread = threading.Thread(target=resolve, daemon=True)  # has no time limit of its own
    thread.start()
    thread.join(seconds)
    if not addresses:
        return reason
    for address in addresses:
        try:
            socket.create_connection((address, port), seconds / len(addresses)).close()
        except TimeoutError:
            reason = f"no answer within {seconds:g} seconds"
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            return None
    return reason
