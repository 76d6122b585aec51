"""What every loss of logits must do. A new one joins by its line in TERMS and in REFERENCE."""

import dataclasses
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from kd_jax.distill import (
    DIST,
    DKD,
    GKD,
    KD,
    LSKD,
    MLKD,
    NKD,
    TERMS,
    WSLD,
    ClassRelation,
    DeiTHard,
    DeiTSoft,
    LogitRegression,
    LogitTerm,
    Mixture,
    SoftCrossEntropy,
    TfKDSelf,
)
from kd_jax.errors import UsageError

# (mean over the batch, norm of its gradient by the student's logits) at the inputs of `_logits`.
REFERENCE = {
    # From the losses' reference implementations, in float64.
    "kd": (KD(), 6.001155752202795, 0.7044727843286044),
    "mixture α=1": (Mixture(alpha=1.0), 4.641338472292251, 0.5679865434498568),
    "logits": (LogitRegression(), 15.215881196518524, 1.5924761220877859),
    "dkd": (DKD(), 53.88346505845771, 6.566786513168747),
    "nkd at T=1": (NKD(temperature=1.0, gamma=1.5), 5.717154433772725, 0.7819700989041701),
    "lskd": (LSKD(), 0.898454131711294, 0.08626687015574187),
    "dist": (DIST(), 42.66270346922752, 3.6508011439565595),
    "class_relation": (ClassRelation(), 0.014577880157000912, 0.004129867667840217),
    "deit_soft": (DeiTSoft(), 0.9173903378792024, 0.11212853650036023),
    "soft_cross_entropy": (SoftCrossEntropy(), 0.5936158212001774, 0.0756955210057787),
    # Worked out with NumPy, by loops over examples and classes and differences of fourth order;
    # mixture is ½ (cross-entropy + KL), and ½ ‖(p_s − y) + (p_s − p_t)‖ / B.
    "mixture": (Mixture(), 3.7089025065953938, 0.4253877735629199),
    "dkd+ls": (DKD(temperature=2.0, standardise=True), 7.671976539539126, 0.9252588820082585),
    "nkd": (NKD(), 61.162490811342444, 2.7793449339941763),
    "wsld": (WSLD(), 23.8563898522615, 0.5958643676305102),
    "mlkd": (MLKD(), 8.595035107817734, 1.931779287416246),
    "mlkd of all": (MLKD(masks=False), 28.992228854063406, 3.4268039703169815),
    "mlkd+ls": (MLKD(standardise=True), 1.7523087594669087, 0.3286534238592655),
    "gkd": (GKD(), 0.45250606399204935, 0.04641434399207928),
    "gkd β=0.2": (GKD(beta=0.2), 0.3080693068070472, 0.03491609871409778),
    "deit_hard": (DeiTHard(), 3.7470498816844557, 0.5746897976809892),
    "tfkd_self": (TfKDSelf(), 1.0749846701771575, 0.12200734669209318),
}
# Terms that vanish, gradient and all, where the student has become the teacher.
ZERO_AT_TEACHER = {
    "kd": KD(),
    "mixture": Mixture(alpha=0.0),
    "logits": LogitRegression(),
    "dkd": DKD(),
    "lskd": LSKD(),
    "mlkd": MLKD(),
    "class_relation": ClassRelation(),
    "gkd": GKD(),
    "deit_soft": DeiTSoft(),
    "tfkd_self": TfKDSelf(),
}

LOGIT_TERMS = {name: term for name, term in TERMS.items() if isinstance(term, LogitTerm)}
OF_A_BATCH = {"dist", "mlkd", "class_relation"}  # one scalar

each_term = pytest.mark.parametrize("term", LOGIT_TERMS.values(), ids=LOGIT_TERMS.keys())


def each_but(*names, fast=None):
    """Each term but these; where `fast` is given, the others than those are slow tests."""
    return pytest.mark.parametrize(
        "term",
        [
            pytest.param(
                term, id=name, marks=[pytest.mark.slow] * (fast is not None and name not in fast)
            )
            for name, term in LOGIT_TERMS.items()
            if name not in names
        ],
    )


def slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


@pytest.fixture(autouse=True)
def _strict_dtypes():
    with jax.numpy_dtype_promotion("strict"):
        yield


def _logits(dtype=np.float32):
    """Student's [4, 6], teacher's [4, 6], one-hot targets [4, 6]."""
    k = np.arange(24.0).reshape(4, 6)
    student, teacher = 3 * np.sin(0.7 * k + 0.3), 4 * np.cos(0.9 * k + 0.1)
    return [jnp.asarray(x, dtype) for x in (student, teacher, np.eye(6)[[1, 0, 3, 5]])]


def _mean(term, *inputs):
    return jnp.mean(term(*inputs))


def test_every_term_has_a_reference_value_and_its_own_class():
    assert LOGIT_TERMS.keys() <= REFERENCE.keys()
    for name, term in LOGIT_TERMS.items():
        assert REFERENCE[name][0] == term
    assert len({type(term) for term in LOGIT_TERMS.values()}) == len(LOGIT_TERMS)


@pytest.mark.parametrize("name", REFERENCE)
def test_value_and_gradient_are_those_of_the_reference(name):
    term, value, gradient_norm = REFERENCE[name]
    with jax.enable_x64(True):
        loss, gradient = jax.value_and_grad(_mean, argnums=1)(term, *_logits(np.float64))
        assert loss.dtype == jnp.float64
        np.testing.assert_allclose(loss, value, rtol=1e-6)
        np.testing.assert_allclose(jnp.linalg.norm(gradient), gradient_norm, rtol=1e-6)


# wsld's weights have no gradient by design. The norms of all gradients are held to references.
@each_but("wsld", fast=("kd", "mlkd"))
def test_gradients_are_those_of_finite_differences(term):
    with jax.enable_x64(True):
        student, teacher, targets = _logits(np.float64)
        f = lambda z_s, z_t: term(z_s, z_t, targets)  # noqa: E731
        check_grads(f, (student, teacher), order=1, modes=["fwd", "rev"])


@each_term
def test_one_float32_value_an_example_the_same_under_jit(term):
    eager = term(*_logits())
    chex.assert_shape(eager, () if term in map(TERMS.get, OF_A_BATCH) else (4,))
    assert eager.dtype == jnp.float32
    np.testing.assert_allclose(jax.jit(type(term).__call__)(term, *_logits()), eager, rtol=1e-6)


@each_but(*OF_A_BATCH, fast=("kd", "dkd", "nkd", "wsld", "gkd", "lskd"))
def test_examples_do_not_see_each_other(term):
    order = np.array([2, 0, 3, 1])
    permuted = term(*(x[order] for x in _logits()))
    np.testing.assert_allclose(permuted, term(*_logits())[order], rtol=1e-6)
    np.testing.assert_allclose(term(*(x[:1] for x in _logits())), term(*_logits())[:1], rtol=1e-6)


@each_term
@pytest.mark.parametrize("dtype", [jnp.bfloat16, slow(jnp.float16)])
def test_half_precision_logits_are_computed_in_float32(term, dtype):
    student, teacher, targets = _logits()
    student, teacher = student.astype(dtype), teacher.astype(dtype)
    f = jax.value_and_grad(_mean, argnums=1)
    half, gradient = f(term, student, teacher, targets)
    assert half.dtype == jnp.float32
    assert gradient.dtype == dtype
    chex.assert_tree_all_finite(gradient)
    whole, _ = f(term, student.astype(jnp.float32), teacher.astype(jnp.float32), targets)
    assert half == whole


EXTREMES = {
    "opposite": ([[1e4, -1e4, 0]], [[-1e4, 1e4, 0]]),
    "equal": ([[1e4, -1e4, -1e4]], [[1e4, -1e4, -1e4]]),
    "all high": ([[1e4, 1e4]], [[-1e4, -1e4]]),
    "two classes, one-hot teacher": ([[0.5, -0.5]], [[-1e4, 1e4]]),
    "one-hot student": ([[1e4, 0, 0]], [[0.1, 0.2, 0.3]]),
}


# Half precision is computed in float32: of all types one case is enough, of one type all.
@each_term
@pytest.mark.parametrize(
    ("dtype", "case"),
    [
        pytest.param(dtype, case, marks=[pytest.mark.slow] * (case != "opposite"))
        for dtype in (jnp.float32, jnp.float16, jnp.bfloat16)
        for case in EXTREMES
    ],
)
def test_extreme_logits_leave_value_and_gradients_finite(term, case, dtype):
    student, teacher = (jnp.array(x, dtype) for x in EXTREMES[case])
    for target in jnp.eye(student.shape[-1])[:, None]:
        f = jax.value_and_grad(_mean, argnums=(1, 2, 3))
        value, gradients = f(term, student, teacher, target)
        assert value >= 0
        chex.assert_tree_all_finite((value, gradients))


@each_but("nkd", "dist")  # entropies and undefined correlations are left over
def test_a_perfect_student_of_hard_labels_loses_nothing(term):
    z = jnp.array([[1e4, -1e4, -1e4], [-1e4, -1e4, 1e4]])
    targets = jnp.array([[1.0, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(term(z, z, targets), 0)


@pytest.mark.parametrize("name", ZERO_AT_TEACHER)
def test_nothing_is_left_to_learn_once_student_is_teacher(name):
    _, teacher, targets = _logits()
    f = jax.value_and_grad(_mean, argnums=1)
    value, gradient = f(ZERO_AT_TEACHER[name], teacher, teacher, targets)
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


@each_but("logits")
def test_adding_a_constant_to_logits_changes_nothing(term):
    student, teacher, targets = _logits()
    shifted = term(student + 2, teacher - 3, targets)
    np.testing.assert_allclose(shifted, term(student, teacher, targets), rtol=1e-5)


@each_but("deit_hard")  # learns from the place of a maximum, which has no gradient
def test_the_teacher_is_not_stopped_here(term):
    # Freezing it is the teacher's affair: a second stop_gradient would hide a missing first one.
    gradient = jax.grad(_mean, argnums=2)(term, *_logits())
    assert jnp.linalg.norm(gradient) > 1e-3


@each_but(fast=("dkd",))
def test_settings_and_seeds_run_in_one_program(term):
    settings = [jax.tree.map(lambda x, f=f: jnp.float32(x * f), term) for f in (0.25, 0.5, 1.0)]
    seeds = [[x * s if i < 2 else x for i, x in enumerate(_logits())] for s in (1.0, -0.5)]
    run = type(term).__call__
    stack = lambda *xs: jnp.stack(xs)  # noqa: E731
    over_seeds = jax.vmap(run, in_axes=(None, 0, 0, 0))
    over_both = jax.vmap(over_seeds, in_axes=(0, None, None, None))
    together = over_both(jax.tree.map(stack, *settings), *map(stack, *seeds))
    for (i, setting), (j, inputs) in itertools.product(enumerate(settings), enumerate(seeds)):
        np.testing.assert_allclose(together[i, j], setting(*inputs), rtol=2e-6)


@each_term
def test_float_fields_are_leaves_and_can_be_learned(term):
    names = [field.name for field in dataclasses.fields(term) if field.type in (float, "float")]
    assert "weight" in names
    assert len(jax.tree.leaves(term)) == len(names)
    gradients = jax.grad(_mean)(jax.tree.map(jnp.float32, term), *_logits())
    chex.assert_tree_all_finite(gradients)
    assert gradients.weight == 0  # unweighted: the objective multiplies


@pytest.mark.parametrize(
    ("build", "field"),
    [
        (lambda: KD(temperature=0.0), "KD.temperature is 0"),
        (lambda: KD(temperature=-1.0), "KD.temperature is -1"),
        (lambda: KD(temperature=float("nan")), "KD.temperature is nan"),
        (lambda: KD(weight=-0.1), "KD.weight is -0.1"),
        (lambda: Mixture(alpha=1.01), "Mixture.alpha is 1.01"),
        (lambda: Mixture(alpha=-0.5), "Mixture.alpha is -0.5"),
        (lambda: dataclasses.replace(LogitRegression(), weight=-1.0), "LogitRegression.weight"),
    ],
)
def test_a_bad_value_is_refused_by_name(build, field):
    with pytest.raises(UsageError, match=field):
        build()
