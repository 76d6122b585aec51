"""The command line of kd_jax: `python run.py --help`."""

import os
import sys

# Before jax is imported: nothing of what XLA and absl say at start-up helps the user.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from kd_jax.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
