"""Strict mode is really on: each of these would pass silently without it."""

import socket

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from hydrajax.prompting import shorten
from hydrajax.training import losses


def test_there_are_several_devices():
    assert jax.device_count() == 4


def test_dtype_promotion_is_strict():
    with pytest.raises(jax.dtypes.TypePromotionError):
        jnp.ones(3, jnp.float32) + jnp.ones(3, jnp.int32)


def test_rank_promotion_raises():
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones((2, 3)) + jnp.ones(3)


def test_the_network_is_closed():
    with pytest.raises(OSError, match="offline"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(OSError, match="offline"):
        socket.getaddrinfo("example.org", 80)
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=1).close()
        socket.create_connection(("localhost", server.getsockname()[1]), timeout=1).close()


def test_types_are_checked_at_every_call():
    with pytest.raises(jaxtyping.TypeCheckError, match="limit"):
        shorten.shorten_text("a text", "three")


def test_shapes_are_compared_within_a_call():
    s, user = np.zeros(3), np.zeros(3, np.int64)
    assert losses.intercepts(s, np.zeros(3), user, 2).shape == (2,)
    with pytest.raises(jaxtyping.TypeCheckError):
        losses.intercepts(s, np.zeros(2), user, 2)
