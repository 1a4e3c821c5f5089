"""Which plugins there are: modules named by the entry-point group or by an environment variable."""

from __future__ import annotations

import os
from importlib.metadata import entry_points

GROUP = "toolkit.plugins"
VARIABLE = "TOOLKIT_PLUGINS"


def plugin_modules() -> dict[str, str]:
    """Return module -> where it comes from, of all plugins, without importing any.

    Entry points of the group `toolkit.plugins` come first, then $TOOLKIT_PLUGINS (modules, comma-separated).
    """
    modules: dict[str, str] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        modules[entry.module] = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "entry point"
    for module in os.environ.get(VARIABLE, "").replace(",", " ").split():
        modules.setdefault(module, f"${VARIABLE}")
    return modules
