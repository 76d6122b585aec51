"""Distillation terms by name. A new one is its class and a line in this table."""

from kd_jax.distill.adaptive import CTKD, LSKD, WSLD
from kd_jax.distill.decoupled import DKD, NKD
from kd_jax.distill.divergences import cross_entropy, kl_divergence, kl_from_probabilities
from kd_jax.distill.features import AT, FitNet
from kd_jax.distill.logits import KD, LogitRegression, LogitTerm, Mixture
from kd_jax.distill.taps import FeatureTerm
from kd_jax.distill.term import Lesson, Own, Term

TERMS: dict[str, Term] = {
    # From logits
    "kd": KD(),
    "mixture": Mixture(),
    "logits": LogitRegression(),
    "dkd": DKD(),
    "nkd": NKD(),
    "lskd": LSKD(),
    "ctkd": CTKD(),
    "wsld": WSLD(),
    # From features
    "fitnet": FitNet(),
    "at": AT(),
}

__all__ = [
    "AT",
    "CTKD",
    "DKD",
    "KD",
    "LSKD",
    "NKD",
    "TERMS",
    "WSLD",
    "FeatureTerm",
    "FitNet",
    "Lesson",
    "LogitRegression",
    "LogitTerm",
    "Mixture",
    "Own",
    "Term",
    "cross_entropy",
    "kl_divergence",
    "kl_from_probabilities",
]
