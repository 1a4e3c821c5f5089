"""What parts there are, read from the sources without importing them: `toolkit list` answers at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

KIND_OF = {
    "ENCODERS": "encoder",
    "ADAPTERS": "adapter",
    "DECODERS": "decoder",
    "INTERLEAVERS": "interleaver",
    "LOSSES": "loss",
}


@dataclass(frozen=True)
class Part:
    """One registered name."""

    kind: str
    name: str
    summary: str
    """first line of the class' docstring"""
    module: str
    origin: str
    """`built in`, or the distribution it comes from"""


def list_parts(plugins: dict[str, str]) -> list[Part]:
    """Find every `@KIND.register("name")` of the toolkit and of plugin modules.

    Args:
        plugins: module -> origin.
    """
    here = Path(__file__).parent
    parts: list[Part] = []
    for folder in ("encoders", "adapters", "decoders", "interleavers", "losses"):
        for path in sorted((here / folder).glob("*.py")):
            parts.extend(_parts(path, f"toolkit.{folder}.{path.stem}", "built in"))
    for module, origin in plugins.items():
        try:
            spec = find_spec(module)
        except ModuleNotFoundError:
            spec = None
        if spec is None or spec.origin is None:
            parts.append(Part("?", module, "(plugin not found: it would stop every command)", module, origin))
            continue
        root = Path(spec.origin)
        for path in sorted(root.parent.rglob("*.py")) if root.name == "__init__.py" else [root]:
            parts.extend(_parts(path, module, origin))
    return sorted(parts, key=lambda part: (part.kind, part.name))


def list_overlays(folder: Path) -> dict[str, str]:
    """Return the recipes of a folder with the first comment of each."""
    overlays = {}
    for path in sorted(folder.glob("*.yaml")):
        comments = [line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#")]
        overlays[path.stem] = next((line for line in comments if line and not line.startswith("@")), "")
    return overlays


def _parts(path: Path, module: str, origin: str) -> Iterator[Part]:
    try:
        tree = ast.parse(path.read_text())
    except SyntaxError as error:
        yield Part("?", module, f"(does not parse, line {error.lineno}: it would stop every command)", module, origin)
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        for decorator in node.decorator_list:
            match decorator:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id=registry), attr="register"),
                    args=[ast.Constant(value=str(name))],
                ) if registry in KIND_OF:
                    summary = (ast.get_docstring(node) or "").split("\n")[0]
                    yield Part(KIND_OF[registry], name, summary, module, origin)
