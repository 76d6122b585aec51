"""What methods that read logits alone, or need no teacher, were published with."""

from kd_jax.distill import (
    CTKD,
    DIST,
    DKD,
    KD,
    LSKD,
    MLKD,
    NKD,
    USKD,
    WSLD,
    DeiTHard,
    DeiTSoft,
    LogitRegression,
    TfKDSelf,
    TfKDVirtual,
)
from kd_jax.distill.pairs import (
    CLS_KD,
    GITHUB,
    R32X4_R8X4,
    R32X4_SV1,
    R32X4_SV2,
    R32X4_W16_2,
    R32X4_W40_2,
    R50_MV2,
    R56_R20,
    R110_R32,
    REPDISTILLER,
    V13_MV2,
    V13_V8,
    W40_2_MV2,
    W40_2_SV1,
    W40_2_W16_2,
    W40_2_W40_1,
    Preset,
    each,
)

DEIT = "https://arxiv.org/abs/2012.12877 (ImageNet)"
TFKD = f"{GITHUB}yuanli2333/Teacher-free-Knowledge-Distillation, experiments (ResNet-18)"

LOGITS: dict[str, Preset] = {
    "kd": Preset(0.1, {"kd": KD(weight=0.9, temperature=4.0)}, REPDISTILLER),
    "logits": Preset(
        1.0,
        {"logits": LogitRegression(weight=0.1)},
        f"{GITHUB}AberHu/Knowledge-Distillation-Zoo, example_train_script.sh (CIFAR-10)",
    ),
    "dkd": Preset(
        1.0,
        {"dkd": DKD(alpha=1.0, beta=8.0, temperature=4.0, warmup=20.0)},
        f"{GITHUB}megvii-research/mdistiller, configs/cifar100/dkd",
        each(
            "dkd.beta",
            {
                2.0: (R56_R20, R110_R32),
                6.0: (W40_2_W16_2, W40_2_W40_1, V13_V8, V13_MV2),
                8.0: (R32X4_R8X4, R32X4_SV1, R32X4_SV2, W40_2_SV1, R50_MV2),
            },
        ),
    ),
    "nkd": Preset(1.0, {"nkd": NKD(gamma=3.5, temperature=3.0)}, CLS_KD),
    "wsld": Preset(1.0, {"wsld": WSLD(weight=2.25, temperature=4.0)}, CLS_KD),
    "lskd": Preset(
        0.1,
        {"lskd": LSKD(weight=9.0, temperature=2.0)},
        f"{GITHUB}sunshangquan/logit-standardization-KD, README.md and the logs that it names",
        each("lskd.temperature", {3.0: (V13_V8, V13_MV2, R32X4_W16_2, R32X4_W40_2, W40_2_MV2)})
        | {R50_MV2: {"lskd": {"temperature": 3.0, "weight": 1.0}}},
    ),
    "ctkd": Preset(
        0.1,
        {"ctkd": CTKD(weight=0.9, low=1.0, span=20.0, curriculum=10.0)},
        f"{GITHUB}zhengli97/CTKD, scripts/run_cifar_distill.sh",
    ),
    "dist": Preset(
        1.0,
        {"dist": DIST(weight=2.0, temperature=4.0)},
        f"{GITHUB}hunto/DIST_KD, classification/configs/strategies/distill/dist_cifar.yaml",
    ),
    "mlkd": Preset(
        0.1,
        {"mlkd": MLKD(weight=0.9, strong=True)},
        # Its RandAugment(2, 10) does not read the 10: strengths are drawn, as in FixMatch.
        f"{GITHUB}Jin-Ying/Multi-Level-Logit-Distillation, mdistiller/engine/cfg.py and "
        "distillers/KD_ours.py",
        second=0.1,
    ),
    "deit_hard": Preset(0.5, {"deit_hard": DeiTHard(weight=0.5)}, DEIT),
    "deit_soft": Preset(0.9, {"deit_soft": DeiTSoft(weight=0.1, temperature=3.0)}, DEIT),
    "funmatch": Preset(
        0.0,
        {"kd": KD(weight=1.0, temperature=1.0)},
        "https://arxiv.org/abs/2106.05237 (ImageNet)",
        mixup=1.0,
    ),
    # Without a larger teacher
    "tfkd_self": Preset(0.05, {"tfkd_self": TfKDSelf(weight=47.5, temperature=6.0)}, TFKD),
    "tfkd_virtual": Preset(0.9, {"tfkd_virtual": TfKDVirtual(weight=10.0)}, TFKD),
    "uskd": Preset(
        1.0,
        {"uskd": USKD(alpha=0.1, beta=0.1, mu=0.1)},
        f"{GITHUB}yzd-v/cls_KD, configs/distillers/cifar100 (ResNet-18)",
    ),
}
