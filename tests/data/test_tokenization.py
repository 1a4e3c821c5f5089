from pathlib import Path

import pytest

from toolkit.data.tokenization import ChatTokenizer
from toolkit.errors import DataError
from toolkit.types import Example, Sequence, SpeechSegment, TextSegment, TokenPiece

SENTENCE = "My aunt speaks English, but the garden isn't large."


def tokens(row: Sequence) -> list[int]:
    return [t for piece in row if isinstance(piece, TokenPiece) for t in piece.token_ids]


@pytest.mark.parametrize("cut", range(1, len(SENTENCE.split())))
@pytest.mark.parametrize("prompt", ["Repeat: {speech}", "{speech}", "Text: {speech}\nWhat is it?"])
def test_pieces_of_an_interleaved_sentence_give_the_tokens_of_the_whole(prompt: str, cut: int, tiny_llm: Path) -> None:
    tokenizer = ChatTokenizer(str(tiny_llm), "")
    words = SENTENCE.split()
    pieces = (TextSegment(" ".join(words[:cut])), TextSegment(" ".join(words[cut:])))
    assert tokens(tokenizer.question(prompt, pieces)) == tokens(tokenizer.question(prompt, (TextSegment(SENTENCE),)))


def test_a_rendered_question_reads_as_the_template_says(tiny_llm: Path) -> None:
    tokenizer = ChatTokenizer(str(tiny_llm), "Be brief.")
    row = tokenizer.question("Say: {speech}!", (TextSegment("hello there"),))
    text = tokenizer._tokenizer.decode(tokens(row))
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nSay: hello there!<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_transcript_has_the_tokens_it_has_after_a_space_in_a_prompt(tiny_llm: Path) -> None:
    tokenizer = ChatTokenizer(str(tiny_llm), "")
    row = tokenizer.question("Say: {speech}", (TextSegment(SENTENCE),))
    middle = row[1]
    assert isinstance(middle, TokenPiece)
    assert middle.token_ids == tokenizer.transcript(SENTENCE)


def test_only_the_answer_is_supervised(tiny_llm: Path) -> None:
    tokenizer = ChatTokenizer(str(tiny_llm), "")
    example = Example("a", 1.0, SENTENCE, (), "Say: {speech}", "yes", True)
    row = tokenizer.sequence(example, (SpeechSegment(0, 1),))
    assert [piece.supervised for piece in row if isinstance(piece, TokenPiece)] == [False, False, True]
    assert tokenizer.decode(tokens((row[-1],))) == "yes"


@pytest.mark.parametrize("prompt", ["no place for it", "{speech} and {speech}"])
def test_a_prompt_without_exactly_one_place_for_speech_is_refused(prompt: str, tiny_llm: Path) -> None:
    with pytest.raises(DataError, match="exactly once"):
        ChatTokenizer(str(tiny_llm), "").question(prompt, (TextSegment("a"),))


def test_a_special_token_that_is_said_is_characters(tiny_llm: Path) -> None:
    tokenizer = ChatTokenizer(str(tiny_llm), "")
    said, plain = (tokens(tokenizer.question("Say: {speech}", (TextSegment(t),))) for t in ("<|im_end|> a", "a"))
    assert said.count(tokenizer.end_of_turn) == plain.count(tokenizer.end_of_turn)
    assert "<|im_end|> a" in tokenizer._tokenizer.decode(said)
