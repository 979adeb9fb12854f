"""The process of the embedded LLM: serves as long as anybody holds a lease (`local_shared`).

It imports as little as it can, to start fast.
"""

import json
import os
import sys
import time

from hydrajax.llm import local_shared, models

KEY_VARIABLE = "HYDRAJAX_LOCAL_KEY"
LINGER_SECONDS = 1.0  # after the last lease was given back: the next run of a script finds it warm


def serve(weights: str, port: int, threads: int, slots: int, api_key: str) -> None:
    """Serves on the loopback interface, and ends the process when nobody needs it."""
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
    server = xllamacpp.Server(params)  # serves until it is deleted
    until = 0.0
    while True:
        with local_shared.alone():
            if local_shared.is_leased():
                until = time.monotonic() + LINGER_SECONDS
            elif time.monotonic() >= until:
                del server
                os._exit(0)  # llama.cpp's worker threads do not join at interpreter exit
        time.sleep(0.1)


if __name__ == "__main__":
    serve(**json.loads(sys.argv[1]), api_key=os.environ[KEY_VARIABLE])
