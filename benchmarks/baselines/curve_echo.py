"""What tensors through a peer are held against: ZeroMQ with CURVE, one process that sends back what comes.

Run as `python -m benchmarks.baselines.curve_echo READY_FILE`; the file then holds its address and public key.
"""

import sys
import time
from pathlib import Path

import zmq

from benchmarks.measured import WARM_UP_S, LoadError, Measured

_PATIENCE_MS = 10_000


def serve(ready_file: Path) -> None:
    """Until it is ended."""
    public, secret = zmq.curve_keypair()
    router: zmq.Socket[bytes] = zmq.Context().socket(zmq.ROUTER)
    router.curve_server, router.curve_secretkey = True, secret
    router.bind("tcp://127.0.0.1:0")
    address = router.get_string(zmq.LAST_ENDPOINT)
    unfinished = ready_file.with_suffix(".new")
    unfinished.write_text(f"{address} {public.decode()}")
    unfinished.rename(ready_file)
    while True:
        router.send_multipart(router.recv_multipart(copy=False), copy=False)


def curve_load(told: str, message: bytes, *, concurrency: int, seconds: float) -> Measured:
    """So many messages under way at once over one connection, for `seconds` after a warm-up.

    `told` is the ready file's text. Raises LoadError where nothing comes back."""
    address, server_key = told.split()
    public, secret = zmq.curve_keypair()
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.rcvtimeo = _PATIENCE_MS
        dealer.curve_serverkey, dealer.curve_publickey, dealer.curve_secretkey = server_key.encode(), public, secret
        dealer.connect(address)
        began_s = time.perf_counter() + WARM_UP_S
        took_s, left_s = [], []
        for _ in range(concurrency):
            left_s.append(time.perf_counter())
            dealer.send(message, copy=False)
        while (now_s := time.perf_counter()) < began_s + seconds:
            try:
                answer = dealer.recv(copy=False)
            except zmq.Again:
                raise LoadError("the echo does not answer") from None
            if len(answer) != len(message):
                raise LoadError(f"the echo of {len(message)} bytes has {len(answer)}")
            now_s = time.perf_counter()
            sent_s = left_s.pop(0)
            if now_s >= began_s:
                took_s.append(now_s - sent_s)
            left_s.append(now_s)
            dealer.send(message, copy=False)
        return Measured.of(took_s, time.perf_counter() - began_s)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
