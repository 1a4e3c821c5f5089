"""Word times: from any source into one clock, seconds from the start of the cut, and only if they fit.

lhotse keeps two clocks: an `AlignmentItem` starts at seconds of the *recording*, a supervision at seconds of
the *cut*, and its own `trim` mixes them. `to_cut_clock` and `to_recording_clock` are the only places where
one becomes the other; no `AlignmentItem` goes past this file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import DataError
from toolkit.types import Word

if TYPE_CHECKING:
    from lhotse.cut import MonoCut
    from lhotse.supervision import AlignmentItem

TOLERANCE = 0.05
"""seconds by which aligners round; larger errors make an alignment unusable"""
SILENCES = frozenset({"", "#", "sil", "sp", "spn", "<eps>", "<sil>", "<s>", "</s>", "<unk>", "[noise]"})
"""labels, in lower case, that are no words"""


def to_cut_clock(items: Iterable[AlignmentItem], cut_start: float) -> tuple[Word, ...]:
    """Turn lhotse's items (seconds of the recording) into words (seconds of the cut); silences are left out.

    Args:
        items: the `word` alignment of a supervision.
        cut_start: where the cut starts in its recording, in seconds.
    """
    return tuple(
        # Subtracting floats leaves dust (12.3 - 10 is 2.3000000000000007): microseconds are plenty.
        Word(item.symbol, round(item.start - cut_start, 6), round(item.start + item.duration - cut_start, 6))
        for item in items
        if item.symbol.lower() not in SILENCES
    )


def to_recording_clock(words: Iterable[Word], cut_start: float) -> list[AlignmentItem]:
    """Turn words (seconds of the cut) into lhotse's items (seconds of the recording)."""
    from lhotse.supervision import AlignmentItem

    return [
        AlignmentItem(word.text, round(word.start + cut_start, 6), round(word.end - word.start, 6)) for word in words
    ]


def words_of(cut: MonoCut) -> tuple[Word, ...]:
    """Return the words of a cut with one supervision, in seconds of the cut; empty where it has none."""
    return to_cut_clock((cut.supervisions[0].alignment or {}).get("word", ()), cut.start)


def with_words(cut: MonoCut, words: Seq[Word], source: str) -> MonoCut:
    """Return the cut with these words (none: without any); `source` is kept as `custom["word_times"]`."""
    from lhotse.utils import fastcopy

    [supervision] = cut.supervisions
    custom = {**(supervision.custom or {}), "word_times": source}
    alignment = {"word": to_recording_clock(words, cut.start)} if words else None
    return fastcopy(cut, supervisions=[fastcopy(supervision, custom=custom, alignment=alignment)])


def cased(text: str, case: str) -> str:
    """Bring a transcript into the case asked for; runs of white space become one space.

    `sentence` is for transcripts in bare upper case: lower case, a capital at the start, `I` for `i`, and a
    full stop unless there is punctuation at the end. Names stay in lower case: nothing tells them apart.
    """
    text = " ".join(text.split())
    if case == "keep" or not text:
        return text
    text = text.lower()
    if case == "sentence":
        text = re.sub(r"(?<!\S)i(?=$|[\s'’.,;:!?])", "I", text)
        first = next((i for i, character in enumerate(text) if character.isalnum()), 0)
        text = text[:first] + text[first].upper() + text[first + 1 :]
        text += "" if text[-1] in ".!?…\"'”’" else "."
    return text


def normal(text: str) -> str:
    """Reduce a word to what alignments agree on: its letters and digits, in lower case."""
    return "".join(character for character in text.lower() if character.isalnum())


def spoken_tokens(transcript: str) -> list[str]:
    """Split at white space; a token of punctuation only joins its neighbour, since nobody says it."""
    tokens: list[str] = []
    pending = ""
    for token in transcript.split():
        if normal(token):
            tokens.append(f"{pending} {token}".strip())
            pending = ""
        elif tokens:
            tokens[-1] += f" {token}"
        else:
            pending = f"{pending} {token}".strip()
    return tokens


def check_words(transcript: str, words: Seq[Word], duration: float) -> tuple[Word, ...] | None:
    """Return the words in the transcript's own spelling if they are a usable alignment of it, else None.

    Usable: one word for each spoken token, equal but for case and punctuation; times in order, inside the
    cut and of positive length, where errors of up to 50 ms (rounding) are clamped. Joining the texts of the
    returned words with spaces gives the transcript.

    Args:
        transcript: what is said.
        words: what an aligner found, in seconds of the cut.
        duration: of the cut, in seconds.
    """
    tokens = spoken_tokens(transcript)
    said = [word for word in words if normal(word.text)]
    if not tokens or [normal(token) for token in tokens] != [normal(word.text) for word in said]:
        return None
    checked: list[Word] = []
    previous = 0.0
    for token, word in zip(tokens, said, strict=True):
        start, end = max(word.start, previous), min(word.end, duration)
        if not (math.isfinite(word.start) and math.isfinite(word.end)) or end <= start:
            return None
        if max(start - word.start, word.end - end) > TOLERANCE + 1e-6:
            return None
        checked.append(Word(token, start, end))
        previous = end
    return tuple(checked)


def read_ctm(path: Path) -> dict[str, list[Word]]:
    """Read a NIST CTM file: lines of utterance, channel, start, duration, word [, confidence].

    Times are seconds from the start of the utterance. Silences are left out.

    Raises:
        DataError: the file is missing, or a line cannot be read.
    """
    found: dict[str, list[Word]] = {}
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        if not line.strip() or line.startswith(";;"):
            continue
        fields = line.split()
        try:
            utterance, _, start, length, text, *_ = fields
            word = Word(text, float(start), round(float(start) + float(length), 6))
        except ValueError as error:
            raise DataError(
                f"{path}, line {number}: '{line.strip()}' is not 'utterance channel start duration word'"
            ) from error
        words = found.setdefault(utterance, [])
        if text.lower() not in SILENCES:
            words.append(word)
    return found


_PRAAT = re.compile(
    r'"((?:[^"]|"")*)"'  # a string, in which a quote is doubled
    r"|<(exists|absent)>"
    r"|(?<![\w\[.-])(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?![\w\]])"  # a number, but not the 2 of `item [2]`
)
"""the values of a TextGrid; what else Praat's long format has are their names"""


def read_textgrid(path: Path) -> list[Word]:
    """Read the words of a Praat TextGrid, long or short text format; silences are left out.

    The tier is the interval tier named `words` or `word` (any case), or else the first interval tier.

    Raises:
        DataError: the file is missing, is not a text TextGrid or has no interval tier.
    """
    content = _read_text(path)
    if "ooTextFile" not in content[:200] or "TextGrid" not in content[:200]:
        raise DataError(f"{path} is not a TextGrid in one of Praat's text formats; save it as a text file")
    strings_and_numbers = [
        match[1].replace('""', '"') if match[1] is not None else match[2] or float(match[3])
        for match in _PRAAT.finditer(content)
    ]
    try:
        tiers = _tiers(strings_and_numbers)
    except (IndexError, TypeError, ValueError) as error:
        raise DataError(f"{path} ends early or is not a TextGrid: {error}") from error
    if not tiers:
        raise DataError(f"{path} has no interval tier")
    named = next((words for name, words in tiers if name.lower() in ("words", "word")), tiers[0][1])
    return [word for word in named if word.text.lower() not in SILENCES]


def _tiers(values: list[Any]) -> list[tuple[str, list[Word]]]:
    """Group the values of a TextGrid into its interval tiers: file type, class, xmin, xmax, flag, tiers..."""
    tiers = []
    position = 6
    for _ in range(int(values[5])):
        kind, name, size = values[position], values[position + 1], int(values[position + 4])
        position += 5
        width = 3 if kind == "IntervalTier" else 2
        rows = [values[position + width * i : position + width * (i + 1)] for i in range(size)]
        position += width * size
        if position > len(values):
            raise ValueError(f"tier '{name}' announces {size} entries and has fewer")
        if kind == "IntervalTier":
            tiers.append((str(name), [Word(str(text).strip(), float(a), float(b)) for a, b, text in rows]))
    return tiers


def _read_text(path: Path) -> str:
    """Read a text file in UTF-8, or in UTF-16 where a byte-order mark says so, as Praat writes it."""
    try:
        content = path.read_bytes()
        utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the word times in {path}: {error}") from error
