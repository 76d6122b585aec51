"""kd_jax: make deep networks small, by knowledge distillation and pruning, alone and together."""

__version__ = "0.1.0"
