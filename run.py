"""The command line of kd_jax: `python run.py --help`."""

import gc
import os
import sys

# Before jax is imported: nothing of what XLA and absl say at start-up helps the user.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Nothing of what libraries define on import is ever garbage: looking for some meanwhile, and among
# it again at the end, would take a second of each command.
gc.disable()

from kd_jax.cli import main  # noqa: E402 (after gc.disable)

gc.freeze()
gc.enable()

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
