"""The flow goes one way: a file imports only what lies upstream of it."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# The rooms from upstream to downstream. A file may import from the lines above its own; within a
# line, files don't know each other, but for those of one package.
FLOW = """
errors halves tree randomness batch units hlo platform stopping checksums packing jsons
convolution datasets values typed chips traffic arrays regular opening
products
splits stream sources cache hosts synthetic versions
digits writing
data randaugment
leaks
augment
freezing
models forward optim cost
distill prune quantize nnx_models pretrained
teacher devices state shares
ensembles soups weights soundness
reuse mutual
config_stages
config_distill config_shift config_fuse
config_prune config_shrink config_gate config_quantize
config_order
config objective metrics cka program zoo
portion
serialize learning lessons many events waypoints history
checkpoint
splicing batches
checks step
faults
shrinking
scoring
changes cuts calibration gating
encode
size
quantizing
compiled replay stage_settings
pieces
breakdown
loop
jobs roofline
taught fusion shifting
stages
__init__
logs flags startup extensions latency locks
sweep
naming kinds
runs
chosen run_fusion run_checks transfer earlier
pipeline files
ahead
plan
sparse savings
results explain
environment noise labels figures delivery
published
reproduction benchmark
export
latency_worker
latencies
latencies_table
columns notes heatmaps sparsities
columns_gates
plots_many plots_pareto
plots tables
plots_explain
summary report progress bench plan_table
cli_experiment cli_list cli_run
cli_reproduce
cli_plan cli_inspect cli_explain cli_encode cli_evaluate cli_export cli_latency cli_report
cli
"""
RANK = {room: rank for rank, line in enumerate(FLOW.split("\n")) for room in line.split()}


def files():
    return sorted((ROOT / "kd_jax").rglob("*.py"))


def module(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in files()}


def imported(path):
    """All modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def room(name):
    """The file, or the package, of a module."""
    return name.split(".")[1] if "." in name else "__init__"


@pytest.mark.parametrize("name", MODULES)
def test_a_file_imports_only_what_lies_upstream(name):
    assert room(name) in RANK, f"say in FLOW where {name} lies"
    for other in imported(MODULES[name]) & MODULES.keys():
        if room(other) != room(name):
            assert RANK[room(other)] < RANK[room(name)], f"{name} imports {other}"


def test_no_circles():
    graph = {name: imported(path) & MODULES.keys() for name, path in MODULES.items()}
    graphlib.TopologicalSorter(graph).prepare()


def test_the_flow_names_no_room_that_is_gone():
    assert {room(name) for name in MODULES} == set(RANK)


def test_only_models_and_forward_know_flax_modules():
    for name, path in MODULES.items():
        if room(name) not in ("models", "forward", "nnx_models"):
            assert not {"flax.linen", "flax.nnx"} & imported(path), name
            assert not re.search(r"from flax import .*\b(linen|nnx)\b", path.read_text()), name


def test_the_core_neither_prints_nor_reads_the_clock():
    """Under jit all is a function of arrays: disk, clock and printing live at the edge."""
    for name, path in MODULES.items():
        if RANK[room(name)] <= RANK["compiled"] and room(name) not in ("checkpoint", "cache"):
            assert not {"time", "rich", "logging"} & imported(path), name
            assert not re.search(r"^\s*print\(", path.read_text(), re.MULTILINE), name


# These three have no other name yet.
GONE = (
    r"jax\.tree_map|jax\.tree_util\.tree_map\b|\bpmap\b|PRNGKey|flax\.training|"
    r"jax\.experimental(?! import (topologies|multihost_utils)|\.sparse import BCSR)"
)


@pytest.mark.parametrize("folder", ["kd_jax", "experiments", "tests"])
def test_no_removed_interface(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        if path.name != "test_imports.py":
            found = re.search(GONE, path.read_text(encoding="utf-8"))
            assert not found, f"{path}: {found}"


def test_run_py_is_an_entrance_only():
    assert len((ROOT / "run.py").read_text(encoding="utf-8").splitlines()) < 60
