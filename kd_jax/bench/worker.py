"""One side of a comparison, in a process of its own: `python worker.py SIDE`, SIDE a file.

SIDE has `prepare(request) -> (run, facts)`: run(steps) returns once they are computed, facts()
tells of the nets. Requests and replies are JSON, a line each: {"prepare": request}; {"run": steps},
answered by the seconds that took and the process's peak memory so far; {"facts": null}. The process
ends with its input.

Standard library only: SIDE may be at home in another environment than kd_jax.
"""

import json
import os
import resource
import runpy
import sys
import time


def peak_bytes() -> int:
    """The most memory this process has had resident: VmHWM where Linux tells it.

    Elsewhere ru_maxrss. On Linux that is no less than what the process had that started this one.
    """
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if "VmHWM" in line)
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def main(side: str) -> None:
    # Replies have the pipe to themselves: whatever a library prints goes to the errors.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    # Python looks first in the folder of its script, where our files could hide others' modules.
    folder = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [path for path in sys.path if path != folder]
    prepare, run, facts = runpy.run_path(side)["prepare"], None, dict
    for line in sys.stdin:
        request = json.loads(line)
        if "prepare" in request:
            reply, (run, facts) = {}, prepare(request["prepare"])
        elif "facts" in request:
            reply = facts()
        else:
            assert run is not None, "prepare comes first"
            began = time.perf_counter()
            run(request["run"])
            reply = {"seconds": time.perf_counter() - began, "peak_bytes": peak_bytes()}
        replies.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
