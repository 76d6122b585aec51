"""Criteria that are trained: what the network sees, its gradients and their scores, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.errors import UsageError
from kd_jax.optim import Optim
from kd_jax.prune import CRITERIA, STRUCTURES, Evidence, Learned, Movement, SoftMovement

W = jnp.array([[1.0, -2.0], [0.5, 3.0]])
S = jnp.array([[0.0, 1.0], [-3.0, -2.0]])
MASK = jnp.array([[True, False], [True, True]])
WEIGHTS = STRUCTURES["weights"]
LEARNED = {name: c for name, c in CRITERIA.items() if isinstance(c, Learned)}


@pytest.fixture(autouse=True)
def _strict_dtypes():
    with jax.numpy_dtype_promotion("strict"):
        yield


def gradients(criterion, s=S, structure=WEIGHTS, key=None, w=W):
    """(W', and the gradients of Σ C ⊙ W' by w and s), of C = (10, 20; 30, 40)."""
    c = jnp.array([[10.0, 20.0], [30.0, 40.0]])
    see = lambda w, s: criterion.shown(w, s, MASK, structure, key)  # noqa: E731
    by = jax.grad(lambda w, s: jnp.sum(c * see(w, s)), argnums=(0, 1))(w, s)
    return see(w, s), *by


def test_movement_hides_weights_and_scores_them_all():
    seen, by_w, by_s = gradients(Movement())
    np.testing.assert_array_equal(seen, [[1, 0], [0.5, 3]])
    np.testing.assert_array_equal(by_w, [[10, 0], [30, 40]])  # none behind the mask
    np.testing.assert_array_equal(by_s, [[10, -40], [15, 120]])  # ∂L/∂W' ⊙ W, there too


def test_soft_movement_shuts_what_falls_below_its_threshold():
    # σ = (0.5, 0.73; 0.047, 0.119)
    seen, by_w, by_s = gradients(SoftMovement(threshold=0.1))
    np.testing.assert_array_equal(seen, [[1, 0], [0, 3]])
    np.testing.assert_array_equal(by_w, [[10, 0], [0, 40]])
    np.testing.assert_array_equal(by_s, [[10, -40], [15, 120]])
    price = SoftMovement(weight=2.0).price(S, MASK, WEIGHTS)
    sigma = 1 / (1 + np.exp(-np.array([0.0, -3.0, -2.0])))
    np.testing.assert_allclose(price, 2 * sigma.sum(), rtol=1e-6)


@pytest.mark.parametrize("name", ["movement", "soft_movement"])
def test_movement_keeps_the_highest_scores(name):
    learned = {"a": S}
    seen = Evidence({"a": W, "b": jnp.ones((2, 2))}, None, None, learned=learned)  # type: ignore
    scores = CRITERIA[name](seen)
    np.testing.assert_array_equal(scores["a"], S)
    np.testing.assert_array_equal(scores["b"], 0)


@pytest.mark.parametrize("criterion", LEARNED.values(), ids=LEARNED)
def test_what_is_masked_is_not_seen_and_jit_changes_nothing(criterion):
    key = jax.random.key(0)
    s = criterion.begin(W, WEIGHTS, key)
    for given in (None, key):
        seen = criterion.shown(W, s, MASK, WEIGHTS, given)
        assert seen[0, 1] == 0
        assert seen.dtype == W.dtype
        again = jax.jit(lambda w, s, k: criterion.shown(w, s, MASK, WEIGHTS, k))(W, s, given)
        np.testing.assert_allclose(seen, again, rtol=1e-6)


def test_layers_begin_by_themselves():
    params = {"a": W, "b": W, "c": W}
    masks = {"a": MASK, "b": MASK, "c": None}
    for criterion in LEARNED.values():
        begun = criterion.start(params, masks, WEIGHTS, jax.random.key(0))
        assert begun.keys() == {"a", "b"}
        fewer = {"b": params["b"]}, {"b": MASK}
        alone = criterion.start(*fewer, WEIGHTS, jax.random.key(0))
        np.testing.assert_array_equal(alone["b"], begun["b"])


def test_what_is_trained_has_a_rate_of_its_own_and_no_decay():
    optim = Optim(learning_rate=0.1, weight_decay=0.3, max_norm=1.0)
    own = Movement(rate=5.0).optim(optim)
    assert own.learning_rate == pytest.approx(0.5)
    assert own.weight_decay == 0
    assert own.max_norm is None


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (lambda: Movement(rate=0.0), "Movement.rate is 0"),
        (lambda: SoftMovement(weight=-1.0), "SoftMovement.weight is -1"),
        (lambda: SoftMovement(threshold=0.6), r"SoftMovement.threshold is 0\.6"),
    ],
)
def test_a_bad_value_is_refused_by_name(call, fault):
    with pytest.raises(UsageError, match=fault):
        call()
