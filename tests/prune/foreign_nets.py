"""Networks that kd_jax has never seen, as their users write them: {name: (model, input shape)}."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.forward import from_apply, from_linen
from kd_jax.nnx_models import from_nnx

IMAGES = (3, 8, 8, 3)


class DenseNet(nn.Module):
    """Every layer sees all features before it, side by side."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(6, (3, 3))(x)
        for _ in range(3):
            y = nn.BatchNorm(use_running_average=not train)(x)
            x = jnp.concatenate([x, nn.Conv(4, (3, 3), use_bias=False)(nn.relu(y))], axis=-1)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        return nn.Dense(5)(x.mean((1, 2)))


class UNet(nn.Module):
    """Down, and up again by resizing, a transposed convolution and repeated places, with skips."""

    @nn.compact
    def __call__(self, x, train=False):
        first = nn.gelu(nn.Conv(6, (3, 3))(x))
        down = nn.swish(nn.Conv(8, (3, 3), strides=2)(first))
        lower = nn.leaky_relu(nn.Conv(10, (3, 3))(nn.max_pool(down, (2, 2), (2, 2))))
        up = jax.image.resize(lower, (*down.shape[:3], 10), "bilinear")
        up = nn.relu(nn.Conv(8, (3, 3))(jnp.concatenate([up, down], axis=-1)))
        up = jnp.repeat(jnp.repeat(up, 2, axis=1), 2, axis=2)
        up = nn.ConvTranspose(6, (3, 3))(up) + first
        return nn.Dense(5)(up.reshape(up.shape[0], -1))


class SqueezeExcite(nn.Module):
    """Channels are weighed by what is in all places; group norm in place of batch norm."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.GroupNorm(num_groups=4)(nn.Conv(12, (3, 3))(x)))
        gate = nn.relu(nn.Dense(6)(x.mean((1, 2))))
        gate = nn.hard_sigmoid(nn.Dense(12)(gate))
        x = x * gate[:, None, None, :]
        x = nn.avg_pool(x, (2, 2), (2, 2)) + nn.Conv(12, (1, 1), strides=2)(x)
        return nn.Dense(5)(x.max((1, 2)))


class FusedHeads(nn.Module):
    """Attention whose queries, keys and values come from one kernel, split by hand."""

    @nn.compact
    def __call__(self, x, train=False):
        batch, tokens = x.shape[0], 16
        x = nn.Dense(12)(x.reshape(batch, tokens, -1))
        x = x + self.param("place", nn.initializers.normal(), (1, tokens, 12))
        y = nn.RMSNorm()(x)
        qkv = nn.Dense(36, use_bias=False)(y).reshape(batch, tokens, 3, 3, 4)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)
        weights = nn.softmax(q @ k.swapaxes(-1, -2) / 2.0)
        weights = nn.Dropout(0.1, deterministic=not train)(weights)
        y = (weights @ v).transpose(0, 2, 1, 3).reshape(batch, tokens, 12)
        x = x + nn.Dense(12)(y)
        gate, value = jnp.split(nn.Dense(20)(nn.LayerNorm()(x)), 2, axis=-1)
        x = x + nn.Dense(12)(nn.silu(gate) * value)
        return nn.Dense(5)(x[:, 0])


class FlaxAttention(nn.Module):
    """Flax's own attention: kernels [features, heads, size]."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(12)(x.reshape(x.shape[0], 16, -1))
        y = nn.MultiHeadDotProductAttention(num_heads=3, deterministic=not train)(nn.LayerNorm()(x))
        x = x + y
        x = x + nn.Dense(12)(nn.gelu(nn.Dense(20)(nn.LayerNorm()(x))))
        return nn.Dense(5)(x.mean(1))


class Shared(nn.Module):
    """One layer used three times, and tied embeddings as in a language model."""

    @nn.compact
    def __call__(self, x, train=False):
        embed = nn.Embed(7, 10)
        layer = nn.Dense(10)
        x = embed(x)
        for _ in range(3):
            x = x + nn.tanh(layer(x))
        return embed.attend(x.sum(1))


class Shuffled(nn.Module):
    """Grouped convolutions with a shuffle between them."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(16, (1, 1))(x)
        for _ in range(2):
            y = nn.relu(nn.Conv(16, (1, 1), feature_group_count=2)(x))
            y = y.reshape(*y.shape[:3], 2, 8).swapaxes(3, 4).reshape(*y.shape[:3], 16)
            y = nn.Conv(16, (3, 3), feature_group_count=16)(y)
            x = x + nn.Conv(16, (1, 1))(y)
        left, right = jnp.split(x, [6], axis=-1)
        x = jnp.concatenate([nn.relu(left), jnp.tanh(right)[..., ::-1]], axis=-1)
        return nn.Dense(5)(x.mean((1, 2)))


class PixelShuffle(nn.Module):
    """Channels become places."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Conv(24, (3, 3))(x))
        b, h, w, _ = x.shape
        x = x.reshape(b, h, w, 2, 2, 6).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, 6)
        return nn.Dense(5)(nn.Conv(4, (3, 3))(x).mean((1, 2)))


class Mixer(nn.Module):
    """Layers over places in turn with layers over channels."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(8)(x.reshape(x.shape[0], 16, -1))
        y = nn.LayerNorm()(x).swapaxes(1, 2)
        x = x + nn.Dense(16)(nn.gelu(nn.Dense(10)(y))).swapaxes(1, 2)
        x = x + nn.Dense(8)(nn.gelu(nn.Dense(12)(nn.LayerNorm()(x))))
        return nn.Dense(5)(x.mean(1))


class Recurrent(nn.Module):
    """Two layers of recurrent cells, run by scan, over rows."""

    @nn.compact
    def __call__(self, x, train=False):
        x = x.reshape(x.shape[0], 8, -1)
        x = nn.RNN(nn.OptimizedLSTMCell(6))(x)
        x = nn.RNN(nn.GRUCell(8))(x)
        return nn.Dense(5)(x[:, -1])


class Remembered(nn.Module):
    """Layers whose activations are computed anew for the gradient, one of them behind a cond."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Dense(12)(x.reshape(x.shape[0], -1)))
        x = nn.remat(nn.Dense)(10)(x)
        x = jax.lax.cond(x.sum() > 0, jnp.sin, nn.relu, x)
        x = nn.remat(nn.Dense)(8)(x)
        return nn.Dense(5)(jnp.where(x > 0, x, 0.1 * jnp.expm1(x)))


class Fourier(nn.Module):
    """Has an operation between its layers that no rule is for."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Dense(12)(x.reshape(x.shape[0], -1)))
        x = nn.Dense(10)(x)
        x = jnp.abs(jnp.fft.fft(x)) + x
        return nn.Dense(5)(nn.relu(nn.Dense(8)(x)))


class GroupedQueries(nn.Module):
    """A language model's attention: queries share keys and values, which are rotated by place."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Embed(7, 12)(x)
        batch, tokens = x.shape[:2]
        heads = lambda n: nn.Dense(n * 6, use_bias=False)(x).reshape(batch, tokens, n, 6)  # noqa: E731
        angles = jnp.arange(tokens)[:, None] / 10.0 ** jnp.arange(3)[None]
        cos, sin = (f(angles)[None, :, None] for f in (jnp.cos, jnp.sin))

        def rotated(x):
            one, other = jnp.split(x, 2, axis=-1)
            return jnp.concatenate([one * cos - other * sin, other * cos + one * sin], axis=-1)

        query, key, value = rotated(heads(4)), rotated(heads(2)), heads(2)
        key, value = (jnp.repeat(x, 2, axis=2) for x in (key, value))
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key)
        seen = jnp.tril(jnp.ones((tokens, tokens), bool))[None, None]
        weights = nn.softmax(jnp.where(seen, scores, -1e9))
        y = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(batch, tokens, 24)
        return nn.Dense(5)(nn.RMSNorm()(x + nn.Dense(12, use_bias=False)(y))[:, -1])


class Windows(nn.Module):
    """Attention in shifted windows, whose patches are then merged."""

    @nn.compact
    def __call__(self, x, train=False):
        x = jnp.roll(nn.Dense(8)(x), (-2, -2), (1, 2))
        w = x.reshape(-1, 2, 4, 2, 4, 8).swapaxes(2, 3).reshape(-1, 16, 8)
        qkv = nn.Dense(24)(nn.LayerNorm()(w)).reshape(-1, 16, 3, 2, 4)
        scores = jnp.einsum("bqhd,bkhd->bhqk", qkv[:, :, 0], qkv[:, :, 1])
        scores += self.param("bias", nn.initializers.normal(), (2, 16, 16))[None]
        y = jnp.einsum("bhqk,bkhd->bqhd", nn.softmax(scores), qkv[:, :, 2])
        w = w + nn.Dense(8)(y.reshape(-1, 16, 8))
        x = w.reshape(-1, 2, 2, 4, 4, 8).swapaxes(2, 3).reshape(-1, 8, 8, 8)
        corners = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return nn.Dense(5)(nn.Dense(12)(jnp.concatenate(corners, axis=-1)).mean((1, 2)))


class Experts(nn.Module):
    """Kernels of several experts in one array; a norm of weights; branches that are stacked."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.SpectralNorm(nn.Conv(8, (3, 3)))(x, update_stats=train)).mean((1, 2))
        draw = nn.initializers.normal(1.0)
        into, out = self.param("into", draw, (4, 8, 10)), self.param("out", draw, (4, 10, 6))
        y = jnp.einsum("bef,efo->beo", nn.relu(jnp.einsum("bi,eif->bef", x, into)), out)
        y = jnp.einsum("be,beo->bo", nn.softmax(nn.Dense(4)(x)), y)
        branches = jnp.stack([nn.Dense(7)(y), nn.Dense(7)(x)], axis=1)
        return nn.Dense(5)((branches * self.param("gate", draw, (2, 1))[None]).sum(1))


def nnx_net():
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv1 = nnx.Conv(3, 8, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(8, rngs=rngs)
            self.conv2 = nnx.Conv(8, 6, (3, 3), rngs=rngs)
            self.drop = nnx.Dropout(0.3, rngs=rngs)
            self.out = nnx.Linear(6 * 64, 5, rngs=rngs)

        def __call__(self, x):
            x = nnx.relu(self.norm(self.conv1(x)))
            x = self.drop(nnx.silu(self.conv2(x)))
            return self.out(x.reshape(x.shape[0], -1))

    return from_nnx(lambda rngs: Net(rngs))


def plain():
    """A function of a dict of arrays, one of them low in rank and one standardised."""
    rng = np.random.default_rng(0)
    sizes = {"a": (192, 12), "u": (12, 4), "v": (4, 10), "b": (10, 5)}
    params = {name: jnp.asarray(rng.normal(size=n), jnp.float32) for name, n in sizes.items()}

    def apply(variables, x, train):
        p = variables["params"]
        a = p["a"] - p["a"].mean(0, keepdims=True)
        x = jnp.maximum(x.reshape(x.shape[0], -1) @ a, 0)
        return jnp.tanh(x @ (p["u"] @ p["v"])) @ p["b"]

    return from_apply(apply, {"params": params})


LINEN = {
    "densenet": DenseNet(),
    "unet": UNet(),
    "squeeze_excite": SqueezeExcite(),
    "fused_heads": FusedHeads(),
    "flax_attention": FlaxAttention(),
    "shared": Shared(),
    "shuffled": Shuffled(),
    "pixel_shuffle": PixelShuffle(),
    "mixer": Mixer(),
    "recurrent": Recurrent(),
    "remembered": Remembered(),
    "fourier": Fourier(),
    "grouped_queries": GroupedQueries(),
    "windows": Windows(),
    "experts": Experts(),
}
NETS = {name: from_linen(module) for name, module in LINEN.items()}
NETS |= {"nnx": nnx_net(), "plain": plain()}


TOKENS = ("shared", "grouped_queries")


def shape_of(name):
    return (3, 6) if name in TOKENS else IMAGES


def dtype_of(name):
    return "int32" if name in TOKENS else "float32"
