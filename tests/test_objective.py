import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.batch import Batch
from kd_jax.distill import KD, Lesson, LogitRegression, Mixture
from kd_jax.forward import Outputs
from kd_jax.objective import Settings, no_metrics, objective, part_names, total
from kd_jax.optim import Optim
from kd_jax.prune import PruningLoss

# Logits whose softmaxes are simple fractions.
STUDENT = np.log([[1, 2, 1], [6, 1, 1], [1, 1, 2]]).astype(np.float32)
TEACHER = np.log([[1, 6, 1], [2, 1, 1], [1, 8, 1]]).astype(np.float32)
LABELS = np.array([1, 1, 0])
CE = -np.log([2 / 4, 1 / 8, 1 / 4])
PARAMS = {"kernel": jnp.array([[0.5, -2.0], [1.0, 0.25]]), "bias": jnp.array([100.0])}
MASKS = {"kernel": jnp.array([[True, True], [False, True]]), "bias": None}


def batch(weights=(1.0, 1.0, 1.0), targets=None):
    return Batch(
        ids=jnp.arange(3),
        inputs=jnp.zeros((3, 1)),
        labels=jnp.asarray(LABELS),
        weights=jnp.asarray(weights),
        targets=jnp.eye(3)[LABELS] if targets is None else jnp.asarray(targets),
    )


def settings(**changes):
    plain = Settings(
        seed=0,
        optim=Optim(),
        label_smoothing=0.0,
        hard_weight=1.0,
        terms={},
        penalty=None,
        ema=None,
    )
    return plain.replace(**changes)


def found(settings, batch=batch(), student=STUDENT, teacher=TEACHER, masks=MASKS, epoch=0):  # noqa: B008
    lesson = Lesson(
        student=Outputs(jnp.asarray(student)),
        teacher=Outputs(jnp.asarray(teacher)),
        targets=batch.targets,
        labels=batch.labels,
        ids=batch.ids,
        epoch=jnp.float32(epoch),
        key=jax.random.key(0),
    )
    parts, (metrics, _) = objective(settings, lesson, {}, batch.weights, PARAMS, masks)
    assert list(parts) == part_names(settings)
    return total(parts), metrics


def test_labels_alone():
    loss, metrics = found(settings())
    assert loss == pytest.approx(CE.mean())
    assert set(metrics) == {"hard", "loss", "accuracy"}
    assert metrics["hard"] == metrics["loss"] == loss
    assert metrics["accuracy"] == pytest.approx(1 / 3)


def test_smoothed_labels():
    log_p = np.log([[1 / 4, 2 / 4, 1 / 4], [6 / 8, 1 / 8, 1 / 8], [1 / 4, 1 / 4, 2 / 4]])
    expected = np.mean(0.7 * CE - 0.3 * log_p.mean(axis=1))
    assert found(settings(label_smoothing=0.3))[0] == pytest.approx(expected)


def test_mixed_targets_are_learned_and_labels_are_counted():
    targets = [[0.25, 0.75, 0.0], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5]]
    per_example = [
        -0.25 * np.log(1 / 4) - 0.75 * np.log(2 / 4),
        -np.log(1 / 8),
        -0.5 * np.log(1 / 4) - 0.5 * np.log(2 / 4),
    ]
    loss, metrics = found(settings(), batch(targets=targets))
    assert loss == pytest.approx(np.mean(per_example))
    assert metrics["accuracy"] == pytest.approx(1 / 3)


def test_terms_are_weighted_in_the_loss_and_reported_without_their_weights():
    terms = {
        "kd": KD(temperature=1.0, weight=0.6),
        "logits": LogitRegression(weight=0.2),
    }
    p = np.array([[1, 6, 1], [2, 1, 1], [1, 8, 1]])
    p = p / p.sum(axis=1, keepdims=True)
    q = np.array([[1, 2, 1], [6, 1, 1], [1, 1, 2]])
    q = q / q.sum(axis=1, keepdims=True)
    kd = (p * np.log(p / q)).sum(axis=1).mean()
    regression = ((STUDENT - TEACHER) ** 2).mean()
    loss, metrics = found(settings(hard_weight=0.3, terms=terms))
    assert metrics["kd"] == pytest.approx(kd, rel=1e-5)
    assert metrics["logits"] == pytest.approx(regression, rel=1e-5)
    assert metrics["hard"] == pytest.approx(CE.mean(), rel=1e-5)
    assert loss == pytest.approx(0.3 * CE.mean() + 0.6 * kd + 0.2 * regression, rel=1e-5)


def test_mixture_holds_the_labels_itself():
    loss, _ = found(settings(hard_weight=0.0, terms={"mixture": Mixture(alpha=1.0)}))
    assert loss == pytest.approx(CE.mean())


def test_padding_counts_for_nothing():
    terms = {"kd": KD()}
    padded, with_padding = found(settings(terms=terms), batch((1.0, 1.0, 0.0)))
    short = batch()
    short = jax.tree.map(lambda x: x[:2], short)
    alone, without = found(settings(terms=terms), short, STUDENT[:2], TEACHER[:2])
    assert float(padded) == pytest.approx(float(alone), rel=1e-6)
    assert with_padding["accuracy"] == without["accuracy"] == 0.5


def test_a_batch_of_padding_alone_is_finite():
    loss, metrics = found(settings(terms={"kd": KD()}), batch((0.0, 0.0, 0.0)))
    assert loss == 0
    assert all(value == 0 for value in metrics.values())


def test_penalty_on_the_prunable_weights():
    penalty = PruningLoss(weight=0.1, alpha=0.25, threshold=0.3)
    loss, metrics = found(settings(penalty=penalty))
    l1, below = 0.5 + 2.0 + 0.25, 2  # 0.25, and the pruned entry, which is a zero
    assert metrics["penalty_l1"] == pytest.approx(l1)
    assert metrics["penalty_below"] == below
    assert loss == pytest.approx(CE.mean() + 0.1 * (0.25 * l1 + 0.75 * below), rel=1e-5)


def test_half_precision_logits_give_a_float32_loss():
    half = jnp.asarray(STUDENT, jnp.bfloat16)
    loss, metrics = found(settings(terms={"kd": KD()}), student=half)
    assert loss.dtype == jnp.float32
    assert {value.dtype for value in metrics.values()} == {jnp.dtype(jnp.float32)}
    assert metrics["hard"] == pytest.approx(CE.mean(), rel=0.01)


@pytest.mark.parametrize(
    "given",
    [
        settings(),
        settings(hard_weight=0.0, terms={"kd": KD(), "other": LogitRegression()}),
        settings(penalty=PruningLoss()),
    ],
    ids=["labels", "terms", "penalty"],
)
def test_the_zeros_that_sums_start_from_have_the_metrics_names(given):
    _, metrics = found(given)
    zeros = no_metrics(given, 2)
    assert set(zeros) == set(metrics)
    for name, value in metrics.items():
        assert zeros[name].shape == (2, *value.shape)
        assert zeros[name].dtype == value.dtype
        assert not zeros[name].any()


def test_weights_may_be_traced():
    given = settings(
        label_smoothing=0.1,
        hard_weight=0.3,
        terms={"kd": KD(temperature=3.0, weight=0.5)},
        penalty=PruningLoss(weight=0.1),
    )
    traces = []

    @jax.jit
    def loss(given):
        traces.append(given)
        return found(given)[0]

    other = given.replace(hard_weight=0.7, terms={"kd": KD(temperature=2.0, weight=0.1)})
    for one in (given, other):
        assert float(loss(one)) == pytest.approx(float(found(one)[0]), rel=1e-5)
    assert len(traces) == 1
    assert abs(float(found(given)[0] - found(other)[0])) > 0.01
