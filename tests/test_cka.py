"""CKA: the published formulas by hand, what it must not depend on, and whole networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from kd_jax import cka
from kd_jax.errors import UsageError
from kd_jax.forward import from_apply
from kd_jax.state import Snapshot, no_masks

RANDOM = np.random.default_rng(0)


def hsic(k, other):
    """The unbiased estimate as Song et al. write it, eq. 5."""
    n = len(k)
    k, other = (x - np.diag(np.diag(x)) for x in (k, other))
    one = np.ones(n)
    sums = (one @ k @ one) * (one @ other @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ other) + sums - 2 * one @ k @ other @ one / (n - 2)) / (n * (n - 3))


def layers(*features):
    """Of one network whose features [batches, B, ...] are given."""
    grams = np.stack([[np.asarray(cka.gram(jnp.asarray(b))) for b in f] for f in features])
    vectors = cka.centred(grams[None]).reshape(1, len(features), -1)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return cka.Layers(tuple(map(str, range(len(features)))), vectors)


def alike(a, b):
    return cka.similarity(layers(a), layers(b)).item()


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def test_centred_matrices_give_the_unbiased_hsic():
    """Whatever is added to the features: the estimate is of the uncentred ones here."""
    x, y = 3 + normal(6, 4), normal(6, 2) - 1
    found = np.sum(cka.centred(x @ x.T) * cka.centred(y @ y.T)) / (6 * 3)
    assert found == pytest.approx(hsic(x @ x.T, y @ y.T), rel=1e-4)
    np.testing.assert_allclose(cka.centred(x @ x.T).sum(axis=0), 0, atol=1e-5)


def test_cka_by_hand():
    """Four examples, a feature each: of x = 1, 1, 0, 0 and y = 0, 1, 0, 1 and K = xx', the pairs
    {1, 2} and {3, 4} are alike in x, {1, 3} and {2, 4} in y, so that both centred matrices have 1/3
    at those pairs and -1/6 at all others: (-1/18 · 4 + 1/36 · 2) / (1/9 · 2 + 1/36 · 4) = -1/2."""
    x, y = (np.array(v, np.float32).reshape(1, 4, 1) for v in ([1, 1, 0, 0], [0, 1, 0, 1]))
    k = cka.centred(np.asarray(cka.gram(jnp.asarray(x[0]))))
    np.testing.assert_allclose(k[0], [0, 1 / 3, -1 / 6, -1 / 6], atol=1e-6)
    assert alike(x, y) == pytest.approx(-1 / 2)
    assert alike(x, 1 - x) == pytest.approx(1)


def test_batches_are_summed_before_they_are_divided():
    x, y = normal(2, 8, 5), normal(2, 8, 3)
    y[0] *= 9
    of = lambda a, b: sum(hsic(p @ p.T, q @ q.T) for p, q in zip(a, b, strict=True))  # noqa: E731
    assert alike(x, y) == pytest.approx(of(x, y) / np.sqrt(of(x, x) * of(y, y)), rel=1e-3)


def test_rotation_scale_and_shift_do_not_matter_and_other_maps_do():
    x, y = normal(2, 16, 6), normal(2, 16, 5)
    rotation, _ = np.linalg.qr(RANDOM.normal(size=(6, 6)))
    before = alike(x, y)
    assert alike(x @ rotation.astype(np.float32), y) == pytest.approx(before, abs=1e-5)
    assert alike(-250 * x + 7, y) == pytest.approx(before, abs=1e-5)
    assert alike(x, x) == pytest.approx(1)
    assert alike(x, (3 * x) @ rotation.astype(np.float32)) == pytest.approx(1, abs=1e-5)
    stretched = x * np.array([30, 1, 1, 1, 1, 1], np.float32)
    assert alike(x, stretched) < 0.9


def test_wide_features_that_have_nothing_in_common_are_not_alike():
    """The plain estimate, of whole centred matrices, calls them alike."""
    x, y = normal(8, 64, 2000), normal(8, 64, 2000)
    assert abs(alike(x, y)) < 0.05
    k, other = (f - f.mean(axis=0) for f in (x[0], y[0]))
    k, other = k @ k.T, other @ other.T
    assert np.sum(k * other) / (np.linalg.norm(k) * np.linalg.norm(other)) > 0.9


def test_maps_are_flattened():
    x = normal(1, 8, 3, 3, 2)
    assert alike(x, x.reshape(1, 8, 18)) == pytest.approx(1)
    assert alike(x, x[:, :, ::-1]) == pytest.approx(1)  # a permutation of the places is a rotation
    assert alike(x, x.mean(axis=(2, 3))) < 0.9


@pytest.mark.parametrize(
    ("count", "shape"),
    [
        (10_000, (8, 64)),
        (512, (8, 64)),
        (100, (2, 50)),
        (24, (1, 24)),
        (4, (1, 4)),
        (3, (0, 0)),
        (0, (0, 0)),
    ],
)
def test_places_are_spread_over_the_split(count, shape):
    places = cka.places(count)
    assert places.shape == shape
    assert len(set(places.flat)) == places.size
    for batch in places:  # each from the first tenth to the last
        assert batch.min() <= count / 10
        assert batch.max() >= count * 0.9 - 1


def spread(x, seeds=2):
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * seeds), x)


def test_networks():
    """Seed by seed, in the network's own order of features, in evaluation mode."""
    inputs = tiny.digits().test.inputs[cka.places(24)]
    spec, model = tiny.digits().spec, tiny.perceptron()
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    params = variables.pop("params")
    found = cka.layers(model, spec, spread(Snapshot(params, variables, no_masks(params))), inputs)
    assert found.names == ("hidden", "logits")

    def apply(v, x, train):
        z = x.reshape(x.shape[0], -1)
        mix, flat = z @ v["params"]["kernel"], jnp.zeros((x.shape[0], 3))
        return flat, {"zoo": x, "ark": mix, "hidden": jnp.maximum(mix, 0)}

    kernel = jax.random.normal(jax.random.key(1), (64, 8))
    both = {"kernel": jnp.stack([kernel, -kernel])}
    other = from_apply(apply, {"params": {"kernel": kernel}})
    theirs = cka.layers(other, spec, Snapshot(both, {}, no_masks(both)), inputs)
    assert theirs.names == ("zoo", "ark", "hidden", "logits")
    alike = cka.similarity(found, theirs)
    assert alike.shape == (2, 2, 4)
    assert np.isnan(alike[..., 3]).all()  # always the same logits
    np.testing.assert_allclose(alike[0, :, :2], alike[1, :, :2], atol=1e-5)
    assert abs(alike[0, 0, 2] - alike[1, 0, 2]) > 1e-3
    x = np.asarray(inputs[0], np.float64).reshape(24, 64)
    z = x @ np.asarray(kernel, np.float64)
    expected = hsic(x @ x.T, z @ z.T) / np.sqrt(hsic(x @ x.T, x @ x.T) * hsic(z @ z.T, z @ z.T))
    assert cka.similarity(theirs, theirs)[0, 0, 1] == pytest.approx(expected, rel=1e-3)


def test_too_few_examples_and_features_that_are_not_finite():
    spec, model = (
        tiny.digits().spec,
        from_apply(lambda v, x, train: v["params"]["a"] * x, {"params": {}}),
    )
    network = Snapshot({"a": jnp.array([jnp.inf, 1.0])}, {}, {"a": None})
    inputs = tiny.digits().test.inputs[cka.places(24)]
    with pytest.raises(UsageError, match="batches of 3 is not defined: give 4 or more"):
        cka.layers(model, spec, network, inputs[:, :3])
    found = cka.layers(model, spec, network, inputs)
    assert np.isnan(cka.similarity(found, found)).ravel().tolist() == [True, False]
