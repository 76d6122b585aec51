"""What methods that read features were published with.

AB and FSP are not among them: they are a stage of their own before the one on labels.
"""

from kd_jax.distill import (
    AT,
    BYOT,
    CATKD,
    CC,
    CRD,
    DIST,
    DKD,
    FT,
    KD,
    KDSVD,
    MGD,
    ND,
    NST,
    OFD,
    PKT,
    RKD,
    SP,
    SRRL,
    VID,
    FitNet,
    ReviewKD,
    SimKD,
    Term,
)
from kd_jax.distill.pairs import (
    CLS_KD,
    GITHUB,
    R32X4_R8X4,
    R32X4_SV1,
    R32X4_SV2,
    R50_MV2,
    R56_R20,
    R110_R32,
    REPDISTILLER,
    V13_MV2,
    V13_V8,
    W40_2_SV1,
    W40_2_W16_2,
    W40_2_W40_1,
    Preset,
    each,
    several,
)

SIMKD = f"{GITHUB}DefangChen/SimKD, scripts/run_distill.sh"
MDISTILLER = f"{GITHUB}megvii-research/mdistiller, mdistiller/engine/cfg.py"
ND_REPOSITORY = f"{GITHUB}WangYZ1608/Knowledge-Distillation-via-ND, CIFAR"


def beside(name: str, term: Term, source: str) -> dict[str, Preset]:
    """A term beside hard labels of weight 1."""
    return {name: Preset(1.0, {name: term}, source)}


def with_kd(name: str, term: Term) -> dict[str, Preset]:
    """A term and KD beside hard labels, all but the term of weight 1."""
    terms = {name: term, "kd": KD(weight=1.0, temperature=4.0)}
    return {f"{name}+kd": Preset(1.0, terms, SIMKD)}


FEATURES: dict[str, Preset] = {
    **beside("fitnet", FitNet(weight=100.0), REPDISTILLER),
    **with_kd("fitnet", FitNet(weight=100.0)),
    **beside("at", AT(weight=1000.0), REPDISTILLER),
    **with_kd("at", AT(weight=1000.0)),
    **beside("sp", SP(weight=3000.0), REPDISTILLER),
    **with_kd("sp", SP(weight=3000.0)),
    **beside("cc", CC(weight=0.02, dim=128), REPDISTILLER),
    **beside("vid", VID(weight=1.0, variance=5.0), REPDISTILLER),
    **with_kd("vid", VID(weight=1.0, variance=5.0)),
    **beside("rkd", RKD(weight=1.0, distance=25.0, angle=50.0), REPDISTILLER),
    **beside("pkt", PKT(weight=30000.0), REPDISTILLER),
    **beside("ft", FT(weight=200.0, paraphrase=30.0), REPDISTILLER),
    **beside("nst", NST(weight=50.0), REPDISTILLER),
    **beside("crd", CRD(weight=0.8, dim=128, negatives=16384, temperature=0.07), REPDISTILLER),
    **with_kd("crd", CRD(weight=0.8, dim=128, negatives=16384, temperature=0.07)),
    **beside("kdsvd", KDSVD(weight=1.0, vectors=1), MDISTILLER),
    **beside("ofd", OFD(weight=1e-3), MDISTILLER),
    **beside("srrl", SRRL(weight=1.0, beta=5.0), CLS_KD),
    **with_kd("srrl", SRRL(weight=1.0, beta=1.0)),
    **beside("mgd", MGD(weight=1.2e-3, mask="channel", masked=0.15), CLS_KD),
    "simkd": Preset(0.0, {"simkd": SimKD(weight=1.0, reduction=2)}, SIMKD, classifier="teacher"),
    "byot": Preset(
        0.9,
        {"byot": BYOT(alpha=0.1, temperature=3.0, beta=1e-6)},
        f"{GITHUB}luanyunteng/pytorch-be-your-own-teacher, train.py (ResNet-18 and -50)",
    ),
    "reviewkd": Preset(
        1.0,
        {"reviewkd": ReviewKD(weight=5.0, warmup=20.0)},
        f"{GITHUB}dvlab-research/ReviewKD, CIFAR-100/script/reviewKD.sh",
        each(
            "reviewkd.weight",
            {
                0.6: (R56_R20,),
                1.0: (R110_R32,),
                5.0: (R32X4_R8X4, R32X4_SV1, W40_2_W16_2, W40_2_W40_1, W40_2_SV1),
                8.0: (R32X4_SV2,),
            },
        ),
    ),
    "catkd": Preset(
        1.0,
        {"catkd": CATKD(weight=15.0, normalise=False, resolution=2)},
        f"{GITHUB}GzyAftermath/CAT-KD, configs/cifar100/CAT_KD",
        several(
            ("catkd.weight", "catkd.normalise", "catkd.resolution"),
            {
                R56_R20: (0.7, False, 2),
                R110_R32: (1.8, False, 2),
                R32X4_R8X4: (15.0, False, 2),
                W40_2_W16_2: (12.0, False, 2),
                W40_2_W40_1: (1.5, False, 2),
                V13_V8: (4.5, False, 2),
                V13_MV2: (15.0, True, 2),
                R50_MV2: (40.0, True, 2),
                R32X4_SV1: (600.0, True, 4),
                R32X4_SV2: (600.0, True, 4),
                W40_2_SV1: (80.0, True, 4),
            },
        ),
    ),
    # KD++, DKD++, DIST++ and ReviewKD++, of which every pair has its own; others get the first's.
    "nd+kd": Preset(
        1.0,
        {"nd": ND(weight=2.0), "kd": KD(weight=1.0, temperature=4.0, warmup=20.0)},
        f"{ND_REPOSITORY}/train_cifar.sh",
        several(
            ("kd.weight", "nd.weight"),
            {
                R56_R20: (1.0, 2.0),
                R32X4_R8X4: (3.5, 2.0),
                W40_2_W40_1: (1.0, 1.5),
                R50_MV2: (3.0, 0.5),
                R32X4_SV1: (2.5, 1.5),
                R32X4_SV2: (4.0, 0.5),
            },
        ),
    ),
    "nd+dkd": Preset(
        1.0,
        {"nd": ND(weight=3.5), "dkd": DKD(alpha=2.5, beta=4.0, temperature=4.0, warmup=20.0)},
        f"{ND_REPOSITORY}/train_cifar.sh",
        several(
            ("dkd.alpha", "dkd.beta", "nd.weight"),
            {
                R56_R20: (2.5, 4.0, 3.5),
                R32X4_R8X4: (2.0, 8.0, 0.5),
                W40_2_W40_1: (1.0, 6.0, 1.0),
                R50_MV2: (0.5, 8.0, 1.0),
                R32X4_SV1: (0.5, 8.0, 4.0),
                R32X4_SV2: (0.5, 6.0, 0.5),
            },
        ),
    ),
    "nd+dist": Preset(
        1.0,
        {"nd": ND(weight=1.0), "dist": DIST(weight=2.0, temperature=4.0, warmup=20.0)},
        f"{ND_REPOSITORY}/DIST++/train_dist.sh",
        several(
            ("dist.weight", "nd.weight"),
            {
                R56_R20: (2.0, 1.0),
                R32X4_R8X4: (1.5, 4.0),
                W40_2_W40_1: (2.5, 3.0),
                R50_MV2: (7.0, 1.0),
                R32X4_SV1: (2.5, 3.0),
                R32X4_SV2: (3.0, 4.0),
            },
        ),
    ),
    "nd+reviewkd": Preset(
        1.0,
        {"nd": ND(weight=1.0), "reviewkd": ReviewKD(weight=1.2, warmup=20.0)},
        f"{ND_REPOSITORY}/ReviewKD++/train_reviewkd.sh",
        several(
            ("reviewkd.weight", "nd.weight"),
            {
                R56_R20: (1.2, 1.0),
                R32X4_R8X4: (8.0, 1.0),
                W40_2_W40_1: (5.0, 4.0),
                R50_MV2: (6.0, 2.0),
                R32X4_SV1: (7.0, 1.0),
                R32X4_SV2: (8.0, 1.5),
            },
        ),
    ),
}
