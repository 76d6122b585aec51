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
