"""Errors that a user can act on: each message says what is wrong, where, and what to do.

Everything here derives from `ToolkitError`, which the command line prints as one line without a trace.
Any other exception is a bug of ours, and its trace is shown.
"""

from collections.abc import Collection, Iterable


class ToolkitError(Exception):
    """Base of all errors whose message is written for the user."""


class ConfigError(ToolkitError):
    """A configuration cannot be honoured: unknown name, impossible value or impossible combination."""


class UnknownNameError(ConfigError, LookupError):
    """A name that no part, task, asset or recipe has; the message lists the nearest and all names."""


class PluginError(ToolkitError):
    """A plugin does not import, or two plugins claim one name."""


class DataError(ToolkitError):
    """Input data is missing, broken or contradicts itself; the message names the utterance and file."""


class StaleCacheError(ToolkitError):
    """A cache was made by something else than what is configured now; it is refused, never used."""


class CheckpointError(ToolkitError):
    """A checkpoint does not fit the model that it is loaded into."""


class ServerError(ToolkitError):
    """A server that is to answer questions cannot be reached, refuses, or answers what it was not asked for."""


class RankError(ToolkitError):
    """A process of a training over several is gone, stuck, or was started on something else than the others."""


class AssetError(ToolkitError):
    """A packaged model is not there, or is not what the catalogue says."""


def unknown_name(kind: str, name: str, known: list[str], hint: str = "") -> UnknownNameError:
    """Make the error for a name nobody has: the nearest name first, then all of them, then another hint."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    nearest = f" Did you mean '{close[0]}'?" if close else ""
    all_names = ", ".join(sorted(known)) or "(none)"
    return UnknownNameError(f"unknown {kind} '{name}'.{nearest} There are: {all_names}.{hint}")


def check_names(kind: str, names: Iterable[str], known: Collection[str]) -> None:
    """Refuse the first of some names that nobody has.

    Raises:
        UnknownNameError: it is not `known`.
    """
    for name in names:
        if name not in known:
            raise unknown_name(kind, name, list(known))
