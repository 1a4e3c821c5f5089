"""The design as data, held against the sources: who may import whom, and the doors of third parties."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLKIT = ROOT / "toolkit"

MAY_IMPORT = {
    "errors": "",
    "distributions": "",
    "types": "distributions",
    "plugins": "",
    "listing": "",
    "registry": "errors plugins",
    "interfaces": "registry types",
    "limits": "errors",
    "rules": "errors",
    "schema": "",
    "config": "errors limits registry schema",
    "conf": "",
    "assets": "errors",
    "encoders": "assets data.kmeans data.units errors interfaces types",
    "adapters": "errors interfaces types",
    "decoders": "assets errors interfaces types",
    "interleavers": "errors interfaces types",
    "losses": "errors interfaces types",
    "data": "assets errors interfaces types",
    "models": "errors interfaces types",
    "training": "data errors interfaces models types",
    "scoring": "errors rules",
    "stages": "assets config data errors interfaces models rules schema scoring training types",
    "plan": "assets config data decoders errors interfaces models stages types",
    "sweep": "config errors models scoring stages training types",
    "suites": "config data errors interfaces scoring stages training",
    "tables": "config data errors scoring stages sweep",
    "testing": "decoders encoders errors interfaces registry types",
    "templates": "decoders errors interfaces interleavers types",
    "new": "errors listing plugins",
    "cli": "assets config errors interfaces interleavers listing new plugins registry stages tables testing",
    "__main__": "cli",
}
"""part of toolkit/ -> the other parts, or single files of them, that it may import"""

KINDS = ("encoders", "adapters", "decoders", "interleavers", "losses")
SHARED = {
    "adapters/attention", "adapters/ctc", "adapters/ctc_compress", "adapters/stack", "decoders/attention",
    "decoders/causal_lm", "decoders/compiled", "decoders/greedy", "decoders/instead", "decoders/joined",
    "decoders/last_layer", "decoders/norms", "decoders/packed", "decoders/packing", "decoders/prefixes",
    "decoders/row_cache", "encoders/taps", "interleavers/runs", "losses/chunks",
}  # fmt: skip
"""siblings of a kind never import each other, but for these: what several of them are made of"""

PLUGINS_MAY_IMPORT = "errors interfaces types"
PLUGIN_TESTS_MAY_IMPORT = "errors interfaces registry testing types"

DOORS = {
    "torch": "distributions types interfaces adapters/* decoders/* encoders/* losses/* assets/gguf assets/pretrained "
    "data/* models/* plan/* training/* stages/* suites/asking sweep/cost templates/* testing/*",
    "numpy": "assets/* data/* scoring/* suites/scores",
    "transformers": "decoders/* encoders/* assets/gguf assets/pretrained data/tokenization scoring/normalisation "
    "stages/adopt stages/attention_times stages/recognise testing/*",
    "huggingface_hub": "assets/pretrained",
    "tokenizers": "assets/gguf testing/*",
    "lhotse": "data/* stages/align stages/encode stages/imitate stages/prepare",
    "pytorch_lightning": "stages/* training/*",
    "peft": "decoders/lora models/encoder_training",
    "sentencepiece": "data/tokenization",
    "hydra": "cli config plan/command registry sweep/plan testing/check",
    "omegaconf": "cli config registry schema testing/check",
    "yaml": "config data/tasks sweep/plan tables/spec",
    "safetensors": "assets/* data/features data/teacher data/units testing/* training/checkpoint",
    "rich": "assets/command cli plan/* scoring/terminal stages/* suites/* sweep/* tables/*",
    "torchmetrics": "scoring/metrics",
    "jiwer": "scoring/metrics",
    "sacrebleu": "scoring/metrics",
    "matplotlib": "scoring/curves tables/plots",
    "pocketsphinx": "data/forced_alignment",
    "scipy": "data/audio",
    "soundfile": "data/audio",
    "pyarrow": "suites/tables",
    "langdetect": "suites/rules",
}
"""third-party package -> the files that may import it"""

DISTRIBUTION = {
    "hydra": "hydra-core",
    "yaml": "pyyaml",
    "tokenizers": "transformers",
    "huggingface_hub": "transformers",
}
"""package -> distribution that brings it, where the names differ"""

MAY_PRINT = ("cli", "assets/command")
HEAVY = {"torch", "transformers", "lhotse", "peft", "pytorch_lightning", "hydra"}
MAX_LINES = 300


@dataclass(frozen=True)
class Import:
    """One import statement's module, and where it stands."""

    file: Path
    line: int
    module: str

    @property
    def place(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"


def sources(folder: Path = TOOLKIT) -> list[Path]:
    files = sorted(folder.rglob("*.py"))
    assert files, folder
    return files


def name_of(file: Path) -> str:
    """Return `adapters/ctc` for toolkit/adapters/ctc.py."""
    return file.relative_to(TOOLKIT).with_suffix("").as_posix()


def imports_of(file: Path) -> Iterator[Import]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            if module.split(".")[0] == "toolkit":  # the names may be modules
                for alias in node.names:
                    yield Import(file, node.lineno, f"{module}.{alias.name}")
            else:
                yield Import(file, node.lineno, module)


def all_imports() -> list[Import]:
    return [found for file in sources() for found in imports_of(file)]


def calls_of(file: Path, function: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function:
            yield f"{file.relative_to(ROOT)}:{node.lineno} calls {function}("


def third_parties(imports: Iterable[Import]) -> Iterator[tuple[str, Import]]:
    for found in imports:
        package = found.module.split(".")[0]
        if package != "toolkit" and package not in sys.stdlib_module_names:
            yield package, found


def refuse(offences: Iterable[str], rule: str) -> None:
    if found := sorted(offences):
        pytest.fail("\n".join([f"{rule}:", *found]), pytrace=False)


def test_the_table_knows_every_part_of_the_toolkit() -> None:
    files = {path.stem for path in TOOLKIT.glob("*.py")}
    folders = {path.parent.name for path in TOOLKIT.glob("*/__init__.py")}
    assert set(MAY_IMPORT) == (files | folders) - {"__init__"}


def test_parts_import_only_what_the_table_lets_them() -> None:
    offences = []
    for found in all_imports():
        importer, (package, *rest) = name_of(found.file).split("/")[0], found.module.split(".")
        allowed = MAY_IMPORT.get(importer, "").split()
        names = {".".join(rest[:1]), ".".join(rest[:2])}
        if package == "toolkit" and rest and rest[0] in MAY_IMPORT and not names & {importer, *allowed}:
            offences.append(f"{found.place}; it may import {', '.join(allowed) or 'nothing'}")
    refuse(offences, "imports that MAY_IMPORT does not have")


def test_siblings_of_a_kind_never_import_each_other() -> None:
    offences = []
    for found in all_imports():
        importer, imported = name_of(found.file), "/".join(found.module.split(".")[1:3])
        kind, _, name = importer.partition("/")
        siblings = kind in KINDS and name != "__init__" and imported.startswith(f"{kind}/")
        if siblings and imported not in SHARED:
            offences.append(found.place)
    refuse(offences, "siblings of one kind that are not in SHARED")


def test_parts_read_no_environment_and_start_no_processes() -> None:
    closed = {"os", "sys", "subprocess", "multiprocessing", "socket"}
    refuse(
        (
            found.place
            for found in all_imports()
            if name_of(found.file).split("/")[0] in KINDS and found.module.split(".")[0] in closed
        ),
        "encoders, adapters, decoders, interleavers and losses are told what they need",
    )


def test_third_parties_come_in_by_their_doors() -> None:
    offences = []
    for package, found in third_parties(all_imports()):
        doors = DOORS.get(package, "").split()
        if not any(fnmatch(name_of(found.file), door) for door in doors):
            offences.append(f"{found.place}; its doors: {' '.join(doors) or 'none, it is not in DOORS'}")
    refuse(offences, "third-party imports outside their doors")


def test_plugins_import_the_seams_only() -> None:
    offences = []
    for file in sources(ROOT / "plugins"):
        allowed = (PLUGIN_TESTS_MAY_IMPORT if file.name.startswith("test_") else PLUGINS_MAY_IMPORT).split()
        for found in imports_of(file):
            package, *rest = found.module.split(".")
            if package == "toolkit" and (not rest or rest[0] not in allowed):
                offences.append(f"{found.place}; a plugin may import {', '.join(allowed)}")
    refuse(offences, "what plugins need is at the seams")


def test_the_package_itself_imports_nothing() -> None:
    refuse((found.place for found in imports_of(TOOLKIT / "__init__.py")), "`toolkit list` is quick")


def test_listing_imports_nothing_heavy() -> None:
    program = (
        "import sys, toolkit.cli\n"
        "status = toolkit.cli.main(['list'])\n"
        f"print('heavy:', *sorted({HEAVY!r} & set(sys.modules)))\n"
        "sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy:"
    assert " stack " in done.stdout


def test_only_the_command_line_prints() -> None:
    files = [file for file in sources() if name_of(file) not in MAY_PRINT]
    refuse((call for file in files for call in calls_of(file, "print")), "stages `say`, parts are silent")


def test_nothing_probes_with_hasattr() -> None:
    refuse((call for file in sources() for call in calls_of(file, "hasattr")), "ask the interface instead")


def test_no_file_is_long() -> None:
    lengths = {file: len(file.read_text().splitlines()) for file in sources()}
    refuse(
        (f"{file.relative_to(ROOT)}: {lines} lines" for file, lines in lengths.items() if lines > MAX_LINES),
        f"one idea a file: at most {MAX_LINES} lines",
    )


def test_no_file_is_called_after_nothing() -> None:
    folders = ("toolkit", "tests", "plugins", "tools", "egs")
    refuse(
        (
            str(file.relative_to(ROOT))
            for folder in folders
            for file in (ROOT / folder).rglob("*.py")
            if re.fullmatch(r"_?(utils?|helpers?|common|misc)", file.stem)
        ),
        "a file is named for its idea",
    )


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_file_names_a_machine() -> None:
    # A home folder, a folder at the root of somebody's disk, an address or a name inside a private network.
    machine = re.compile(
        rb"(?<![\w.${}*-])/(root|work|home/\w+|Users/\w+|mnt/\w+|opt/\w+|scratch|tmp/\w+)(/|\b)"
        rb"|\b(10|192\.168)\.\d+\.\d+\.\d+\b|\b[\w-]+\.(internal|lan|corp|intranet)\b"
    )
    offences = []
    for file in tracked_files():
        data = file.read_bytes()
        if b"\0" in data or file == Path(__file__).resolve():
            continue
        for number, line in enumerate(data.splitlines(), 1):
            if found := machine.search(line):
                offences.append(f"{file.relative_to(ROOT)}:{number} has {found.group().decode()}")
    refuse(offences, "paths and names of one machine")


def declared() -> set[str]:
    """Return the distributions of pyproject.toml, for running and for development."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return {re.split(r"[<>=!~\[; ]", requirement)[0].lower() for requirement in requirements}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def test_what_is_imported_is_declared() -> None:
    offences = []
    for package, found in third_parties(all_imports()):
        if DISTRIBUTION.get(package, package.replace("_", "-")) not in declared():
            offences.append(found.place)
    refuse(offences, "imports of distributions that pyproject.toml does not name")


def test_what_is_declared_is_pinned() -> None:
    refuse(declared() - set(pins()), "declared in pyproject.toml, not in constraints.txt")


def test_make_installs_the_pinned_torch() -> None:
    assert f"torch=={pins()['torch']}" in (ROOT / "Makefile").read_text()


def test_the_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f'__version__ = "{version}"' in (TOOLKIT / "__init__.py").read_text()
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
