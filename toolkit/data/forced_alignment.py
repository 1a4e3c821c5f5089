"""Forced alignment: where the words of a transcript are said, by pocketsphinx, and how to say new words.

pocketsphinx knows the pronunciation of 134,000 English words. For others it is made up here: from a known
stem and an ending, from two known words, or letter by letter. That is rough, but an alignment only has to
tell the word from its neighbours.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from toolkit.data.alignment import spoken_tokens
from toolkit.data.audio import AudioError, load_audio
from toolkit.types import Word

VERSION = "pocketsphinx 1"
"""to be changed when the same audio and transcript give other times"""
SAMPLING_RATE = 16000
FRAME = 0.01
"""seconds"""

Lookup = Callable[[str], str | None]
"""Word -> its phones in ARPAbet, as pocketsphinx writes them, or None."""


@dataclass(frozen=True)
class Piece:
    """What to align: plain values, so that other processes can be handed it cheaply."""

    id: str
    audio: str
    start: float
    """seconds into the file"""
    duration: float
    """seconds"""
    transcript: str


@dataclass(frozen=True)
class Found:
    """The words of one utterance and their times, or why there are none."""

    id: str
    words: tuple[Word, ...] = ()
    """seconds from the start of the utterance"""
    reason: str = ""


def align_piece(piece: Piece) -> Found:
    """Align one utterance; whatever goes wrong is the reason that is returned."""
    try:
        audio = load_audio(
            piece.audio, SAMPLING_RATE, start=piece.start, duration=piece.duration, name=piece.id
        ).numpy()
    except AudioError as error:
        return Found(piece.id, reason=error.reason)
    decoder = _decoder()
    tokens = spoken_tokens(piece.transcript)
    keys = [dictionary_key(token) for token in tokens]
    for key in set(keys):
        if decoder.lookup_word(key) is None:
            phones = pronounce(key, decoder.lookup_word)
            if phones is None:
                return Found(piece.id, reason="with a word that has no letters to pronounce")
            decoder.add_word(key, phones, False)
    samples = (np.clip(audio, -1, 1) * 32767).astype(np.int16)
    try:
        segments = _segments(decoder, " ".join(keys), samples.tobytes())
    except RuntimeError:
        _decoder.cache_clear()  # its state is unknown now: the next utterance gets a fresh one
        return Found(piece.id, reason="refused by pocketsphinx")
    if [word for word, _, _ in segments] != keys:
        return Found(piece.id, reason="where pocketsphinx does not hear the transcript")
    words = (Word(t, s, e) for t, (_, s, e) in zip(tokens, segments, strict=True))
    return Found(piece.id, tuple(words))


@lru_cache(maxsize=1)
def _decoder() -> Any:
    """Return this process' decoder, without a language model and silent."""
    from pocketsphinx import Decoder

    return Decoder(lm=None, loglevel="FATAL")


def _segments(decoder: Any, text: str, audio: bytes) -> list[tuple[str, float, float]]:
    """Decode along `text`; return words with start and end in seconds, without silences and noises."""
    decoder.set_align_text(text)
    with warnings.catch_warnings():
        # Called deprecated and unnecessary, but without it the noise estimate of one utterance goes into the
        # next, and 9 of 30 utterances came out differently when their order was reversed.
        warnings.simplefilter("ignore", DeprecationWarning)
        decoder.start_stream()
    decoder.start_utt()
    decoder.process_raw(audio, full_utt=True)
    decoder.end_utt()
    if decoder.hyp() is None:
        return []
    return [
        # `the(2)` is the second pronunciation of `the`; a segment's last frame belongs to it
        (re.sub(r"\(\d+\)$", "", each.word), each.start_frame * FRAME, (each.end_frame + 1) * FRAME)
        for each in decoder.seg()
        if each.word[0] not in "<[+"
    ]


def dictionary_key(token: str) -> str:
    """Reduce a token to how a dictionary writes it: lower case, inner apostrophes and hyphens, no accents."""
    plain = unicodedata.normalize("NFKD", token.lower().replace("’", "'"))
    kept = "".join(c for c in plain if c.isalnum() or c in "'-")
    return kept.strip("'-") or kept


def pronounce(word: str, lookup: Lookup) -> str | None:
    """Return the phones of a word: from the dictionary, its pieces or its letters; None if it has no letters.

    Args:
        word: a `dictionary_key`.
        lookup: the dictionary.
    """
    if known := lookup(word):
        return known
    if "-" in word:
        pieces = [pronounce(piece, lookup) for piece in word.split("-") if piece]
        return None if None in pieces else " ".join(filter(None, pieces))
    if not re.fullmatch(r"[a-z']*[a-z][a-z']*", word):
        return None
    for ending, phones in _ENDINGS:
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 2:
            lasts = ("y",) if ending == "ies" else ("", "e")  # villainies, horses, hoping
            known = next((known for last in lasts if (known := lookup(stem + last))), None)
            if known or ending == "'s":
                base = known or _spell(stem)
                return f"{base} {phones or _plural(base)}"
    for cut in range(3, len(word) - 2):
        first, second = lookup(word[:cut]), lookup(word[cut:])
        if first and second:
            return f"{first} {second}"
    return _spell(word)


_ENDINGS = (
    ("'s", ""), ("ies", "Z"), ("s", ""), ("ing", "IH NG"), ("ed", "D"), ("ly", "L IY"), ("ness", "N AH S"),
    ("eth", "AH TH"), ("est", "AH S T"), ("er", "ER"), ("able", "AH B AH L"), ("ful", "F AH L"),
)  # fmt: skip
"""ending -> its phones; those of `s` depend on the phone before"""


def _plural(phones: str) -> str:
    last = phones.split()[-1]
    if last in ("S", "Z", "SH", "ZH", "CH", "JH"):
        return "AH Z"
    return "S" if last in ("P", "T", "K", "F") else "Z"


_SPELLING = r"""
'= ^kn=N ^gn=N ^wr=R ^ps=S ^x=Z ^y=Y wh=W tch=CH dge=JH tion=SH-AH-N sion=ZH-AH-N cian=SH-AH-N
ture$=CH-ER tious=SH-AH-S cious=SH-AH-S ous$=AH-S us$=AH-S sch=S-K sc(?=[eiy])=S ch=CH sh=SH th=TH
ph=F ck=K qu=K-W ng(?=$|s$)=NG n(?=[kx])=NG mb$=M eigh=EY igh=AY ough=AO augh=AO gh(?=.)=G gh$=
air=EH-R are$=EH-R ear=IH-R eer=IH-R ire$=AY-ER our$=ER oor=AO-R ure$=Y-UH-R ar=AA-R er=ER ir=ER
ur=ER or=AO-R yr=IH-R ai=EY ay=EY au=AO aw=AO ea=IY ee=IY ei=IY ey=IY eu=Y-UW ew=Y-UW ie(?=s?$)=IY
ie=IY oa=OW oe$=OW oi=OY oy=OY oo=UW ou=AW ow=OW ue$=UW ui=UW
a(?=[^aeiouwxyr]e[sd]?$)=EY e(?=[^aeiouwxyr]e[sd]?$)=IY i(?=[^aeiouwxyr]e[sd]?$)=AY
o(?=[^aeiouwxyr]e[sd]?$)=OW u(?=[^aeiouwxyr]e[sd]?$)=UW y(?=[^aeiouwxyr]e[sd]?$)=AY
(?<=[td])ed$=AH-D (?<=[pkfsxh])ed$=T ed$=D (?<=[szxh])es$=AH-Z (?<=[^aeiou])es$=Z (?<=..)le$=AH-L
(?<=.)e$= a$=AH bb=B cc(?=[eiy])=K-S cc=K dd=D ff=F gg=G ll=L mm=M nn=N pp=P
rr=R ss=S tt=T zz=Z c(?=[eiy])=S g(?=[eiy])=JH (?<=[ptkf])s$=S (?<=[^s])s$=Z
(?<=[aeiou])s(?=[aeiou])=Z a=AE b=B c=K d=D e=EH f=F g=G h=HH i=IH j=JH k=K l=L m=M n=N o=AA p=P q=K r=R
s=S t=T u=AH v=V w=W x=K-S y=IY z=Z
"""
"""letters (in what surroundings) = phones; the first that fits is taken. Every letter has a last resort."""
_RULES = [
    (re.compile(letters), phones.replace("-", " "))
    for letters, phones in (rule.rsplit("=", 1) for rule in _SPELLING.split())
]


def _spell(word: str) -> str:
    """Read a word letter by letter, by English spelling at its most regular."""
    phones: list[str] = []
    position = 0
    while position < len(word):
        found, sounds = next((m, p) for rule, p in _RULES if (m := rule.match(word, position)))
        phones += sounds.split()
        position = found.end()
    return " ".join(phones) or "AH"
