"""constraints-oldest.txt, with which tests run too, holds the oldest versions that are allowed."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
NEEDED = [Requirement(x) for x in PROJECT["dependencies"] + EXTRAS["test"] + EXTRAS["export"]]


def pinned(file):
    lines = [
        Requirement(line.split("#")[0]) for line in file.read_text().splitlines() if line[0] != "#"
    ]
    return {x.name.lower(): Version(str(x.specifier).removeprefix("==")) for x in lines}


OLDEST = pinned(ROOT / "constraints-oldest.txt")


@pytest.mark.parametrize("needed", [x for x in NEEDED if x.name != "kd-jax"], ids=lambda x: x.name)
def test_the_oldest_version_is_the_one_that_is_tried(needed):
    (least,) = (Version(x.version) for x in needed.specifier if x.operator == ">=")
    oldest = OLDEST[needed.name.lower()]
    # 0.8 is met by 0.8.1, where there never was a 0.8.0.
    assert oldest.release[: len(least.release)] == least.release
