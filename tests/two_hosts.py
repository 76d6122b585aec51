"""One of two hosts, as a process: `python two_hosts.py ADDRESS INDEX FOLDER stop|go_on`."""

import sys
from pathlib import Path

import jax

from kd_jax import hosts

address, index, folder, what = sys.argv[1:]
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
assert hosts.join(["run", "--hosts", f"{address},2,{index}", "digits"]) == ["run", "digits"]

import tiny_runs  # noqa: E402  once the hosts have joined

from kd_jax import loop  # noqa: E402
from kd_jax.checkpoint import Store  # noqa: E402

loop.PIECE_SECONDS = 0.0
report = tiny_runs.Quitter(6) if what == "stop" else tiny_runs.Diary()
store = Store(Path(folder))
try:
    tiny_runs.fit(tiny_runs.PRUNE, devices=0, store=store, save_seconds=0.0, report=report)
except tiny_runs.Stopped:
    store.close()
print(hosts.several(), jax.process_count(), len(jax.devices()), report.began)
