"""Compressed networks as files that decode bit for bit: sparse forms, codebooks, entropy coding."""

from kd_jax.encode.container import Encoded, decoded, encoded
from kd_jax.encode.entries import Grid
from kd_jax.encode.network import Loaded, load
from kd_jax.encode.streams import CODERS, checked

__all__ = ["CODERS", "Encoded", "Grid", "Loaded", "checked", "decoded", "encoded", "load"]
