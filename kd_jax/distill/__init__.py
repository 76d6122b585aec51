"""Distillation terms by name. A new one is its class and a line in this table."""

from kd_jax.distill.adaptive import CTKD, LSKD, WSLD
from kd_jax.distill.batch_logits import DIST, MLKD, ClassRelation
from kd_jax.distill.blocks import MiniLM, TinyBERTAttention, TinyBERTHidden
from kd_jax.distill.boundaries import AB, OFD
from kd_jax.distill.centers import ND
from kd_jax.distill.classifier import CATKD, SRRL, SimKD
from kd_jax.distill.contrastive import CRD
from kd_jax.distill.decoupled import DKD, NKD
from kd_jax.distill.divergences import cross_entropy, kl_divergence, kl_from_probabilities
from kd_jax.distill.factors import FT
from kd_jax.distill.features import AT, FitNet
from kd_jax.distill.generation import MGD
from kd_jax.distill.logits import KD, LogitRegression, LogitTerm, Mixture
from kd_jax.distill.relations import CC, PKT, RKD, SP
from kd_jax.distill.review import ReviewKD
from kd_jax.distill.self_teaching import BYOT
from kd_jax.distill.singular import KDSVD
from kd_jax.distill.statistics import FSP, NST, VID
from kd_jax.distill.taps import FeatureTerm
from kd_jax.distill.teacher_free import LabelSmoothing, LabelTerm, TfKDSelf, TfKDVirtual
from kd_jax.distill.term import Lesson, Own, Term, View
from kd_jax.distill.transformers import GKD, DeiTHard, DeiTSoft, SoftCrossEntropy
from kd_jax.distill.uskd import USKD

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
    "dist": DIST(),
    "mlkd": MLKD(),
    "class_relation": ClassRelation(),
    "gkd": GKD(),
    "deit_hard": DeiTHard(),
    "deit_soft": DeiTSoft(),
    "soft_cross_entropy": SoftCrossEntropy(),
    "tfkd_self": TfKDSelf(),
    # Without a teacher
    "tfkd_virtual": TfKDVirtual(),
    "label_smoothing": LabelSmoothing(),
    "uskd": USKD(),
    "byot": BYOT(),
    # From features
    "fitnet": FitNet(),
    "at": AT(),
    "ab": AB(),
    "catkd": CATKD(),
    "fsp": FSP(),
    "ft": FT(),
    "kdsvd": KDSVD(),
    "mgd": MGD(),
    "nd": ND(),
    "nst": NST(),
    "ofd": OFD(),
    "reviewkd": ReviewKD(),
    "simkd": SimKD(),
    "srrl": SRRL(),
    "vid": VID(),
    # From how the examples of a batch lie to one another
    "cc": CC(),
    "pkt": PKT(),
    "rkd": RKD(),
    "sp": SP(),
    # By contrast with other examples
    "crd": CRD(),
    # From the blocks of Transformers
    "tinybert_hidden": TinyBERTHidden(),
    "tinybert_attention": TinyBERTAttention(),
    "minilm": MiniLM(),
}

__all__ = [
    "AB",
    "AT",
    "BYOT",
    "CATKD",
    "CC",
    "CRD",
    "CTKD",
    "DIST",
    "DKD",
    "FSP",
    "FT",
    "GKD",
    "KD",
    "KDSVD",
    "LSKD",
    "MGD",
    "MLKD",
    "ND",
    "NKD",
    "NST",
    "OFD",
    "PKT",
    "RKD",
    "SP",
    "SRRL",
    "TERMS",
    "USKD",
    "VID",
    "WSLD",
    "ClassRelation",
    "DeiTHard",
    "DeiTSoft",
    "FeatureTerm",
    "FitNet",
    "LabelSmoothing",
    "LabelTerm",
    "Lesson",
    "LogitRegression",
    "LogitTerm",
    "MiniLM",
    "Mixture",
    "Own",
    "ReviewKD",
    "SimKD",
    "SoftCrossEntropy",
    "Term",
    "TfKDSelf",
    "TfKDVirtual",
    "TinyBERTAttention",
    "TinyBERTHidden",
    "View",
    "cross_entropy",
    "kl_divergence",
    "kl_from_probabilities",
]
