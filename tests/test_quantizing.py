"""Stages whose networks are put on grids."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_experiment import run_of, tiny

from kd_jax import encode, files, pipeline, quantizing, size, summary
from kd_jax.config import Distill, Fuse, Gate, Prune, Quantize, Shrink, Train
from kd_jax.distill import KD
from kd_jax.errors import UsageError
from kd_jax.loop import Silent
from kd_jax.optim import Optim
from kd_jax.quantize import CALIBRATIONS
from kd_jax.quantize.network import INPUTS, QUANTISED, WEIGHTS, codes_of, grids
from kd_jax.tree import named_leaves

COMMON = {"batch": 32, "optim": Optim(learning_rate=0.05, weight_decay=1e-3)}
QUIET = {"gradient_norms": False}  # a program as large as a step's
TRAINED = {"epochs": 2, "teacher": "train", "terms": {"kd": KD()}, **QUIET, **COMMON}
STAGES = {
    "train": Train(epochs=2, **COMMON),
    "prune": Prune(epochs=2, start="train", sparsity=0.5, **COMMON),
    "as_is": Quantize(start="prune", bits=4, inputs=8, layer_bits=("classifier=8",), **COMMON),
    "taught": Quantize(start="prune", bits=3, inputs=4, scales="learned", ema=0.9, **TRAINED),
    "shared": Quantize(start="prune", bits=3, values="codebook", inputs=8, **TRAINED),
    "found": Quantize(start="train", size=0.4, per="tensor", **COMMON),
    "after": Prune(epochs=1, start="as_is", sparsity=0.75, **COMMON),
    "distil": Distill(epochs=1, start="after", teacher="as_is", **QUIET, **COMMON),
}
SEEDS = (0, 1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantise")
    return run_of(tiny(stages=STAGES, teacher=None, out=str(folder)), folder / "run")


def kernels(run, stage):
    leaves = named_leaves(run.network(stage, SEEDS).params)
    return {n: np.asarray(w) for n, w in leaves.items() if n.endswith("kernel")}


def levels(w):
    """Most distinct values in a channel of any seed."""
    rows = np.moveaxis(w, -1, 1).reshape(-1, w.shape[1])
    return max(len(np.unique(row)) for row in rows)


@pytest.mark.slow
def test_weights_have_their_bits_and_zeros_stay(run):
    before = kernels(run, "prune")
    for stage, bits in (("as_is", {"dense1": 4, "classifier": 8}), ("taught", {}), ("shared", {})):
        for name, w in kernels(run, stage).items():
            assert levels(w) <= 2 ** bits.get(name.split("/")[0], 3), (stage, name)
            zeros = before[name] == 0
            assert zeros.mean() == 0.5
            np.testing.assert_array_equal(w[zeros], 0)
    for name, w in kernels(run, "as_is").items():
        scale = grids(run.network("as_is", SEEDS).variables)[WEIGHTS][name].scale
        assert np.all(np.abs(w - before[name]) <= np.asarray(scale) / 2 + 1e-6)


def test_weights_that_share_values_are_few_of_all(run):
    for name, w in kernels(run, "shared").items():
        codes = np.asarray(codes_of(run.network("shared", SEEDS).variables)[name])
        for i in SEEDS:
            assert len(np.unique(w[i])) <= 2**3 + 1
            for code in np.unique(codes[i]):
                assert len(np.unique(w[i][codes[i] == code])) == 1
        assert np.any(w != kernels(run, "prune")[name])


def test_learned_scales_were_learned_and_others_not(run):
    begun = quantizing.begin(
        STAGES["taught"], run.model("prune"), run.data, run.network("prune", SEEDS)
    )
    before, after = (
        named_leaves(n.params[QUANTISED]) for n in (begun, run.network("taught", SEEDS))
    )
    assert before.keys() == after.keys()
    assert len(before) == 4
    for name, scale in before.items():
        assert np.any(np.asarray(scale) != np.asarray(after[name])), name


def test_later_stages_stay_on_the_grid(run):
    begun = run.network("as_is", SEEDS)
    on = grids(begun.variables)[WEIGHTS]
    for stage in ("after", "distil"):
        network = run.network(stage, SEEDS)
        jax.tree.map(
            np.testing.assert_array_equal,
            network.collections[QUANTISED],
            begun.collections[QUANTISED],
        )
        for name, w in kernels(run, stage).items():
            scale = np.asarray(on[name].scale)
            np.testing.assert_allclose(w / scale, np.round(w / scale), atol=1e-4)
            assert (w == 0).mean() >= 0.75


def test_a_size_is_kept_and_bits_differ_with_what_they_cost(run):
    found, plain = (jax.tree.map(lambda x: x[0], run.network(s, SEEDS)) for s in ("found", "train"))
    bytes_ = size.stored_bytes(found.params, found.collections, found.masks)
    assert bytes_ <= 0.4 * size.dense_bytes(plain.params, plain.collections)


@pytest.mark.usefixtures("unmeasured")
def test_what_it_says_is_what_its_kept_network_says(run):
    """Evaluated anew from disk, as a model like any other; and the report has its row."""
    results = summary.summarise(run, "python run.py run tiny", Silent())
    rows = {row.stage: row for row in results.rows}
    assert rows["as_is"].bytes[0] < rows["prune"].bytes[0]
    assert "4 bits, inputs 8 bits" not in rows["as_is"].model  # the layers differ
    assert rows["taught"].model.endswith("3 bits, inputs 4 bits")
    assert rows["as_is"].label == "student and pruned and quantised, as_is"
    assert rows["as_is"].agreement[0] > 0.3  # a tenth by chance
    assert rows["as_is"].validation_accuracy is None


@pytest.mark.parametrize("stage", ["as_is", "taught", "shared", "after"])
def test_a_file_of_it_decodes_to_it_bit_for_bit(run, stage, tmp_path):
    """And takes little more than its bits."""
    found = files.encoded(run, stage, 1)
    path = tmp_path / "network.kdz"
    path.write_bytes(found.data)
    loaded = encode.load(path)
    kept = jax.tree.map(lambda x: np.asarray(x[1:]), run.network(stage, SEEDS).variables)
    ours, theirs = named_leaves(kept), named_leaves(loaded.snapshot.variables)
    assert ours.keys() == theirs.keys()
    for name, x in ours.items():
        assert np.asarray(theirs[name]).tobytes() == np.asarray(x).tobytes(), name
    inputs = np.linspace(-1, 1, 2 * 64, dtype=np.float32).reshape(2, 8, 8, 1)
    logits = [
        jax.jit(lambda v, x, model=model: model.forward(v, x)[0].logits)(
            jax.tree.map(lambda x: x[0], variables), inputs
        )
        for model, variables in (
            (run.model(stage), kept),
            (loaded.model, loaded.snapshot.variables),
        )
    ]
    np.testing.assert_array_equal(*logits)


def test_bytes_by_hand():
    assert size.grid_bytes(100, 100, 4, 10) == 50 + 40 + 1
    assert size.grid_bytes(100, 10, 8, 1) == (10 * 8 + 100 + 7) // 8 + 4 + 1
    assert size.coded_bytes(100, 100, 8) == (300 + 7) // 8 + 32 + 1
    assert size.coded_bytes(100, 10, 8) == (100 + 30 + 7) // 8 + 32 + 1


@pytest.mark.parametrize("name", ["taught", "shared"])
def test_it_goes_on_where_it_was_stopped(run, name, tmp_path):
    """In two halves: bit for bit the network of one go."""
    from kd_jax import stages
    from kd_jax.checkpoint import Store

    given = {
        "start": quantizing.begin(
            STAGES[name], run.model("prune"), run.data, run.network("prune", SEEDS)
        ),
        "teacher": (run.model("train"), run.network("train", SEEDS)),
        "seeds": SEEDS,
        "devices": 1,
    }

    class Stop(Silent):
        def epoch(self, record):
            raise KeyboardInterrupt

    store = Store(tmp_path / "store")
    with pytest.raises(KeyboardInterrupt):
        stages.run(
            STAGES[name],
            run.model(name),
            run.data,
            store=store,
            report=Stop(),
            save_seconds=0,
            **given,
        )
    again = stages.run(STAGES[name], run.model(name), run.data, store=store, **given)
    jax.tree.map(np.testing.assert_array_equal, again.params, run.network(name, SEEDS).params)


BAD = [
    ({"bits": 9}, r"bits 9 must be in \[2, 8\]"),
    ({"bits": 1}, r"bits 1 must be in \[2, 8\]"),
    ({"bits": 0, "values": "codebook"}, r"bits 0 must be in \[1, 8\]"),
    ({"inputs": 1}, "inputs 1 must be 0, or 2 to 8"),
    ({"size": 1.5}, r"size 1.5 must be above 0"),
    ({"size": 0.5, "layer_bits": ("a=8",)}, "size and layer-bits are both set"),
    ({"layer_bits": ("Dense_0",)}, "write PATTERN=BITS"),
    ({"layer_bits": ("Dense_0=1",)}, r"layer-bits 1 must be in \[2, 8\]"),
    ({"scales": "learned"}, "nothing is trained"),
    ({"start": ""}, "start is empty"),
    ({"batches": 0}, "batches 0"),
    ({"epochs": -1}, "epochs -1 must be at least 0"),
]


@pytest.mark.parametrize(("fields", "message"), BAD, ids=[str(fields) for fields, _ in BAD])
def test_bad_input(fields, message):
    with pytest.raises(UsageError, match=message):
        Quantize(**{"start": "train", **fields})


LATE = [
    ({"layer_bits": ("nothing=8",)}, "--q.layer-bits nothing=8 finds no layer"),
    ({"include": ("nothing",)}, "--q.include 'nothing' finds no kernel"),
    ({"exclude": ("kernel",)}, "nothing is left to quantise"),
]


@pytest.mark.parametrize(("fields", "message"), LATE, ids=[str(fields) for fields, _ in LATE])
def test_what_does_not_fit_the_network_is_refused_before_training(fields, message, tmp_path):
    stages = {"train": STAGES["train"], "q": Quantize(start="train", **fields, **COMMON)}
    given = tiny(stages=stages, teacher=None, out=str(tmp_path))
    with pytest.raises(UsageError, match=message):
        pipeline.prepare(given, tmp_path, Silent())


@pytest.mark.parametrize("kind", [Shrink, Gate, Quantize])
def test_what_is_quantised_is_cut_and_gated_no_more(kind):
    stages = {**STAGES, "late": kind(start="after", **COMMON)}
    with pytest.raises(UsageError, match=r"late.start 'after': that network is quantised"):
        tiny(stages=stages, teacher=None)


def test_no_soup_of_quantised_networks():
    with pytest.raises(UsageError, match=r"soup.of after: quantised"):
        tiny(stages={**STAGES, "soup": Fuse(of=("prune", "after"), how="soup")}, teacher=None)


def test_a_size_that_no_bits_have_says_the_nearest(run):
    stage = dataclasses.replace(STAGES["found"], size=0.01)
    network = run.network("train", SEEDS)
    with pytest.raises(UsageError, match=r"size leaves .* bytes"):
        quantizing.begin(stage, run.model("train"), run.data, network)


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_every_calibration_keeps_what_8_bits_can(name, run):
    stage = dataclasses.replace(
        STAGES["as_is"], bits=8, layer_bits=(), calibration=CALIBRATIONS[name]
    )
    network = run.network("prune", SEEDS)
    found = quantizing.begin(stage, run.model("prune"), run.data, network)
    of_inputs = grids(found.variables)[INPUTS]
    assert {*of_inputs} == {"dense1/kernel", "classifier/kernel"}
    for grid in of_inputs.values():
        assert np.all(np.asarray(grid.scale) > 0)
        assert np.all(np.asarray(grid.zero) == np.round(np.asarray(grid.zero)))
