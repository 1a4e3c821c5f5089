"""Names for the swappable parts: one decorator names a class, checks it and derives its configuration.

Positional arguments of a part's `__init__` are wiring, given by the assembler; keyword-only arguments are
configuration, and their annotations and defaults are the Hydra schema of the part. A configuration holds
the name, never a dotted path, so it cannot run code and survives a file that moves.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, make_dataclass
from importlib import import_module
from typing import Any, Generic, TypeVar, cast, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from toolkit.errors import ConfigError, PluginError, unknown_name
from toolkit.plugins import plugin_modules

T = TypeVar("T")
C = TypeVar("C", bound=type)


class Registry(Generic[T]):
    """Maps names to the classes of one kind, and each class to a Hydra config in the group of that kind."""

    def __init__(self, kind: str, base: type[T]) -> None:
        self.kind = kind
        self.base = base
        self._classes: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[C], C]:
        """Register the decorated class as `name`.

        Raises:
            PluginError: the class is not of this kind, or the name is taken (both claimants are named).
        """

        def decorate(cls: C) -> C:
            base: type = self.base
            if not issubclass(cls, base):
                raise PluginError(f"{self.kind} '{name}': {_place(cls)} does not extend {base.__name__}")
            if name in self._classes:
                raise PluginError(
                    f"two {self.kind}s claim the name '{name}': {_place(self._classes[name])} and {_place(cls)}"
                )
            self._classes[name] = cast(type[T], cls)
            ConfigStore.instance().store(
                group=self.kind, name=name, node=config_class(name, cls), provider=cls.__module__
            )
            return cls

        return decorate

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._classes))

    def __getitem__(self, name: str) -> type[T]:
        if name not in self._classes:
            raise unknown_name(self.kind, name, list(self._classes))
        return self._classes[name]

    def build(self, options: Mapping[str, Any], *wiring: Any) -> T:
        """Construct the part that `options["name"]` names, with the other options as keywords.

        Args:
            options: the part's configuration, plain values.
            wiring: positional arguments that only the assembler knows, such as dimensions.

        Raises:
            ConfigError: a key that the part does not have, or one that it needs and did not get.
        """
        cls = self.check(options)
        return cls(*wiring, **{key: value for key, value in options.items() if key != "name"})

    def defaults(self, name: str) -> dict[str, Any]:
        """Return the options of a part that need not be given, with their values."""
        known = keyword_parameters(self[name])
        return {key: parameter.default for key, parameter in known.items() if parameter.default is not parameter.empty}

    def check(self, options: Mapping[str, Any]) -> type[T]:
        """Return the class that `options["name"]` names, if it has these options: nothing is built or loaded.

        Raises:
            ConfigError: a key that the part does not have (and who has it), or one that it needs and did not get.
        """
        name = options["name"]
        cls, known = self[name], keyword_parameters(self[name])
        for key in options:
            if key != "name" and key not in known:
                owners = [other for other in self if key in keyword_parameters(self[other])]
                hint = f" {key} is an option of {self.kind}={', '.join(owners)}." if owners else ""
                raise unknown_name(f"key of {self.kind} '{name}'", key, list(known), hint)
        for key, parameter in known.items():
            if parameter.default is parameter.empty and options.get(key, MISSING) == MISSING:
                raise ConfigError(f"{self.kind}.{key} has no default: {self.kind} '{name}' needs it")
        return cls


def keyword_parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Return the configurable parameters of a part's constructor."""
    parameters = inspect.signature(cls).parameters
    return {name: p for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


def config_class(name: str, cls: type) -> type:
    """Make the dataclass that holds the keyword-only arguments of `cls`, its name first."""
    hints = get_type_hints(cls.__init__)  # type: ignore[misc]
    fields: list[tuple[str, Any, Any]] = [("name", str, field(default=name))]
    for key, parameter in keyword_parameters(cls).items():
        default = MISSING if parameter.default is parameter.empty else parameter.default
        if isinstance(default, list | dict):
            fields.append((key, hints[key], field(default_factory=lambda value=default: value.copy())))  # type: ignore[misc]
        else:
            fields.append((key, hints[key], field(default=default)))
    return make_dataclass(f"{cls.__name__}Config", fields)


def load_plugins() -> dict[str, str]:
    """Import what every `toolkit.plugins` entry point and $TOOLKIT_PLUGINS name.

    Returns:
        module -> where it comes from, for the first lines of a log.

    Raises:
        PluginError: a plugin does not import; it is named, and nothing goes on without it.
    """
    loaded: dict[str, str] = {}
    for module, origin in plugin_modules().items():
        try:
            import_module(module)
        except PluginError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"plugin '{module}' ({origin}) does not import: {type(error).__name__}: {error}. "
                "Mend it, uninstall it, or take it out of $TOOLKIT_PLUGINS."
            ) from error
        loaded[module] = origin
    return loaded


def _place(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
