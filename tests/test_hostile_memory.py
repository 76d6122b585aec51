"""What a few bytes from a stranger take of memory: measured, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest
import tensorstore
from hostile import constant, kdz, one_tensor, safetensors

from kd_jax import state
from kd_jax.checkpoint import Store
from kd_jax.encode.bits import Writer

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="Linux alone tells of peaks of memory"
)
ROOT = Path(__file__).resolve().parent.parent
MOST = 64  # MiB
# How much more memory it had at most while it read each file; the first of a kind warms it up.
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from kd_jax import arrays, encode, pretrained
from kd_jax.checkpoint import Store
from kd_jax.encode import decoded
from kd_jax.errors import UsageError
from kd_jax.models import MLP
from kd_jax.replay import Replay

READERS = {
    ".kdz": lambda path: decoded(path.read_bytes()),
    ".net": encode.load,
    ".safetensors": lambda path: arrays.read(path, "delete it"),
    ".weights": lambda path: pretrained.look(path, MLP(), {}),
    ".store": lambda path: Store(path).load(),
}

def memory(which):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(which):
            return int(line.split()[1]) / 2**10

for name in sys.argv[1:]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, path = memory("VmRSS"), Path(name)
    try:
        READERS[path.suffix](path)
        said = "read"
    except UsageError:
        said = "refused"
    print(path.name, said, round(memory("VmHWM") - before))
"""


def grid() -> bytes:
    """Numbers on a grid that are all the same: no bit each."""
    out = Writer()
    for number in (0, 0):  # neither scale nor zero point has an axis
        out.number(number)
    out.data += bytes(4)
    out.signed(0)
    out.number(0)
    out.data.append(0)
    out.signed(0)
    out.number(1)
    out.number(0)
    out.data.append(0)
    return bytes(out.data)


def header(shape):
    return {"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}


MANY = [1 << 20]
FILES = {
    "warm.kdz": one_tensor([7]),
    "shared.kdz": one_tensor([(1 << 20)]),
    "double.kdz": one_tensor([(1 << 20)], "float64"),
    "grid.kdz": one_tensor(MANY, data=grid(), kind="grid"),
    "none.kdz": one_tensor(MANY, "float64", form="gaps14", data=b"\0\0" + constant("float64")),
    "more.kdz": one_tensor([1 << 24]),
    "huge.kdz": one_tensor([10**15]),
    "symbols.kdz": one_tensor([2**40], "int8", data=bytes(64)),
    "lists.kdz": kdz(b'{"about":null,"tensors":[' + b"[]," * 330_000 + b"[]]}"),
    "deep.kdz": kdz(b"[" * 1_000_000),
    "blanks.kdz": kdz(b" " * (1 << 26)),
    "net.net": kdz(b'{"about":{"made":' + b'{"of":' * 900 + b"1" + b"}" * 901 + b',"tensors":[]}'),
    "shape.safetensors": safetensors(header([10**15]), bytes(4)),
    "head.safetensors": (10**15).to_bytes(8, "little") + b"{}",
    "shape.weights": safetensors(header([2**31, 2**31, 2**31]), bytes(4)),
}


@pytest.fixture(scope="module")
def peaks(tmp_path_factory):
    """{file: (whether it was read, how many MiB its reading took)}."""
    folder = tmp_path_factory.mktemp("hostile")
    for name, data in FILES.items():
        assert len(data) < 80_000
        (folder / name).write_bytes(data)
    changes = {
        "warm": {},
        "shape": {"shape": [1, 10**5, 10**4]},
        "chunk": {"chunks": [1, 10**9, 1]},
    }
    for name, change in changes.items():
        place = folder / f"{name}.store"
        Store(place).finish(state.network({"kernel": jnp.ones((6, 5))}), {})
        spec = {"driver": "ocdbt", "base": f"file://{place}/final/"}
        files = tensorstore.KvStore.open(spec).result()
        files["params.kernel/.zarray"] = json.dumps(
            json.loads(files["params.kernel/.zarray"]) | change
        ).encode()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, sorted(folder.iterdir(), key=order))],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    return {name: (said, int(mib)) for name, said, mib in rows}


def order(path):
    return not path.name.startswith("warm"), path.name


READ = ("warm.kdz", "warm.store", "shared.kdz", "double.kdz", "grid.kdz", "none.kdz")


@pytest.mark.parametrize("name", [*FILES, "warm.store", "shape.store", "chunk.store"])
def test_few_bytes_take_little_memory(peaks, name):
    said, mib = peaks[name]
    assert said == ("read" if name in READ else "refused")
    assert name.startswith("warm") or mib <= MOST
