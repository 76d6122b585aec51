"""The stage that puts a network's numbers on grids, as data."""

import dataclasses
import re
from typing import Any, ClassVar, Literal

from kd_jax.config_distill import Retrain
from kd_jax.config_stages import variants
from kd_jax.errors import require, require_pattern, require_patterns, shortened
from kd_jax.quantize import CALIBRATIONS, Calibration
from kd_jax.quantize.uniform import BITS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantize(Retrain):
    """Store weights, and compute inputs of layers, in few bits. With no epochs that is done to the
    network as it is (post-training); with some, it is trained to live with it (quantisation-aware),
    on labels alone or with a teacher such as the network it starts from. What comes after, keeps
    it: the weights stay on their grid, zeros stay zero."""

    least_epochs: ClassVar[int] = 0
    reshapes: ClassVar[bool] = True
    last: ClassVar[bool] = True
    done: ClassVar[str] = "quantised"

    epochs: int = 0
    """Passes over the training examples; 0: nothing is trained."""
    bits: int = 8
    """Of a weight, 2 to 8; of a codebook 1 to 8: it has 2^bits values, and zero."""
    values: Literal["uniform", "codebook"] = "uniform"
    """uniform: evenly spaced values, so that a device can multiply integers; codebook: weights that
    share values found by k-means and then trained (Han et al. 2016)."""
    layer_bits: tuple[str, ...] = ()
    """Bits of single layers, PATTERN=BITS, PATTERN a regular expression of their names."""
    size: float | None = None
    """Share of the float32 network's bytes to come down to: which layers have 8, 4 or 2 bits (of a
    codebook 8 to 1) is then found, by what the loss gains where each alone has them."""
    per: Literal["channel", "tensor"] = "channel"
    """What of a kernel has a scale of its own: each output channel, or all of it."""
    weight_calibration: Calibration = dataclasses.field(
        default_factory=lambda: CALIBRATIONS["absmax"], metadata=variants(CALIBRATIONS)
    )
    """How far a grid of weights reaches."""
    inputs: int = 0
    """Bits of what layers are given, 2 to 8; 0: they are left as they are."""
    calibration: Calibration = dataclasses.field(
        default_factory=lambda: CALIBRATIONS["minmax"], metadata=variants(CALIBRATIONS)
    )
    """How far a grid of inputs reaches."""
    batches: int = 8
    """Batches of the stage's own data by which inputs are seen, and a loss is read."""
    scales: Literal["calibrated", "learned"] = "calibrated"
    """calibrated: they stay as they were found; learned: they are trained too (LSQ, Esser et al.
    2020)."""
    centroids: Literal["sum", "mean"] = "sum"
    """codebook: by what of its weights' gradients a shared value moves; sum as published, for which
    learning rates are small; mean keeps them as they are for single weights."""
    include: tuple[str, ...] = ("kernel$", "embedding$")
    """Regular expressions of the parameters that are quantised."""
    exclude: tuple[str, ...] = ()
    """Regular expressions of parameters that are left alone, and their inputs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.start), "start is empty: name the stage whose network is to be quantised")
        codebook = self.values == "codebook"
        least, most = (1, BITS[1]) if codebook else BITS
        fits = lambda bits: least <= bits <= most  # noqa: E731
        require(fits(self.bits), f"bits {self.bits} must be in [{least}, {most}]")
        for _, bits in self.own_bits:
            require(fits(bits), f"layer-bits {bits} must be in [{least}, {most}]")
        inputs = self.inputs
        require(
            inputs == 0 or BITS[0] <= inputs <= BITS[1], f"inputs {inputs} must be 0, or 2 to 8"
        )
        size = self.size
        require(size is None or 0 < size < 1, f"size {size} must be above 0 and below 1")
        require(
            size is None or not self.layer_bits,
            "size and layer-bits are both set: one of them says how many bits: leave one",
        )
        require(self.batches >= 1, f"batches {self.batches} must be at least 1")
        for field in ("include", "exclude"):
            require_patterns(field, getattr(self, field))
        learned = self.scales == "learned"
        require(
            not learned or self.epochs > 0,
            "scales learned with epochs 0: nothing is trained: raise epochs, or take calibrated",
        )
        require(
            not (learned and codebook and not inputs),
            "scales learned with values codebook and no inputs: there are no scales: set inputs, "
            "or take calibrated",
        )

    @property
    def form(self) -> str:
        """What its network's numbers are in, in a reader's words: `8 bits, inputs 8 bits`."""
        bits = "mixed bits" if self.size or self.layer_bits else f"{self.bits} bits"
        inputs = f", inputs {self.inputs} bits" if self.inputs else ""
        return f"{'codebooks of ' * (self.values == 'codebook')}{bits}{inputs}"

    def small(self) -> dict[str, Any]:
        """Of a size that the smallest of networks can have, too, most of whose bytes are no
        kernels."""
        return super().small() | ({} if self.size is None else {"size": max(self.size, 0.75)})

    @property
    def own_bits(self) -> list[tuple[str, int]]:
        """(pattern, bits) of layers that have their own."""
        found = []
        for text in self.layer_bits:
            pattern, equals, bits = text.rpartition("=")
            require(
                bool(equals and pattern) and bool(re.fullmatch("[0-9]{1,3}", bits)),
                f"layer-bits {shortened(repr(text))}: write PATTERN=BITS, such as Conv_0=8",
            )
            require_pattern("layer-bits", pattern)
            found.append((pattern, int(bits)))
        return found
