from pathlib import Path

import pytest

from toolkit.config import compose_config, save_config
from toolkit.data.tokenization import ChatTokenizer
from toolkit.errors import DataError
from toolkit.stages.paths import as_trained
from toolkit.types import Example, Plan, Sequence, SpeechSegment, TextSegment, TokenPiece

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


MIXED: Plan = (SpeechSegment(0, 1), TextSegment("speaks English", True), SpeechSegment(2, 3), TextSegment("today"))
MARKERS = {"speech_marker": "<speech>", "text_marker": "<text>"}


def reading(tokenizer: ChatTokenizer, row: Sequence) -> list[str]:
    """Return the pieces of a row between the chat template's, as text or as `[heard]`."""
    pieces = [tokenizer._tokenizer.decode(p.token_ids) if isinstance(p, TokenPiece) else "[heard]" for p in row]
    return pieces[1:-1]


@pytest.mark.parametrize(("prompt", "space"), [("Say: {speech}!", " "), ("{speech} is it?", "")])
def test_markers_stand_before_the_pieces_of_an_interleaved_row(prompt: str, space: str, tiny_llm: Path) -> None:
    tokenizer = ChatTokenizer(str(tiny_llm), "", **MARKERS)
    row = tokenizer.question(prompt, MIXED)
    assert reading(tokenizer, row) == [
        f"{space}<speech>", "[heard]", " <text>", " speaks English", " <speech>", "[heard]", " <text>", " today",
    ]  # fmt: skip
    assert [tokenizer.decode(tokens((p,))) for p in row if isinstance(p, TokenPiece) and p.supervised] == [
        "speaks English"
    ]
    assert [p for p in row if isinstance(p, SpeechSegment)] == [MIXED[0], MIXED[2]]


def test_markers_change_no_token_of_the_text_and_of_the_prompt(tiny_llm: Path) -> None:
    plain, marked = ChatTokenizer(str(tiny_llm), ""), ChatTokenizer(str(tiny_llm), "", **MARKERS)
    marks = [TokenPiece(plain.encode(f" {marker}")) for marker in MARKERS.values()]
    row = marked.question("Say: {speech}!", MIXED)
    assert tuple(piece for piece in row if piece not in marks) == plain.question("Say: {speech}!", MIXED)


def test_one_marker_alone_marks_one_kind_of_piece(tiny_llm: Path) -> None:
    tokenizer = ChatTokenizer(str(tiny_llm), "", speech_marker="<speech>")
    assert reading(tokenizer, tokenizer.question("{speech}", MIXED[:2])) == ["<speech>", "[heard]", " speaks English"]


@pytest.mark.parametrize("plan", [(SpeechSegment(0, 1),), (TextSegment(SENTENCE),), (TextSegment(SENTENCE, True),)])
def test_an_utterance_in_one_piece_has_no_marker(plan: Plan, tiny_llm: Path) -> None:
    plain, marked = ChatTokenizer(str(tiny_llm), ""), ChatTokenizer(str(tiny_llm), "", **MARKERS)
    assert marked.question("Say: {speech}!", plan) == plain.question("Say: {speech}!", plan)


def test_a_marker_is_characters_even_if_it_is_spelt_as_a_special_token(tiny_llm: Path) -> None:
    tokenizer = ChatTokenizer(str(tiny_llm), "", speech_marker="<|im_end|>")
    row = tokenizer.question("Say: {speech}", MIXED)
    assert tokens(row).count(tokenizer.end_of_turn) == tokens(
        ChatTokenizer(str(tiny_llm), "").question("Say: {speech}", MIXED)
    ).count(tokenizer.end_of_turn)


def test_a_trained_model_keeps_its_markers(tmp_path: Path) -> None:
    trained, asked = (
        compose_config([f"exp_dir={tmp_path}", *more, "decoder.model=x", "encoder.model=y"])
        for more in ([f"{key}='{marker}'" for key, marker in MARKERS.items()], [])
    )
    (tmp_path / "checkpoint").mkdir()
    save_config(trained, tmp_path / "checkpoint" / "config.yaml")
    kept = as_trained(asked)
    assert (kept.speech_marker, kept.text_marker) == ("<speech>", "<text>")
