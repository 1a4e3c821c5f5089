"""A trained model answers the items of a suite: in batches, resumable; what cannot be heard is named and counted."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from toolkit.data.answers import Answer, AnswerStore, Question
from toolkit.data.audio import AudioError, load_audio
from toolkit.errors import DataError
from toolkit.interfaces import Encoder
from toolkit.stages.answer import Asked, respond, trained_in
from toolkit.stages.progress import bar
from toolkit.suites.item import Item, Sound

_BATCHES = 16
"""whose recordings are in memory together, and whose rows are sorted by length together"""


def question_of(item: Item, prompt: str) -> Question:
    """Return what an answer of the store is known by: the prompt, the item and its recordings."""
    first, *others = item.sounds
    return Question(prompt, f"{item.id} {first.mark}", others=tuple((sound.mark, 0.0) for sound in others))


def ask(
    exp_dir: Path,
    store: AnswerStore,
    items: Iterator[Item],
    prompts: dict[str, str],
    batch_size: int,
    *,
    skip: bool,
    title: str,
) -> dict[str, str]:
    """Answer items that the store has no answer to. Returns, by item, why those left out could not be asked.

    Args:
        exp_dir: experiment folder with a checkpoint.
        store: where answers go, batch by batch.
        items: with their recordings; those of `prompts` are asked.
        prompts: item -> prompt.
        batch_size: answered together.
        skip: leave out what cannot be heard, instead of stopping.
        title: of the progress bar.

    Raises:
        DataError: a recording cannot be used, or is longer than the encoder takes, and nothing is to be left out.
    """
    model, llm = trained_in(exp_dir)
    llm = replace(llm, max_new_tokens=store.max_new_tokens, rows=0)
    left: dict[str, str] = {}
    wanted = (item for item in items if item.id in prompts)
    with bar(title, len(prompts)) as progress, TemporaryDirectory() as folder:
        while chunk := list(islice(wanted, _BATCHES * batch_size)):
            heard: dict[Question, Asked] = {}
            for item in chunk:
                prompt = prompts[item.id]
                try:
                    sounds = [_load(sound, item, model.encoder, Path(folder)) for sound in item.sounds]
                except DataError as error:
                    if not skip:
                        raise
                    left[item.id] = error.reason if isinstance(error, AudioError) else "audio too long"
                    progress.advance()
                    continue
                # The length makes even batches, and is no part of what an answer is known by.
                seconds = sum(map(len, sounds)) / model.encoder.sampling_rate
                heard[replace(question_of(item, prompt), duration=seconds)] = Asked(prompt, tuple(sounds))

            def generate(questions: Seq[Question], heard: dict[Question, Asked] = heard) -> list[Answer]:
                return respond(model, llm, [heard[question] for question in questions])

            for count in store.fill(list(heard), generate, batch_size):
                progress.advance(count)
    return left


def _load(sound: Sound, item: Item, encoder: Encoder, folder: Path) -> Tensor:
    path = sound.path
    if path is None:  # libsndfile tells formats by what is in a file, and `load_audio` looks at the container too
        path = folder / "recording"
        path.write_bytes(sound.content)
    samples = load_audio(path, encoder.sampling_rate, name=item.id)
    duration = len(samples) / encoder.sampling_rate
    if duration > encoder.max_duration:
        raise DataError(
            f"'{item.id}': {sound.name} is {duration:.1f} s long; the encoder takes {encoder.max_duration:.0f} s. "
            "Leave such items out, counted, with --skip-missing"
        )
    return samples
