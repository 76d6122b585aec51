"""One of two hosts, as a process: `python two_hosts.py ADDRESS INDEX FOLDER stop|tell|go_on
DEVICES STAGE`: it fails amid its steps; the second one is told to stop; or both go on."""

import signal
import sys
from pathlib import Path

import jax

from kd_jax import hosts

address, index, folder, what, devices, stage = sys.argv[1:]
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", int(devices))
assert hosts.join(["run", "--hosts", f"{address},2,{index}", "digits"]) == ["run", "digits"]

import tiny_runs  # noqa: E402  once the hosts have joined

from kd_jax import pieces, stopping  # noqa: E402
from kd_jax.checkpoint import Store  # noqa: E402

pieces.PIECE_SECONDS = 0.0
told = signal.SIGTERM if index == "1" else 0
report = {
    "stop": tiny_runs.Quitter(6),
    "tell": tiny_runs.Told(6, told),
    "go_on": tiny_runs.Diary(),
}[what]
store = Store(Path(folder))
seconds = 1e9 if what == "tell" else 0.0
try:
    with stopping.listening():
        given = {"devices": 0, "store": store, "save_seconds": seconds, "report": report}
        tiny_runs.fit(getattr(tiny_runs, stage), **given)
except tiny_runs.Stopped:
    store.close()
except stopping.Stop as stop:
    print(stop.status, stop.saved)
    sys.exit()
print(hosts.several(), jax.process_count(), len(jax.devices()), report.began)
