"""The stored teacher between two stages: `imitate` keeps what the text LLM finds likely, `train` asks for it."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from pathlib import Path

from toolkit.config import Config
from toolkit.data.teacher import Teacher, TeacherStore, text_view
from toolkit.data.tokenization import ChatTokenizer
from toolkit.errors import DataError
from toolkit.interfaces import Loss
from toolkit.stages.progress import bar, say
from toolkit.types import Example


def keep_teacher(
    config: Config, teacher: Teacher, tokenizer: ChatTokenizer, folder: Path, examples: Seq[Example], split: str
) -> None:
    """Ask the teacher about the targets of a split, where that is not kept yet."""
    store = TeacherStore(folder, config.imitate.top_k)
    rows = [text_view(tokenizer, example) for example in examples]
    missing = len(store.missing(rows))
    if not missing:
        say(f"teacher of {split}: done ({len(rows)} rows in {store.folder})")
        return
    with bar(f"teacher of {split}", missing) as progress:
        for count in store.fill(rows, teacher, config.imitate.batch_size):
            progress.advance(count)


def stored_teacher(
    config: Config, tokenizer: ChatTokenizer, folder: Path, loss: Loss, examples: Seq[Example], split: str
) -> TeacherStore | None:
    """Return what the imitate stage kept of the teacher, or None where the teacher is to be run.

    Raises:
        DataError: some of the examples have none: kept and live teachers are never mixed.
    """
    top_k = config.imitate.top_k
    if not top_k or "teacher" not in loss.needs:
        return None
    if not loss.stored_teacher:
        if split == "train":
            say(f"train: loss={config.loss['name']} needs more of the teacher than imitate.top_k keeps: it is run")
        return None
    store = TeacherStore(folder, top_k)
    if missing := len(store.missing([text_view(tokenizer, example) for example in examples])):
        raise DataError(
            f"{missing} of {len(examples)} {split} examples have no stored teacher in {store.folder}: run the imitate "
            f"stage with this recipe and imitate.top_k={top_k}, or say imitate.top_k=0 and the teacher is run"
        )
    return store
