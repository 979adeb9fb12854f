"""The process of the embedded LLM: serves as long as anybody holds a lease (`local_shared`).

It imports as little as it can, to start fast.
"""

import argparse
import hmac
import os
import socket
import threading
import time

from hydrajax.llm import models

KEY_VARIABLE = "HYDRAJAX_LOCAL_KEY"
FIRST_LEASE_SECONDS = 60.0  # until the process that started it has taken one
LINGER_SECONDS = 1.0  # after the last was given back: the next run of a script finds it warm
LEASED = b"leased\n"


class Leases:
    """Counts who needs the server.

    Args:
      listening: accepts leases.
      api_key: what a lease begins with.
    """

    def __init__(self, listening: socket.socket, api_key: str):
        self._listening, self._key = listening, api_key.encode()
        self._lock = threading.Lock()
        self._held = 0
        self._until = time.monotonic() + FIRST_LEASE_SECONDS
        threading.Thread(target=self._accept, daemon=True).start()

    def wait(self) -> None:
        """Returns when nobody has held one for a while."""
        while True:
            with self._lock:
                left = self._until - time.monotonic()
                held = self._held
            if not held and left <= 0:
                return
            time.sleep(0.1 if held else max(0.01, min(0.1, left)))

    def _accept(self) -> None:
        while True:
            held, _ = self._listening.accept()
            threading.Thread(target=self._hold, args=(held,), daemon=True).start()

    def _hold(self, held: socket.socket) -> None:
        with held:
            held.settimeout(5.0)
            try:
                given = held.recv(len(self._key) + 1)
                if not hmac.compare_digest(given.strip(), self._key):
                    return
                with self._lock:
                    self._held += 1
                try:
                    held.sendall(LEASED)
                    held.settimeout(None)
                    held.recv(1)  # returns when the holder closes it or dies
                finally:
                    with self._lock:
                        self._held -= 1
                        self._until = time.monotonic() + LINGER_SECONDS
            except OSError:
                return


def serve(weights: str, port: int, lease_port: int, threads: int, slots: int, api_key: str) -> None:
    listening = socket.create_server(("127.0.0.1", lease_port))
    leases = Leases(listening, api_key)
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = weights
    params.port = port
    params.n_ctx = models.LOCAL.context_tokens * slots
    params.n_parallel = slots
    params.cache_ram_mib = 64  # the default grows to 8 GiB
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.api_keys = [api_key]
    params.cors_origins = "http://127.0.0.1"  # the default answers any page in a browser
    params.endpoint_slots = False
    server = xllamacpp.Server(params)
    leases.wait()
    del server
    os._exit(0)  # llama.cpp's worker threads do not join at interpreter exit


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights")
    for name in ("--port", "--lease-port", "--threads"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--slots", type=int, default=1)
    serve(**vars(parser.parse_args()), api_key=os.environ[KEY_VARIABLE])


if __name__ == "__main__":
    _main()
