"""How fast the training steps are, alone and beside PyTorch's: `python run.py bench --help`.

In Python: `kd_jax.bench.run(["mnist_mlp"], Options(against="torch"))`.
"""

from kd_jax.bench.cases import CASES, Case, Ratio, Work
from kd_jax.bench.measure import Options, run
from kd_jax.bench.timings import Compared, Measured, Result

__all__ = ["CASES", "Case", "Compared", "Measured", "Options", "Ratio", "Result", "Work", "run"]
