"""Criteria that are trained: what the network sees, its gradients and their scores, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.errors import UsageError
from kd_jax.optim import Optim
from kd_jax.prune import CRITERIA, L0, STR, STRUCTURES, Evidence, Learned, Movement, SoftMovement

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


def test_str_draws_weights_towards_zero_and_its_threshold_learns():
    # σ(0) = 0.5: of (1, −2; 0.5, 3) with a mask, (0.5, 0; 0, 2.5) is left.
    seen, by_w, by_s = gradients(STR(), s=jnp.float32(0.0))
    np.testing.assert_allclose(seen, [[0.5, 0], [0, 2.5]])
    np.testing.assert_allclose(by_w, [[10, 0], [0, 40]])
    # −σ'(s) Σ C ⊙ sign W over what is left, σ'(0) = 1/4.
    np.testing.assert_allclose(by_s, -(10 + 40) / 4)
    _, _, by_s = gradients(STR(), s=jnp.float32(0.0), w=-W)
    np.testing.assert_allclose(by_s, (10 + 40) / 4)


def test_str_scores_by_what_is_left_and_then_by_what_was():
    w = jnp.array([[0.9, -0.7, 0.2, -0.1, 0.6]])
    scores = np.asarray(STR().score(w, jnp.float32(0.0), WEIGHTS))[0]
    assert list(np.argsort(-scores)) == [0, 1, 4, 2, 3]
    np.testing.assert_allclose(scores[[0, 1, 4]], [0.4, 0.2, 0.1], rtol=1e-5)
    assert scores[2] > -1e-5


def test_str_decays_as_the_stage_does_unless_told():
    optim = Optim(weight_decay=0.3, decay_all=False)
    assert STR().optim(optim).weight_decay == 0.3
    assert STR(decay=0.1).optim(optim).weight_decay == 0.1
    assert STR().optim(optim).decay_all  # a scalar is no matrix


def test_gates_at_rest_their_price_and_what_they_keep():
    s = jnp.array([[0.0, 9.0], [-9.0, 2.0]])
    seen, by_w, _ = gradients(L0(), s=s)
    z = np.clip(1.2 / (1 + np.exp(-np.asarray(s))) - 0.1, 0, 1)
    assert z[0, 0] == 0.5
    assert z[1, 0] == 0
    np.testing.assert_allclose(seen, np.where(MASK, z * W, 0), rtol=1e-6)
    np.testing.assert_allclose(by_w, np.where(MASK, z * [[10, 20], [30, 40]], 0), rtol=1e-6)
    # P(z ≠ 0) = σ(log α − 2/3 log(0.1 / 1.1)), of the three that are not masked.
    chance = 1 / (1 + np.exp(-(np.asarray(s) + 2 / 3 * np.log(11))))
    price = L0(weight=2.0).price(s, MASK, WEIGHTS)
    np.testing.assert_allclose(price, 2 * chance[MASK].sum(), rtol=1e-6)
    # Gates decide; of those that are all open or all shut, the size does.
    s = jnp.array([[9.0, -9.0, 8.0, 0.1, -7.0]])
    w = jnp.array([[1.0, 5.0, -2.0, 9.0, 6.0]])
    scores = L0().score(w, s, WEIGHTS)
    assert list(np.argsort(-np.asarray(scores)[0])) == [2, 0, 3, 4, 1]


def test_gates_in_training_are_hard_concrete():
    """With u of the key, by hand; and as often open as their price says."""
    key, s = jax.random.key(3), jnp.full((100, 200), -1.0)
    u = np.asarray(jax.random.uniform(key, s.shape, jnp.float32, 1e-6, 1 - 1e-6), np.float64)
    raw = 1 / (1 + np.exp(-(np.log(u / (1 - u)) - 1.0) / (2 / 3)))
    gates = np.asarray(L0().gate(s, key))
    np.testing.assert_allclose(gates, np.clip(1.2 * raw - 0.1, 0, 1), atol=1e-5)
    assert (gates == 0).any()
    assert (gates == 1).any()
    open_ = L0(weight=1.0).price(s, s < 0, WEIGHTS) / s.size
    # 20,000 draws: three standard deviations are 0.011.
    assert abs((gates > 0).mean() - open_) < 0.011
    np.testing.assert_array_equal(gates, L0().gate(s, key))


def test_a_gate_is_that_of_a_whole_unit():
    filters = STRUCTURES["filter"]
    s = L0(shut=0.2).begin(W, filters, jax.random.key(0))
    assert s.shape == (2,)
    np.testing.assert_allclose(s, np.log(4.0), atol=0.05)
    s, everything = jnp.array([-9.0, 0.0]), jnp.ones((2, 2), bool)
    seen = L0().shown(W, s, everything, filters, None)
    np.testing.assert_allclose(seen, [[0, -1], [0, 1.5]])
    chance = jax.nn.sigmoid(s + 2 / 3 * jnp.log(jnp.float32(11.0)))
    price = L0(weight=1.0).price(s, everything, filters)
    np.testing.assert_allclose(price, 2 * jnp.sum(chance), rtol=1e-6)  # two weights each
    trained = L0().shown(W, s, everything, filters, jax.random.key(1))
    ratio = trained / W
    np.testing.assert_allclose(ratio[0], ratio[1], rtol=1e-6)


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
        (lambda: STR(initial=float("nan")), "STR.initial is nan"),
        (lambda: STR(decay=-1.0), "STR.decay is -1"),
        (lambda: L0(weight=-1.0), "L0.weight is -1"),
        (lambda: L0(shut=1.0), "L0.shut is 1"),
        (lambda: L0(beta=0.0), "L0.beta is 0"),
        (lambda: L0(gamma=0.0), "L0.gamma is 0"),
        (lambda: L0(zeta=1.0), "L0.zeta is 1"),
        (lambda: SoftMovement(threshold=0.6), r"SoftMovement.threshold is 0\.6"),
        (lambda: SoftMovement(threshold=0.0), "threshold is 0: it must be greater than 0"),
    ],
)
def test_a_bad_value_is_refused_by_name(call, fault):
    with pytest.raises(UsageError, match=fault):
        call()
