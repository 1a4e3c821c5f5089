"""Text -> tokens: the chat around an utterance, and the utterance itself in pieces.

The space before a word belongs to the word: pieces of an interleaved sentence are cut before spaces, where
byte-level tokenizers cut too, so that the pieces give the tokens of the whole. A test holds the round trip.

A marker may stand before each piece of an interleaved utterance, as SIMS (arXiv 2504.02398) marks every switch
with `<speech>` or `<text>`. Ours is plain text of the decoder's own vocabulary. An utterance in one piece has no
marker; only training has others, so whoever decodes sees none.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from toolkit.assets.locate import locate
from toolkit.errors import DataError
from toolkit.types import Example, Piece, Plan, Sequence, SpeechSegment, TokenPiece

SLOT = "{speech}"
"""stands in a prompt where the utterance goes"""
_MARK = "\ue000"
"""a private-use character, so that nothing a user writes can be taken for the slot"""
_DATE = "01 Jan 2025"
"""for templates that tell the model the date: a prompt must not change from day to day"""


def check_prompt(prompt: str) -> str:
    """Return the prompt if it has exactly one `{speech}`.

    Raises:
        DataError: it has none or several.
    """
    if prompt.count(SLOT) != 1:
        raise DataError(f"the prompt must hold {SLOT} exactly once, where the utterance goes: {prompt!r}")
    return prompt


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

    def transcript(self, text: str) -> tuple[int, ...]:
        """Tokenise a transcript as it stands in a prompt after a space; what CTC is trained on."""
        return self.encode(" " + text)

    def question(self, prompt: str, plan: Plan) -> Sequence:
        """Make the row that ends where the answer begins.

        Args:
            prompt: what the user says, with `{speech}`.
            plan: what stands in for it.

        Raises:
            DataError: the prompt has not exactly one `{speech}`.
        """
        before, space, after = self._frame(check_prompt(prompt))
        pieces: list[Piece] = [TokenPiece(before)]
        for segment in plan:
            marker = self.speech_marker if isinstance(segment, SpeechSegment) else self.text_marker
            if marker and len(plan) > 1:
                # A word like any other, and never supervised: the plan decides where it stands.
                pieces.append(TokenPiece(self.encode(space + marker)))
                space = " "
            if isinstance(segment, SpeechSegment):
                pieces.append(segment)
            else:
                pieces.append(TokenPiece(self.encode(space + segment.text), segment.supervised))
            space = " "
        return (*pieces, TokenPiece(after))

    def sequence(self, example: Example, plan: Plan) -> Sequence:
        """Make the training row: the question, then the supervised answer.

        The end of the turn is supervised only where the answer is complete: one that was cut at the length
        limit must not teach the model to stop there.
        """
        answer = self.encode(example.response)
        if example.response_complete:
            answer = (*answer, self.end_of_turn)
        return (*self.question(example.prompt, plan), TokenPiece(answer, supervised=True))

    def _end_of_turn(self) -> int:
        """Return the token that the template puts after an answer; some models' end of text is another one."""
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARK}]
        text = self._tokenizer.apply_chat_template(turns, tokenize=False, date_string=_DATE)
        after = self._encode_template(text.split(_MARK)[1])
        if after and after[0] in self._tokenizer.added_tokens_decoder:
            return after[0]
        return int(self._tokenizer.eos_token_id)

    def _render(self, prompt: str) -> tuple[tuple[int, ...], str, tuple[int, ...]]:
        """Return the tokens before the utterance, the space that goes with it, and the tokens after it."""
        messages = [{"role": "user", "content": prompt.replace(SLOT, _MARK)}]
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": self.system})
        text = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, date_string=_DATE
        )
        before, after = text.split(_MARK)
        space = " " if before.endswith(" ") else ""
        return self._encode_template(before.removesuffix(" ")), space, self._encode_template(after)
