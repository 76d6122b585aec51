"""Distillation from features: hints and attention maps."""

from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from kd_jax.distill import connect
from kd_jax.distill.divergences import floats
from kd_jax.distill.norms import safe_root, unit
from kd_jax.distill.taps import FeatureTerm, Pairs
from kd_jax.errors import require
from kd_jax.tree import Tree, traceable

Array = jax.Array


@traceable
class AT(FeatureTerm):
    """Σ over taps of mean_B‖â_s − â_t‖² / HW, a = vec(mean_C F²), â = a / ‖a‖.

    Zagoruyko, Komodakis, "Paying More Attention to Attention", 2017,
    https://arxiv.org/abs/1612.03928. The larger of two maps is pooled to the smaller. The mean over
    HW, the authors' code, makes the weight depend on the resolution; `form` "paper" has
    ½‖â_s − â_t‖ of each example, that is eq. 2 with p = 2 without its β.
    """

    about: ClassVar[str] = "where the maps' energy lies"

    form: Literal["code", "paper"] = "code"
    """The authors' code or their paper."""
    weight: float = 1000.0

    rank: ClassVar[int | None] = 4

    def __call__(self, pairs: Pairs, params: Tree) -> Array:
        del params
        total = jnp.zeros(())
        for student, teacher in pairs:
            f_s, f_t = connect.same_size(*floats(student, teacher))
            a_s, a_t = attention(f_s), attention(f_t)
            square = jnp.sum((a_s - a_t) ** 2, axis=-1)
            if self.form == "paper":
                total = total + 0.5 * safe_root(square)
            else:
                total = total + square / a_s.shape[-1]
        return total


def attention(features: Array) -> Array:
    """[B, H, W, C] -> unit vectors [B, HW] of where the squared activations are."""
    a = jnp.mean(features**2, axis=-1)
    return unit(a.reshape(a.shape[0], -1))


@traceable
class FitNet(FeatureTerm):
    """mean over BHWC of (r(F_s) − F_t)², r a trained convolution, batch norm and ReLU.

    Romero et al., "FitNets: Hints for Thin Deep Nets", 2015, https://arxiv.org/abs/1412.6550, in
    one stage beside the other terms, as the common CIFAR-100 benchmark has it (the paper trains
    the student up to the hint first). Where the student's map is twice as large, r has stride 2;
    where it is half as large, r is a transposed convolution; otherwise a valid convolution whose
    window is what the sizes differ by.
    """

    about: ClassVar[str] = "a map of the middle by squared error, through a trained convolution"

    weight: float = 100.0

    kind: ClassVar[str] = "second"
    rank: ClassVar[int | None] = 4

    def connectors(self, key: Array, pairs: Pairs) -> Tree:
        made = {}
        for i, (f_s, f_t) in enumerate(pairs):
            size = self._window(f_s.shape[1], f_t.shape[1])
            require(
                size >= 1,
                f"student-taps: a map of {f_s.shape[1]} pixels can't be brought to the teacher's "
                f"{f_t.shape[1]} (it may be half as large, or not smaller): name another",
            )
            key, one = jax.random.split(key)
            conv = connect.init_conv(one, (size, size), f_s.shape[-1], f_t.shape[-1], True)
            made[f"regressor{i}"] = {"conv": conv, "norm": connect.init_norm(f_t.shape[-1])}
        return made

    @staticmethod
    def _window(ours: int, theirs: int) -> int:
        if ours == 2 * theirs:
            return 3
        return 4 if 2 * ours == theirs else 1 + ours - theirs

    def __call__(self, pairs: Pairs, params: Tree) -> Array:
        """Without params, the features as they are."""
        total = jnp.zeros(())
        for i, (student, teacher) in enumerate(pairs):
            f_s, f_t = floats(student, teacher)
            if params:
                f_s = _regress(params[f"regressor{i}"], f_s, f_t.shape[1])
            total = total + jnp.mean((f_s - f_t) ** 2, axis=(1, 2, 3))
        return total


def _regress(params: Tree, x: Array, size: int) -> Array:
    if x.shape[1] == 2 * size:
        y = connect.conv(params["conv"], x, stride=2, padding=1)
    elif 2 * x.shape[1] == size:
        y = connect.double(params["conv"], x)
    else:
        y = connect.conv(params["conv"], x, padding=0)
    return jax.nn.relu(connect.norm(params["norm"], y))
