"""Text -> tokens: the chat around an utterance, or around several, and the utterance itself in pieces.

The space before a word belongs to the word: pieces of an interleaved sentence are cut before spaces, where
byte-level tokenizers cut too, so that the pieces give the tokens of the whole. A test holds the round trip.

A marker may stand before each piece of an interleaved utterance, as SIMS (arXiv 2504.02398) marks every switch
with `<speech>` or `<text>`. Ours is plain text of the decoder's own vocabulary. An utterance in one piece has no
marker; only training has others, so whoever decodes sees none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence as Seq
from dataclasses import replace
from functools import lru_cache
from typing import Any

from toolkit.assets.locate import locate
from toolkit.errors import DataError
from toolkit.types import Example, Piece, Plan, Sequence, SpeechSegment, TokenPiece, Turn

SLOT = "{speech}"
"""stands in a prompt where the utterance goes; `{speech2}`, `{speech3}` ... stand where further ones go"""
SLOTS = re.compile(r"\{speech(\d*)\}")
"""any slot, and the number in it"""
_MARK = "\ue000"
"""a private-use character, so that nothing a user writes can be taken for the slot; further slots have the next ones"""
_Place = tuple[tuple[int, ...], str, int]
"""tokens before a slot, the space that goes with the utterance, and the number of the recording"""
_DATE = "01 Jan 2025"
"""for templates that tell the model the date: a prompt must not change from day to day"""


def slot(recording: int) -> str:
    """Return what stands in a prompt for a recording, counted from 0: `{speech}`, `{speech2}` and so on."""
    return f"{{speech{recording + 1}}}" if recording else SLOT


def check_prompt(prompt: str, history: Seq[Turn] = ()) -> int:
    """Return for how many recordings a prompt and the turns before it have slots: at least one.

    Raises:
        DataError: one of `{speech}`, `{speech2}` and so on is missing, or there twice.
    """
    prompts = (*(turn.prompt for turn in history), prompt)
    found = [match.group() for text in prompts for match in SLOTS.finditer(text)]
    wanted = [slot(recording) for recording in range(max(len(found), 1))]
    for name in wanted:
        if found.count(name) != 1:
            more = f" (further recordings are {slot(1)}, {slot(2)} ...)" if len(found) > 1 else ""
            raise DataError(
                f"the prompt must hold {name} exactly once, where the utterance goes{more}: "
                + ", ".join(map(repr, prompts))
            )
    return len(wanted)


def check_recordings(count: int, prompt: str, history: Seq[Turn] = ()) -> None:
    """Check that there are as many recordings as slots.

    Raises:
        DataError: there is a recording without a slot or a slot without a recording; it names the first.
    """
    slots = check_prompt(prompt, history)
    if slots < count:
        raise DataError(f"{count} recordings, and no {slot(slots)} in the prompt for the next one: {prompt!r}")
    if slots > count:
        raise DataError(f"no recording for the {slot(count)} of the prompt, only {count}: {prompt!r}")


def written(prompt: str, texts: Seq[str]) -> str:
    """Write texts into the slots of a prompt: the first where `{speech}` stands, the next where `{speech2}` does."""
    return SLOTS.sub(lambda match: texts[int(match[1] or 1) - 1], prompt)


def chat(system: str | None, prompt: str, history: Seq[Turn] = ()) -> list[dict[str, str]]:
    """Return a conversation as chat templates and servers take it; None leaves the system prompt to the template."""
    messages = [] if system is None else [{"role": "system", "content": system}]
    for turn in history:
        messages.append({"role": "user", "content": turn.prompt})
        messages.append({"role": "assistant", "content": turn.response})
    return [*messages, {"role": "user", "content": prompt}]


class ChatTokenizer:
    """Tokens of the decoder's chat.

    Args:
        model: folder, hub id or `asset:NAME` of the decoder.
        system: system prompt; None leaves it to the model's template.
        speech_marker: text before each piece of speech, where the utterance has several pieces.
        text_marker: text before each piece of text, where the utterance has several pieces.
    """

    def __init__(
        self, model: str, system: str | None = None, *, speech_marker: str = "", text_marker: str = ""
    ) -> None:
        from transformers import AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(locate(model))
        self.system = system
        self.speech_marker = speech_marker
        self.text_marker = text_marker
        if self._tokenizer.chat_template is None:
            raise DataError(f"decoder '{model}' has no chat template: name an instruction-tuned model")
        self.end_of_turn = self._end_of_turn()
        self._frame = lru_cache(maxsize=4096)(self._render)

    def encode(self, text: str) -> tuple[int, ...]:
        """Tokenise what somebody said or wrote: a special token spelt out in it is characters, and no token."""
        return tuple(self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    def _encode_template(self, text: str) -> tuple[int, ...]:
        """Tokenise a part of the rendered template, whose special tokens are meant."""
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, token_ids: list[int] | tuple[int, ...]) -> str:
        """Turn tokens into text, special tokens left out, blanks stripped."""
        text: str = self._tokenizer.decode(list(token_ids), skip_special_tokens=True)
        return text.strip()

    def counts(self, texts: Seq[str]) -> list[int]:
        """Count the tokens of each text, of many at once."""
        rows = self._tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [len(row) for row in rows]

    def around(self) -> tuple[int, int]:
        """Return how many tokens the template and the system prompt put around a prompt, and in front of it."""
        slots, after = self._frame(SLOT, ())
        before = sum(len(before) for before, _, _ in slots)
        return before + len(after), before

    def transcript(self, text: str) -> tuple[int, ...]:
        """Tokenise a transcript as it stands in a prompt after a space; what CTC is trained on."""
        return self.encode(" " + text)

    def question(self, prompt: str, plan: Plan, *others: Plan, history: tuple[Turn, ...] = ()) -> Sequence:
        """Make the row that ends where the answer begins.

        Args:
            prompt: what the user says, with `{speech}`.
            plan: what stands in for it.
            others: what stands in for `{speech2}`, `{speech3}` and so on.
            history: the turns before; the slots may stand in them too.

        Raises:
            DataError: there is not exactly one slot for each plan, or the decoder's template leaves out earlier turns.
        """
        plans = (plan, *others)
        check_recordings(len(plans), prompt, history)
        slots, after = self._frame(prompt, history)
        pieces: list[Piece] = []
        for before, space, recording in slots:
            pieces += [TokenPiece(before), *self._utterance(plans[recording], space, recording)]
        return (*pieces, TokenPiece(after))

    def sequence(self, example: Example, plan: Plan, *others: Plan) -> Sequence:
        """Make the training row: the question, then the supervised answer.

        The end of the turn is supervised only where the answer is complete: one that was cut at the length
        limit must not teach the model to stop there.
        """
        answer = self.encode(example.response)
        if example.response_complete:
            answer = (*answer, self.end_of_turn)
        row = self.question(example.prompt, plan, *others, history=example.history)
        return (*row, TokenPiece(answer, supervised=True))

    def _utterance(self, plan: Plan, space: str, recording: int) -> list[Piece]:
        """Return the pieces of one recording, the first of them after `space`."""
        pieces: list[Piece] = []
        for segment in plan:
            marker = self.speech_marker if isinstance(segment, SpeechSegment) else self.text_marker
            if marker and len(plan) > 1:
                # A word like any other, and never supervised: the plan decides where it stands.
                pieces.append(TokenPiece(self.encode(space + marker)))
                space = " "
            if isinstance(segment, SpeechSegment):
                pieces.append(replace(segment, recording=recording))
            else:
                pieces.append(TokenPiece(self.encode(space + segment.text), segment.supervised))
            space = " "
        return pieces

    def _end_of_turn(self) -> int:
        """Return the token that the template puts after an answer; some models' end of text is another one."""
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARK}]
        text = self._tokenizer.apply_chat_template(turns, tokenize=False, date_string=_DATE)
        after = self._encode_template(text.split(_MARK)[1])
        if after and after[0] in self._tokenizer.added_tokens_decoder:
            return after[0]
        return int(self._tokenizer.eos_token_id)

    def _render(self, prompt: str, history: tuple[Turn, ...]) -> tuple[tuple[_Place, ...], tuple[int, ...]]:
        """Return what comes before each slot of the rendered chat, and the tokens after the last."""
        messages = chat(self.system, _marked(prompt), [replace(turn, prompt=_marked(turn.prompt)) for turn in history])
        text = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, date_string=_DATE
        )
        marks = [_marked(slot(recording)) for recording in range(check_prompt(prompt, history))]
        *parts, after = re.split(f"([{''.join(marks)}])", text)
        texts, found = parts[::2], parts[1::2]
        if sorted(found) != marks:
            raise DataError("the decoder's chat template does not show every turn once: it cannot have earlier turns")
        slots = tuple(
            (self._encode_template(before.removesuffix(" ")), " " if before.endswith(" ") else "", marks.index(mark))
            for before, mark in zip(texts, found, strict=True)
        )
        return slots, self._encode_template(after)


def _marked(prompt: str) -> str:
    """Put a character for each slot."""
    return SLOTS.sub(lambda match: chr(ord(_MARK) + int(match[1] or 1) - 1), prompt)
