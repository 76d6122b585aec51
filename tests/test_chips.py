import importlib.util

import pytest

from kd_jax import chips
from kd_jax.chips import CHIPS, Slice, parse, tpu_slice
from kd_jax.errors import UsageError


def test_published_figures():
    """Per chip: bf16 FLOP/s, HBM bytes and bytes/s, bytes/s sent over all links."""
    table = {
        name: (c.flops, c.memory, c.memory_speed, 2 * c.axes * c.link_speed)
        for name, c in CHIPS.items()
    }
    assert table == {
        "v4": (275e12, 32 * 2**30, 1200e9, 300e9),
        "v5e": (197e12, 16e9, 819e9, 200e9),
        "v5p": (459e12, 95 * 2**30, 2765e9, 600e9),
        "v6e": (918e12, 32e9, 1638e9, 400e9),
    }


@pytest.mark.parametrize(
    ("name", "links"),
    [
        ("v5e:1x1", 0),
        ("v5e:2x1", 1),
        ("v5e:2x2", 2),
        ("v5e:4x4", 2),  # open ends: a corner has a neighbour on each axis
        ("v5e:8x16", 3),  # closed along the second axis
        ("v5e:16x16", 4),
        ("v4:2x2x1", 2),
        ("v5p:2x2x4", 4),
        ("v5p:4x4x8", 6),
    ],
)
def test_a_corner_of_a_slice_has_fewer_links(name, links):
    kind, shape = parse(name)
    target = Slice(name, CHIPS[kind], shape, ())
    assert target.network_speed == links * CHIPS[kind].link_speed


def test_two_devices_a_chip():
    assert Slice("v4:2x2x1", CHIPS["v4"], (2, 2, 1), tuple(range(8))).cores == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v5f:4x4", "--topology 'v5f:4x4': unknown chip 'v5f'. Did you mean 'v5p'?"),
        ("", "--topology '': unknown chip ''. Known: v4, v5e, v5p, v6e."),
        ("v5e", "--topology 'v5e': v5e has 2 axes; write v5e:2x2"),
        ("v5e:4", "--topology 'v5e:4': v5e has 2 axes; write v5e:2x2"),
        ("v5e:4x4x4", "--topology 'v5e:4x4x4': v5e has 2 axes; write v5e:2x2"),
        ("v5e:0x4", "--topology 'v5e:0x4': v5e has 2 axes; write v5e:2x2"),
        ("v5p:4x4", "--topology 'v5p:4x4': v5p has 3 axes; write v5p:2x2x1"),
    ],
)
def test_an_unknown_slice(name, said):
    with pytest.raises(UsageError) as error:
        tpu_slice(name)
    assert str(error.value).startswith(said.split("'v5p'?")[0])


def test_without_the_compiler_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(chips.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r'libtpu, .* pip install "kd-jax\[tpu\]"'):
        tpu_slice("v5e:4x4")


with_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason='needs libtpu: pip install "kd-jax[tpu]"'
)


@with_compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "chips", "cores"),
    [("v4:2x2x1", 4, 2), ("v5e:4x4", 16, 1), ("v5p:2x2x1", 4, 1), ("v6e:2x4", 8, 1)],
)
def test_slices_that_are_not_attached(name, chips, cores):
    target = tpu_slice(name)
    assert (target.chips, target.cores) == (chips, cores)


@with_compiler
@pytest.mark.slow
def test_a_shape_that_no_slice_has():
    with pytest.raises(UsageError, match="--topology v5e:3x9: no such slice"):
        tpu_slice("v5e:3x9")
