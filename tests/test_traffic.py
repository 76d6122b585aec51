"""Traffic read from programs written out by hand, and from one that was compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kd_jax import traffic
from kd_jax.traffic import Collective


def program(*lines, rest=""):
    """A module whose entry has these instructions after its parameter f32[100]."""
    body = "\n".join(f"  {line}" for line in lines)
    return (
        "HloModule m, is_scheduled=true\n\n"
        f"{rest}\n"
        "ENTRY %main (p: f32[100]) -> f32[100] {\n"
        '  %p = f32[100]{0} parameter(0), metadata={op_name="p (q)"}\n'
        f"{body}\n}}\n"
    )


# Collectives


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "%a = f32[100]{0:T(128)S(1)} all-reduce(%p), replica_groups={}, to_apply=%add",
            Collective("all-reduce", 8, 400, 1),
        ),
        (
            "%a = (bf16[3,5]{1,0}, /*index=1*/f32[2]{0:T(128)}) all-reduce(%p, %p), "
            "replica_groups=mesh['data'=4,'model'=2] {'data'}, to_apply=%add",
            Collective("all-reduce", 4, 30 + 8, 1),
        ),
        (
            "%a = f32[100]{0} all-reduce-start(%p), replica_groups=[4,2]<=[8], to_apply=%add",
            Collective("all-reduce", 2, 400, 1),
        ),
        (
            "%a = (f32[100]{0}, f32[400]{0}) all-gather-start(%p), "
            "replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}",
            Collective("all-gather", 4, 1600, 1),
        ),
        (
            "%a = f32[25]{0} reduce-scatter(%p), replica_groups=[2,4]<=[8], dimensions={0}",
            Collective("reduce-scatter", 4, 400, 1),
        ),
        (
            "%a = (f32[100]{0}, f32[100]{0}, u32[], u32[]) collective-permute-start(%p), "
            "source_target_pairs={{0,1},{1,0}}",
            Collective("collective-permute", 8, 400, 1),
        ),
        ("%a = f32[100]{0} all-reduce-done(%p)", None),
        ("%all-reduce.1 = f32[100]{0} add(%p, %p)", None),
    ],
)
def test_a_collective(line, expected):
    assert traffic.collectives(program(line), 8) == ([] if expected is None else [expected])


def test_what_a_device_sends():
    """By rings of 4: an all-reduce is a reduce-scatter and an all-gather, 3/4 of the array each."""
    sent = {kind: Collective(kind, 4, 400, 1).sent for kind in traffic.KINDS}
    assert sent == {
        "all-reduce": 600,
        "all-gather": 300,
        "reduce-scatter": 300,
        "all-to-all": 300,
        "collective-permute": 400,
    }
    assert Collective("all-reduce", 1, 400, 1).sent == 0


def test_collectives_inside_loops_and_calls_count_each_turn():
    inner = (
        "%body (q: f32[100]) -> f32[100] {\n"
        "  %q = f32[100]{0} parameter(0)\n"
        "  ROOT %r = f32[100]{0} all-reduce(%q), replica_groups={}, to_apply=%add\n}\n\n"
        "%wrap (s: f32[100]) -> f32[100] {\n"
        "  %s = f32[100]{0} parameter(0)\n"
        "  ROOT %t = f32[100]{0} fusion(%s), kind=kCustom, calls=%body\n}\n"
    )
    turns = 'backend_config={"known_trip_count":{"n":"7"}}'
    text = program(
        f"%w = f32[100]{{0}} while(%p), condition=%cond, body=%body, {turns}",
        "%c = f32[100]{0} call(%w), to_apply=%wrap",
        rest=inner,
    )
    assert traffic.collectives(text, 4) == [Collective("all-reduce", 4, 8 * 400, 8)]


def test_the_gradient_of_replicated_weights_is_reduced_over_all_devices():
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    whole, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    gradient = jax.jit(jax.grad(lambda w, x: jnp.sum(jnp.tanh(x @ w))), out_shardings=whole)
    w = jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=whole)
    x = jax.ShapeDtypeStruct((12, 8), jnp.float32, sharding=split)
    text = gradient.lower(w, x).compile().as_text()
    assert traffic.collectives(text, 4) == [Collective("all-reduce", 4, 4 * 8 * 16, 1)]


# Memory


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["%a = f32[100]{0} add(%p, %p)"], 3 * 400),
        (["%a = f32[100]{0:T(128)S(1)} negate(%p)", "%b = f32[100]{0} negate(%a)"], 2 * 400),
        (["%a = bf16[50]{0} convert(%p)"], 400 + 100),
        (["%a = bf16[50]{0:T(256)(128)(2,1)} convert(%p)"], 400 + 512),
        (["%a = u8[9,3,32]{2,0,1:T(8,128)(4,1)} iota(), iota_dimension=0"], 3 * 16 * 128),
        (["%a = u8[9,3,32]{0,2,1:T(32,128)(4,1)} iota(), iota_dimension=0"], 3 * 32 * 128),
        (["%a = f32[5]{0:T(8,128)} iota(), iota_dimension=0"], 4 * 8 * 128),
        (["%a = f32[]{:T(128)} constant(1)", "%b = f32[]{:T(128)} negate(%a)"], 2 * 512),
        (["%a = pred[100]{0} compare(%p, %p), direction=LT"], 800 + 100),
        (["%a = s4[101]{0} convert(%p)"], 400 + 51),
        (["%t = (f32[100]{0}) tuple(%p)", "%g = f32[100]{0} get-tuple-element(%t), index=0"], 0),
        (["%a = f32[10]{0} slice(%p), slice={[0:10]}"], 2 * 40),
        (["%a = f32[10]{0:S(1)} slice(%p), slice={[0:10]}"], 40),
        (
            [
                "%a = (f32[100]{0:S(1)}, f32[100]{0}, u32[]{:S(2)}) copy-start(%p)",
                "%b = f32[100]{0:S(1)} copy-done(%a)",
            ],
            400,
        ),
        (["%a = ((f32[100]{0}), f32[9]{0:S(1)}, s32[]{:S(2)}) slice-start(%p), slice={[0:9]}"], 36),
        (
            [
                "%u = f32[10]{0:S(1)} iota(), iota_dimension=0",
                "%z = s32[]{:S(1)} constant(0)",
                "%a = f32[100]{0} dynamic-update-slice(%p, %p, %z)",
            ],
            2 * 400,
        ),
    ],
)
def test_bytes_moved(lines, expected):
    assert traffic.moved(program(*lines)) == expected


def test_of_an_operand_that_a_fusion_gathers_from_only_the_pieces_are_read():
    inner = (
        "%gathers (a: s32[4], b: f32[100]) -> f32[4] {\n"
        "  %b = f32[100]{0} parameter(1)\n"
        "  %a = s32[4]{0} parameter(0)\n"
        "  ROOT %g = f32[4]{0} gather(%b, %a), slice_sizes={1}\n}\n"
    )
    text = program(
        "%i = s32[4]{0:S(1)} iota(), iota_dimension=0",
        "%a = f32[4]{0} fusion(%i, %p), kind=kLoop, calls=%gathers",
        rest=inner,
    )
    assert traffic.moved(text) == 16 + 16
    assert traffic.moved(text.replace("gather(%b, %a)", "scatter(%b, %a)")) == 400 + 16


def test_what_hangs_on_arguments_that_never_change_is_done_once():
    text = (
        "HloModule m, input_output_alias={ {}: (1, {}, may-alias) }, is_scheduled=true\n\n"
        "ENTRY %main (data: f32[10], state: f32[10]) -> f32[10] {\n"
        "  %data = f32[10]{0} parameter(0)\n"
        "  %state = f32[10]{0} parameter(1)\n"
        "  %once = f32[10]{0} copy(%data)\n"
        "  ROOT %sum = f32[10]{0} add(%once, %state)\n}\n"
    )
    assert traffic.moved(text) == 3 * 40
    fetched = text.replace("%once = f32[10]{0}", "%once = f32[10]{0:S(1)}")
    assert traffic.moved(fetched) == 40 + 2 * 40  # anew in each call: the chip can't keep it
    assert traffic.moved(text.replace("(1, {}, may-alias)", "")) == 5 * 40


def test_a_compiled_program_reads_its_arguments_and_writes_its_result():
    shape = jax.ShapeDtypeStruct((64, 32), jnp.float32)
    text = jax.jit(lambda x, y: jnp.tanh(x) * y + 1).lower(shape, shape).compile().as_text()
    assert traffic.moved(text) == 3 * 4 * 64 * 32


def test_cycles_are_what_the_compiler_notes():
    noted = 'backend_config={"window_config":{"estimated_cycles":"70"}}'
    text = program(f"%a = f32[100]{{0}} fusion(%p), kind=kLoop, calls=%f, {noted}")
    assert traffic.cycles(text) == 70
    assert traffic.cycles(program("%a = f32[100]{0} negate(%p)")) == 0
