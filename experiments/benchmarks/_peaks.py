"""How fast a device's products can be at best, and how many operations those of an encoder are."""

from typing import Any

# Dense products in bfloat16, 10^12 operations a second, as makers state them; the first whose name is in the kind.
TERA = {
    "GB200": 2500.0,
    "B200": 2250.0,
    "H200": 989.0,  # and GH200
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "A100": 312.0,
    "A10G": 70.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "TPU v6 lite": 918.0,
    "TPU v5 lite": 197.0,
    "TPU v5": 459.0,
    "TPU v4": 275.0,
}


def peak(kind: str) -> float | None:
    """Operations a second of a device of this kind (`device_kind` of JAX); None where it is not known."""
    return next((1e12 * tera for name, tera in TERA.items() if name in kind), None)


def share(operations_per_second: float, kind: str, devices: int = 1) -> float | str:
    """Of the peak of so many devices, or `unknown`."""
    best = peak(kind)
    return "unknown" if best is None else operations_per_second / (best * devices)


def encoder_operations(config: Any, shape: tuple[int, ...]) -> float:
    """Of the products of a forward pass over `shape` [B, T] tokens.

    2 for each weight of a layer and token, and attention's two products.
    """
    rows, length = shape
    matrices = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    return rows * length * config.num_hidden_layers * (2 * matrices + 4 * length * config.hidden_size)
