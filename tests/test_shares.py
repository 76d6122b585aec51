"""What several networks say, mixed; and shares that are found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.shares import TIE, equal, fitted, mixed

# Two examples, three classes, three members: the first agree on class 0 by two to one; in the
# second each chooses another.
MEMBERS = jnp.log(
    jnp.array(
        [
            [[0.5, 0.3, 0.2], [0.6, 0.3, 0.1]],
            [[0.4, 0.3, 0.3], [0.1, 0.8, 0.1]],
            [[0.1, 0.1, 0.8], [0.3, 0.3, 0.4]],
        ]
    )
)
SHARES = jnp.array([0.5, 0.25, 0.25])


def test_logits_and_probabilities_by_hand():
    said = np.asarray(MEMBERS)
    by_hand = 0.5 * said[0] + 0.25 * said[1] + 0.25 * said[2]
    np.testing.assert_allclose(mixed("logits", MEMBERS, SHARES), by_hand, rtol=1e-6)
    found = np.exp(mixed("probabilities", MEMBERS, SHARES))
    np.testing.assert_allclose(found[0], [0.375, 0.25, 0.375], rtol=1e-6)
    np.testing.assert_allclose(found[1], [0.4, 0.425, 0.175], rtol=1e-6)


def test_votes_by_hand_and_ties_by_the_mean_probabilities():
    found = np.exp(mixed("vote", MEMBERS, equal(3)))
    likely = np.exp(mixed("probabilities", MEMBERS, equal(3)))
    votes = np.array([[2, 0, 1], [1, 1, 1]]) / 3
    np.testing.assert_allclose(found, (votes + TIE * likely) / (1 + TIE), rtol=1e-5)
    np.testing.assert_allclose(np.sum(found, axis=-1), 1.0, rtol=1e-6)
    # The mean probabilities of the first say class 2, which one of three chose.
    assert np.argmax(likely, axis=-1).tolist() == [2, 1]
    assert np.argmax(found, axis=-1).tolist() == [0, 1]


def test_votes_have_shares():
    said = mixed("vote", MEMBERS, jnp.array([0.2, 0.2, 0.6]))
    assert np.argmax(said, axis=-1).tolist() == [2, 2]


@pytest.mark.parametrize("how", ["logits", "probabilities", "vote"])
def test_one_who_has_no_share_is_not_heard_and_jit_says_the_same(how):
    alone = mixed(how, MEMBERS[:2], equal(2))
    given = jnp.array([0.5, 0.5, 0.0])
    np.testing.assert_allclose(mixed(how, MEMBERS, given), alone, rtol=1e-6)
    compiled = jax.jit(mixed, static_argnums=0)(how, MEMBERS, given)
    np.testing.assert_allclose(compiled, alone, rtol=1e-6)
    first = mixed(how, MEMBERS, jnp.array([1.0, 0.0, 0.0]))
    assert np.argmax(first, axis=-1).tolist() == [0, 0]


def of_counts(how, members, best):
    """Examples whose labels are as many as the best mixture gives them of a thousand."""
    expected = np.asarray(jax.nn.softmax(mixed(how, members, best)))
    counts = np.rint(1000 * expected).astype(int)
    rows = np.repeat(np.arange(len(counts)), counts.sum(axis=1))
    labels = [label for row in counts for label, n in enumerate(row) for _ in range(n)]
    return members[:, rows], jnp.asarray(labels)


@pytest.mark.parametrize("how", ["logits", "probabilities"])
def test_the_best_mixture_is_found(how):
    best = jnp.array([0.55, 0.15, 0.3])
    found = fitted(how, *of_counts(how, 2 * MEMBERS, best))
    np.testing.assert_allclose(found, best, atol=0.02)
    np.testing.assert_allclose(jnp.sum(found), 1.0, rtol=1e-6)


def test_one_who_knows_nothing_gets_nothing():
    labels = jnp.arange(30) % 3
    knows = 3.0 * jax.nn.one_hot(labels, 3)
    members = jnp.stack([knows, jnp.roll(knows, 1, axis=-1)])
    for how in ("logits", "probabilities"):
        assert float(fitted(how, members, labels)[0]) > 0.99


def test_equal_shares_and_those_of_weights():
    np.testing.assert_allclose(equal(4), [0.25] * 4)
    np.testing.assert_allclose(equal(2, (3, 1)), [0.75, 0.25])
