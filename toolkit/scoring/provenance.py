"""What made a number: the versions of the packages and the commit of the checkout."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import toolkit

PACKAGES = ("torch", "transformers", "sacrebleu", "jiwer")
WRITTEN = ("answers/**", "plots/**", "RESULTS.md", "results.json")
"""what a table writes into its checkout as it goes; no number depends on it, on anything else one may"""


def versions() -> dict[str, str]:
    """Return the versions of Python, the toolkit and what computes scores, without importing any of them."""
    found = {"python": platform.python_version(), "toolkit": toolkit.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def commit(package: Path = Path(toolkit.__file__).parent) -> str | None:
    """Return the commit of the checkout of `package`, with `+changes` where more differs than what tables write.

    None where there is no git, no checkout, or where the package merely lies inside somebody else's checkout
    (an environment in a project's folder).
    """
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    head = _git(package, "rev-parse", "HEAD")
    written = (f":(top,exclude,glob)**/{path}" for path in WRITTEN)
    changes = _git(package, "status", "--porcelain", "--untracked-files=all", "--", ":/", *written)
    return None if head is None else head + ("+changes" if changes else "")


def _git(folder: Path, *arguments: str) -> str | None:
    """Ask git and return its answer, None where it has none."""
    # Within a git hook these variables point at some repository, whatever the folder.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # Without --no-optional-locks, `status` could stand in the way of a git that is at work.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
