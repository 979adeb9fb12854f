"""The child process of the embedded LLM: serves until its standard input closes.

So it ends with the process that started it, however that one ends. It imports as little as it can, to start fast.
"""

import argparse
import os
import sys

from hydrajax.llm import models

KEY_VARIABLE = "HYDRAJAX_LOCAL_KEY"


def serve(weights: str, port: int, threads: int, api_key: str) -> None:
    """Serves until standard input closes."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = weights
    params.port = port
    params.n_ctx = models.LOCAL.context_tokens
    params.n_parallel = 1
    params.cache_ram_mib = 64  # the default grows to 8 GiB
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.api_keys = [api_key]
    params.cors_origins = "http://127.0.0.1"  # the default answers any page in a browser
    params.endpoint_slots = False
    server = xllamacpp.Server(params)
    sys.stdin.buffer.read()
    del server
    os._exit(0)  # llama.cpp's worker threads do not join at interpreter exit


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    serve(arguments.weights, arguments.port, arguments.threads, os.environ[KEY_VARIABLE])


if __name__ == "__main__":
    _main()
