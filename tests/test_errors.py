import dataclasses

import jax
import jax.numpy as jnp
import pytest

from kd_jax import errors
from kd_jax.errors import (
    UsageError,
    did_you_mean,
    of_disk,
    require,
    require_between,
    require_finite,
    trouble,
)

INF, NAN = float("inf"), float("nan")


def test_did_you_mean_names_the_closest_or_lists_all():
    assert did_you_mean("resnet2O", ["resnet20", "vgg16"]) == " Did you mean 'resnet20'?"
    assert did_you_mean("xyz", ["b", "a"]) == " Known: a, b."
    assert did_you_mean("xyz", []) == ""


def test_require_raises_only_where_the_condition_fails():
    require(True, "never said")
    with pytest.raises(UsageError, match=r"^said$"):
        require(False, "said")


@pytest.mark.parametrize(
    ("value", "low", "high", "open_low", "said"),
    [
        (-0.1, 0, 1, False, "x is -0.1: it must be at least 0 and at most 1."),
        (1.5, 0, 1, False, "x is 1.5: it must be at least 0 and at most 1."),
        (0, 0, INF, True, "x is 0: it must be greater than 0."),
        (0, 1, INF, False, "x is 0: it must be at least 1."),
        (NAN, 0, 1, False, "x is nan: it must be a finite number (of float32)."),
        (INF, 0, INF, False, "x is inf: it must be a finite number (of float32)."),
    ],
)
def test_require_between_says_what_was_given_and_what_may_be(value, low, high, open_low, said):
    with pytest.raises(UsageError) as error:
        require_between("x", value, low, high, open_low)
    assert str(error.value) == said


@pytest.mark.parametrize("value", [0, 1, 0.5, 0.0, 1.0])
def test_require_between_lets_its_bounds_pass(value):
    require_between("x", value, 0, 1)


def test_require_between_leaves_traced_and_missing_values_alone():
    require_between("x", None, 0, 1)
    require_between("x", jnp.array([2.0, 3.0]), 0, 1)
    jax.jit(lambda x: require_between("x", x, 0, 1) or x)(2.0)


@dataclasses.dataclass
class Inner:
    hard_weight: float | None = 1.0
    parts: tuple[float, ...] = ()


@dataclasses.dataclass
class Outer:
    inner: Inner = dataclasses.field(default_factory=Inner)
    terms: dict[str, Inner] = dataclasses.field(default_factory=dict)
    text: str = "nan"
    count: int = 2**31 - 1


@pytest.mark.parametrize("bad", [INF, -INF, NAN, 1e39])
def test_require_finite_finds_a_number_at_any_depth(bad):
    with pytest.raises(UsageError) as error:
        require_finite(Outer(inner=Inner(hard_weight=bad)))
    said = f"inner.hard-weight is {bad:g}: it must be a finite number (of float32)."
    assert str(error.value) == said
    with pytest.raises(UsageError, match=r"^terms\.kd\.parts is "):
        require_finite(Outer(terms={"kd": Inner(parts=(0.5, bad))}))


@pytest.mark.parametrize("bad", [2**31, -(2**31), 10**400])
def test_require_finite_finds_whole_numbers_that_int32_can_not_hold(bad):
    with pytest.raises(UsageError, match=r"^inner\.parts is .*: it must be within ±2\*\*31"):
        require_finite(Outer(inner=Inner(parts=(0.0, bad))))


def test_require_finite_lets_everything_else_pass():
    require_finite(Outer(inner=Inner(hard_weight=None, parts=(0.0, -1e38))))
    require_finite(Outer(inner=Inner(hard_weight=jnp.array(NAN))))  # not known before it runs


@pytest.mark.parametrize("pattern", ["(", "a{99999999999999999999}", "(" * 5000 + ")" * 5000])
def test_what_is_no_regular_expression(pattern):
    with pytest.raises(UsageError, match=r"^keep '.{1,110}' is no regular expression \(") as caught:
        errors.require_pattern("keep", pattern)
    assert len(str(caught.value)) < 400
    errors.require_pattern("keep", "[[a]")  # Python warns of it, and it means what it says


def test_an_empty_pattern_is_a_slip():
    with pytest.raises(UsageError, match=r"keep '' finds everything: write \.\*"):
        errors.require_patterns("keep", ("a", ""))


@pytest.mark.parametrize("path", ["x" * 256, "a/" + "ä" * 128, "x/" * 2048 + "x"])
def test_paths_that_no_disk_takes(path):
    with pytest.raises(UsageError, match=r"^out '.*at most 4095 bytes, and each name in it 255"):
        errors.require_path("out", path)
    errors.require_path("out", "x" * 255 + "/y")
    errors.require_path("out", "")


OPENED = '[tensorstore_spec=\'{\\\\"path\\\\":\\\\"/elsewhere/\\\\"}\']'


@pytest.mark.parametrize(
    "end", [f"[os_error_code='28'] {OPENED}", f"{OPENED} [os_error_code='28']"]
)
def test_what_orbax_says_of_a_disk_is_read_out_of_its_words(end):
    error = ValueError(f'Error writing "/a/steps/2.orbax-checkpoint-tmp/d/8b": no space {end}')
    found = of_disk(error)
    assert found is not None
    assert (found.errno, found.filename) == (28, "/a/steps/2")
    assert trouble(error).startswith("can't write to or read from /a/steps/2 (No space left on dev")
    inner = ValueError(f'Error reading local file "/a/steps/2/": of "/a/steps/2/d/8b": bad {end}')
    found = of_disk(inner)
    assert found is not None
    assert found.filename == "/a/steps/2/d/8b"


def test_what_is_of_no_disk_is_told_apart():
    own = PermissionError(13, "Permission denied", "/a")
    assert of_disk(own) is own
    assert of_disk(ValueError("DATA_LOSS: a checksum differs")) is None
    with pytest.raises(ValueError, match="DATA_LOSS"):
        trouble(ValueError("DATA_LOSS: a checksum differs"))
