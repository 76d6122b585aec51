"""Quantisation: numbers on grids of integers, and weights that share values."""

from kd_jax.quantize.integer import integer, integers
from kd_jax.quantize.network import Layout, quantised
from kd_jax.quantize.ranges import LSQ, MSE, AbsMax, Calibration, Entropy, MinMax, Percentile, Seen
from kd_jax.quantize.uniform import Grid

CALIBRATIONS: dict[str, Calibration] = {
    "absmax": AbsMax(),
    "minmax": MinMax(),
    "percentile": Percentile(),
    "mse": MSE(),
    "entropy": Entropy(),
    "lsq": LSQ(),
}

__all__ = [
    "CALIBRATIONS",
    "LSQ",
    "MSE",
    "AbsMax",
    "Calibration",
    "Entropy",
    "Grid",
    "Layout",
    "MinMax",
    "Percentile",
    "Seen",
    "integer",
    "integers",
    "quantised",
]
