import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import metrics
from kd_jax.data import Split
from kd_jax.stream import View

LOGITS = np.log(
    np.array([[[1, 2, 1], [6, 1, 1], [1, 1, 2]], [[2, 1, 1], [1, 1, 8], [1, 1, 8]]], np.float32)
)
LABELS = np.array([1, 0, 0])


def test_accuracy():
    np.testing.assert_allclose(metrics.accuracy(LOGITS, LABELS), [2 / 3, 0])
    assert metrics.accuracy(LOGITS[0], LABELS) == pytest.approx(2 / 3)


def test_cross_entropy():
    expected = [-np.log([2 / 4, 6 / 8, 1 / 4]).mean(), -np.log([1 / 4, 1 / 10, 1 / 10]).mean()]
    found = metrics.cross_entropy(LOGITS, LABELS)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(metrics.cross_entropy(LOGITS + 500, LABELS), expected, rtol=1e-4)


def test_cross_entropy_of_extreme_logits():
    logits = np.array([[1e4, 0.0], [0.0, 1e4]], np.float32)
    assert metrics.cross_entropy(logits, np.array([0, 0])) == 5000


def test_agreement():
    np.testing.assert_allclose(metrics.agreement(LOGITS[:1], LOGITS[1:]), [1 / 3])
    np.testing.assert_allclose(metrics.agreement(LOGITS, LOGITS), [1, 1])


def test_kl_divergence_by_hand():
    """Of the second network from the first: Σ p log(p / q) of three examples."""
    p = np.array([[1, 2, 1], [6, 1, 1], [1, 1, 2]]) / [[4], [8], [4]]
    q = np.array([[2, 1, 1], [1, 1, 8], [1, 1, 8]]) / [[4], [10], [10]]
    found = metrics.kl_divergence(LOGITS[1:], teacher=LOGITS[:1])
    np.testing.assert_allclose(found, [np.sum(p * np.log(p / q)) / 3], rtol=1e-6)
    np.testing.assert_array_equal(metrics.kl_divergence(LOGITS, LOGITS), [0, 0])


def test_kl_divergence_of_certain_predictions():
    sure = np.array([[1e4, 0.0]], np.float32)
    assert metrics.kl_divergence(np.zeros((1, 2)), sure) == pytest.approx(np.log(2))
    assert metrics.kl_divergence(sure, np.zeros((1, 2))) == pytest.approx(5000 - np.log(2))


def test_calibration_error_by_hand():
    """Confidences 0.9 (right), 0.9 (wrong), 0.7 (right), 0.6 (wrong), in three bins of 15:
    |1 - 1.8| + |1 - 0.7| + |0 - 0.6|, over four examples."""
    logits = np.log(np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.4, 0.6]]))
    labels = np.array([0, 1, 1, 0])
    assert metrics.calibration_error(logits, labels) == pytest.approx((0.8 + 0.3 + 0.6) / 4)
    # In one bin: |2 - 3.1| / 4. In two, (0, 1/2] and (1/2, 1], it is the same.
    assert metrics.calibration_error(logits, labels, bins=1) == pytest.approx(1.1 / 4)
    assert metrics.calibration_error(logits, labels, bins=2) == pytest.approx(1.1 / 4)
    both = metrics.calibration_error(np.stack([logits, logits[:, ::-1]]), labels)
    # The other network chooses the other class: right on examples 1 and 3.
    np.testing.assert_allclose(both, [1.7 / 4, (0.8 + 0.7 + 0.4) / 4])


def test_calibration_error_at_the_ends():
    sure = np.array([[1e4, 0.0], [1e4, 0.0]], np.float32)
    assert metrics.calibration_error(sure, np.array([0, 0])) == 0
    assert metrics.calibration_error(sure, np.array([0, 1])) == 0.5
    edge = np.log([[0.5, 0.5], [0.4, 0.6]])  # the bins (0, 1/2] and (1/2, 1]
    assert metrics.calibration_error(edge, np.array([1, 1]), bins=2) == pytest.approx(0.9 / 2)
    fair = np.zeros((4, 2))  # half of these are right, and it says so
    assert metrics.calibration_error(fair, np.array([0, 1, 0, 1])) == 0


def test_class_accuracy():
    """Examples of the classes 1, 0, 0; the first network is right on the first two."""
    found = metrics.class_accuracy(LOGITS, LABELS)
    np.testing.assert_array_equal(found, [[1 / 2, 1, np.nan], [0, 0, np.nan]])


def test_a_network_that_diverged_has_no_numbers():
    logits = np.stack([LOGITS[0], np.full((3, 3), np.inf)])
    for found in (
        metrics.cross_entropy(logits, LABELS),
        metrics.calibration_error(logits, LABELS),
        metrics.kl_divergence(logits, LOGITS),
        metrics.kl_divergence(LOGITS, logits),
    ):
        assert np.isfinite(found[0])
        assert np.isnan(found[1])


class Pixels:
    """A source of images of one pixel, which is its place."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return np.full((1, 1, 1), index % 256, np.uint8), index % 7


def split(count):
    places = np.arange(count)
    inputs = (places % 256).astype(np.uint8).reshape(count, 1, 1, 1)
    return Split(inputs, (places % 7).astype(np.int32), places.astype(np.int32))


@pytest.mark.parametrize("count", [1, 255, 256, 257, 520])
@pytest.mark.parametrize("streamed", [False, True])
def test_every_example_once_and_in_order(count, streamed):
    traces = []

    @jax.jit
    def predict(scale, images):
        traces.append(images.shape)
        pixels = images[:, 0, 0].astype(jnp.float32)
        return scale[:, None, None] * pixels[None]

    whole = split(count)
    given = View(Pixels(count), whole.ids) if streamed else whole
    logits, labels = metrics.predictions(predict, jnp.array([1.0, 2.0]), given)
    expected = np.arange(count, dtype=np.float32) % 256
    np.testing.assert_array_equal(logits[..., 0], [expected, 2 * expected])
    np.testing.assert_array_equal(labels, whole.labels)
    assert len(traces) == 1
