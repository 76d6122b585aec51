"""Where compiled programs are kept between runs of the tests. One is found by all that it is made
of, so that whatever changed is compiled anew; `pytest --cache-clear` deletes them all."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / ".pytest_cache" / "d" / "programs"
LIMIT = 2 * 2**30  # bytes


def prune(folder=FOLDER, limit=LIMIT):
    """Programs that nothing needs any more are not told from others: above a limit all of them go.
    A run of other tests, that is about to read one, compiles it anew."""
    sizes = {path: path.stat().st_size for path in folder.glob("*")}
    for path in sizes if sum(sizes.values()) > limit else ():
        path.unlink(missing_ok=True)
