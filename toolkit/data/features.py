"""The cache of frozen encoder frames: fp16 shards, memory-mapped, under the fingerprint of what made them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from toolkit.errors import DataError, StaleCacheError

_META = "meta.json"


class FrameCache:
    """Frames of the utterances of one split: `<data_dir>/<split>/frames/<fingerprint>/00000.safetensors`.

    Args:
        folder: `<data_dir>/<split>/frames`.
        key: fingerprint of the encoder and its preprocessing.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder / key
        self._where: dict[str, Any] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            for name, shard in _open(path):
                self._where[name] = shard
        about = self.folder / _META
        self.about: dict[str, Any] = json.loads(about.read_text()) if about.exists() else {}
        """what the frames are said to be made by"""

    def __contains__(self, utterance: str) -> bool:
        return utterance in self._where

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, utterance: str) -> Tensor:
        """Return the frames of an utterance, (T, D) fp32.

        Raises:
            StaleCacheError: this encoder has not encoded the utterance.
            DataError: what is kept of it are no numbers.
        """
        if utterance not in self._where:
            others = sorted(p.name for p in self.folder.parent.glob("*") if p.is_dir() and p != self.folder)
            there = f" Frames of other encoders ({', '.join(others)}) are there and are not used." if others else ""
            raise StaleCacheError(
                f"no frames of '{utterance}' by this encoder and preprocessing ({self.folder.name}).{there} "
                "Run `toolkit encode` with this configuration."
            )
        frames: Tensor = self._where[utterance].get_tensor(utterance).float()
        if not bool(torch.isfinite(frames).all()):
            raise DataError(
                f"frames of '{utterance}' in {self.folder} are not finite: they are damaged, or too large for fp16. "
                "Remove the folder and run `toolkit encode`; if it says the same, this encoder's frames cannot be kept"
            )
        return frames

    def write(self, frames: Iterable[tuple[str, Tensor]], size: int, about: Mapping[str, Any]) -> Iterator[int]:
        """Write frames in shards of `size` utterances; yields the number written so far.

        A shard appears whole or not at all, so an interrupted run loses one shard at the most.

        Raises:
            DataError: frames that fp16 cannot hold, or a full disk.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _META).write_text(json.dumps(dict(about), indent=1))
        shard: dict[str, Tensor] = {}
        for done, (name, values) in enumerate(frames, start=1):
            shard[name] = values.to(torch.float16).contiguous()
            if not bool(torch.isfinite(shard[name]).all()):
                raise DataError(
                    f"frames of '{name}' are not finite in fp16, in which they are kept: {values.dtype} up to "
                    f"{float(values.abs().max()):.3g}"
                )
            if len(shard) == size:
                self._save(shard)
                shard = {}
            yield done
        if shard:
            self._save(shard)

    def _save(self, shard: dict[str, Tensor]) -> None:
        number = 1 + max((int(p.stem) for p in self.folder.glob("*.safetensors")), default=-1)
        temporary = self.folder / f"{number:05d}.tmp"
        try:
            save_file(shard, temporary)
            os.replace(temporary, self.folder / f"{number:05d}.safetensors")
        except SafetensorError as error:  # such as a full disk
            raise DataError(f"cannot write {temporary}: {error}; the shards that are there are intact") from error
        finally:
            temporary.unlink(missing_ok=True)


def _open(path: Path) -> list[tuple[str, Any]]:
    """Map a shard into memory; returns its utterances, each with the shard.

    Raises:
        StaleCacheError: it is damaged, or no shard of ours.
    """
    again = f"remove {path} and run `toolkit encode`, which makes again what is missing"
    try:
        shard = safe_open(path, framework="pt")
        names = list(shard.keys())
    except SafetensorError as error:
        raise StaleCacheError(f"frames in {path} are damaged ({error}): {again}") from error
    kinds = {shard.get_slice(name).get_dtype() for name in names[:1]}
    if kinds - {"F16"}:
        raise StaleCacheError(f"frames in {path} are {', '.join(kinds)} and not F16, as ours are: {again}")
    return [(name, shard) for name in names]
