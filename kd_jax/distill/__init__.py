"""Distillation losses by name. A new one is its class and a line in this table."""

from kd_jax.distill.logits import (
    KD,
    LogitRegression,
    LogitTerm,
    Mixture,
    cross_entropy,
    kl_divergence,
    kl_from_probabilities,
)

TERMS: dict[str, LogitTerm] = {
    "kd": KD(),
    "mixture": Mixture(),
    "logits": LogitRegression(),
}

__all__ = [
    "KD",
    "TERMS",
    "LogitRegression",
    "LogitTerm",
    "Mixture",
    "cross_entropy",
    "kl_divergence",
    "kl_from_probabilities",
]
