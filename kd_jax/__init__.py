"""kd_jax: make deep networks small, by knowledge distillation and pruning, alone and together."""

from kd_jax import pretrained
from kd_jax.augment import Augment
from kd_jax.config import Distill, Experiment, Fuse, Gate, Prune, Quantize, Shift, Shrink, Train
from kd_jax.data import load as load_data
from kd_jax.datasets import Data
from kd_jax.distill import KD, TERMS, Mixture
from kd_jax.distill.presets import preset
from kd_jax.encode import CODERS, Grid, decoded, encoded
from kd_jax.encode import load as load_encoded
from kd_jax.errors import UsageError
from kd_jax.forward import Model, Outputs, from_apply, from_linen
from kd_jax.fusion import fuse
from kd_jax.gating import gated
from kd_jax.many import of_variant
from kd_jax.models import MODELS
from kd_jax.mutual import mutual
from kd_jax.nnx_models import from_nnx
from kd_jax.optim import Optim
from kd_jax.prune import (
    CHANNEL_CRITERIA,
    Cubic,
    Iterative,
    OneShot,
    Penalty,
    PruningLoss,
    Slimming,
    Widths,
    choose,
    rebuild,
    scores,
    shrink,
    trace,
)
from kd_jax.quantize import CALIBRATIONS, integer, integers
from kd_jax.quantizing import quantised_network as quantised
from kd_jax.reuse import reused
from kd_jax.shifting import shifted
from kd_jax.stages import evaluate
from kd_jax.stages import run as fit
from kd_jax.state import Snapshot, network
from kd_jax.versions import VERSION
from kd_jax.weights import load_weights

__version__ = VERSION

__all__ = [
    "CALIBRATIONS",
    "CHANNEL_CRITERIA",
    "CODERS",
    "KD",
    "MODELS",
    "TERMS",
    "Augment",
    "Cubic",
    "Data",
    "Distill",
    "Experiment",
    "Fuse",
    "Gate",
    "Grid",
    "Iterative",
    "Mixture",
    "Model",
    "OneShot",
    "Optim",
    "Outputs",
    "Penalty",
    "Prune",
    "PruningLoss",
    "Quantize",
    "Shift",
    "Shrink",
    "Slimming",
    "Snapshot",
    "Train",
    "UsageError",
    "Widths",
    "choose",
    "decoded",
    "encoded",
    "evaluate",
    "fit",
    "from_apply",
    "from_linen",
    "from_nnx",
    "fuse",
    "gated",
    "integer",
    "integers",
    "load_data",
    "load_encoded",
    "load_weights",
    "mutual",
    "network",
    "of_variant",
    "preset",
    "pretrained",
    "quantised",
    "rebuild",
    "reused",
    "scores",
    "shifted",
    "shrink",
    "trace",
]
