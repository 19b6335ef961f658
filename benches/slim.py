"""PyPI `slim-bindings` (SLIM, AGNTCY) as a contender of `table.py`: a point-to-point session with MLS.

From one process over a node in a third to another: `python benches/slim.py`, in the environment that
`scripts/install-slim.sh` makes. What it sends is acknowledged by the peer's library, in memory; nothing of it is on a
disk. With `LD_PRELOAD` of the shim in `nodelay.c` its sockets do not wait for acknowledgements (TCP_NODELAY).
"""

from __future__ import annotations

import asyncio
import datetime
import socket
import sys

import slim_bindings as slim
from contender import PATIENCE_S, Receiver, Sender, came, write

SECRET = "a secret of this benchmark, long enough for SLIM"
PATIENCE = datetime.timedelta(seconds=PATIENCE_S)


def start() -> slim.Service:
    """The library, silent: its log goes to standard output."""
    tracing = slim.new_tracing_config()
    tracing.log_level = "error"
    slim.initialize_with_configs(
        tracing_config=tracing, runtime_config=slim.new_runtime_config(), service_config=[slim.new_service_config()]
    )
    return slim.get_global_service()


async def connect(own: str, address: str) -> tuple[slim.App, int]:
    """An application, connected to the node."""
    service = start()
    connection = await service.connect_async(slim.new_insecure_client_config(f"http://{address}"))
    name = slim.Name.from_string(own)
    app = service.create_app_with_secret(name, SECRET)
    await app.subscribe_async(name, connection)
    return app, connection


async def node() -> None:
    """The node."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    await start().run_server_async(slim.new_insecure_server_config(address))
    write(address)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def receive(address: str) -> None:
    """Takes one session, and tells when messages come."""
    app, _ = await connect("p2p/bench/bob", address)
    write("ready")
    session = await app.listen_for_session_async(PATIENCE)

    async def follow() -> None:
        while True:
            message = await session.get_message_async(timeout=datetime.timedelta(hours=1))
            came(message.payload.decode())

    following = asyncio.ensure_future(follow())
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    following.cancel()


async def main() -> None:
    """The sender."""
    server = await Receiver.start(__file__, "node")
    address = await server.line()
    app, connection = await connect("p2p/bench/alice", address)
    receiver = await Receiver.start(__file__, address)
    await receiver.line()
    peer = slim.Name.from_string("p2p/bench/bob")
    await app.set_route_async(peer, connection)
    mls = slim.MlsSettings(header_integrity_validation_percent=100, max_seen_control_message_ids_size=None)
    settings = slim.SessionConfig(
        session_type=slim.SessionType.POINT_TO_POINT,
        max_retries=5,
        interval=datetime.timedelta(seconds=5),
        metadata={},
        mls_settings=mls,
    )
    created = await app.create_session_async(settings, peer)
    await created.completion.wait_async()

    async def send(text: str) -> None:
        await created.session.publish_async(text.encode(), None, None)

    await Sender(send, receiver).obey()
    await server.stop()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["receive", "node"]:
            asyncio.run(node())
        case ["receive", address]:
            asyncio.run(receive(address))
        case []:
            asyncio.run(main())
