"""Several recordings and several turns in a row: the chat around them, and the batches that hold them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from toolkit.data.batches import Collator, numbered
from toolkit.data.tasks import evaluation_requests, load_tasks, training_requests
from toolkit.data.tokenization import ChatTokenizer, check_prompt
from toolkit.data.views import Shares, Views
from toolkit.errors import DataError
from toolkit.interleavers.words import WordsInterleaver
from toolkit.types import Example, Plan, Sequence, SpeechSegment, TextSegment, TokenPiece, Turn, Word

FIRST, SECOND = "She sells sea shells.", "My aunt speaks English, but the garden is large."
HISTORY = (Turn("Say: {speech}", "she sells"),)
CONVERSATIONS: list[tuple[tuple[Turn, ...], str]] = [
    ((), "Which is longer, {speech} or {speech2}?"),
    ((), "{speech2} {speech} What comes between?"),
    ((), "{speech}\n{speech2}"),
    (HISTORY, "And this? {speech2}"),
    ((Turn("{speech2} Repeat it.", "My aunt"), Turn("Go on.", "speaks {speech}")), "{speech} What now?"),
    ((Turn("{speech} and {speech2}", "Yes."),), "What is the capital of France?"),
]


@pytest.fixture(scope="module")
def tokenizer(tiny_llm: Path) -> ChatTokenizer:
    return ChatTokenizer(str(tiny_llm), "Be brief.")


def tokens(row: Sequence) -> list[int]:
    return [t for piece in row if isinstance(piece, TokenPiece) for t in piece.token_ids]


def spelt(text: str) -> str:
    return text.replace("{speech}", FIRST).replace("{speech2}", SECOND)


@pytest.mark.parametrize(("history", "prompt"), CONVERSATIONS)
def test_the_text_view_of_a_conversation_has_the_tokens_of_the_chat_template(
    history: tuple[Turn, ...], prompt: str, tokenizer: ChatTokenizer
) -> None:
    chat = [{"role": "system", "content": "Be brief."}]
    for turn in history:
        chat += [{"role": "user", "content": spelt(turn.prompt)}, {"role": "assistant", "content": turn.response}]
    chat.append({"role": "user", "content": spelt(prompt)})
    ours = tokenizer.question(prompt, (TextSegment(FIRST),), (TextSegment(SECOND),), history=history)
    text = tokenizer._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert tokenizer._tokenizer.decode(tokens(ours)) == text
    assert tokens(ours) == tokenizer._tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(("history", "prompt"), CONVERSATIONS)
def test_each_recording_stands_where_its_slot_does(
    history: tuple[Turn, ...], prompt: str, tokenizer: ChatTokenizer
) -> None:
    row = tokenizer.question(prompt, (SpeechSegment(0, 1),), (SpeechSegment(0, 2),), history=history)
    places = "".join([*(turn.prompt for turn in history), prompt])
    spans = [piece for piece in row if isinstance(piece, SpeechSegment)]
    wanted = [SpeechSegment(0, 1, 0), SpeechSegment(0, 2, 1)]
    assert spans == (wanted if places.index("{speech}") < places.index("{speech2}") else wanted[::-1])
    assert not any(piece.supervised for piece in row if isinstance(piece, TokenPiece))


def test_the_template_decides_between_speech_first_and_instruction_first(tokenizer: ChatTokenizer) -> None:
    def around(prompt: str) -> list[str]:
        row = tokenizer.question(prompt, (SpeechSegment(0, 1),))
        return [tokenizer._tokenizer.decode(piece.token_ids) for piece in row if isinstance(piece, TokenPiece)]

    opening, answer = (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n",
    )
    assert around("{speech} Where is it?") == [opening, f" Where is it?{answer}"]
    assert around("Where is it? {speech}") == [f"{opening}Where is it?", answer]


def test_markers_stand_in_the_interleaved_recordings_and_in_no_other(tiny_llm: Path) -> None:
    tokenizer = ChatTokenizer(str(tiny_llm), "", speech_marker="<speech>", text_marker="<text>")
    mixed: Plan = (TextSegment("My aunt"), SpeechSegment(1, 2), TextSegment("English"))
    row = tokenizer.question("{speech} or {speech2}?", (SpeechSegment(0, 1),), mixed)
    read = [tokenizer._tokenizer.decode(p.token_ids) if isinstance(p, TokenPiece) else p.recording for p in row]
    assert read[1:-1] == [0, " or", " <text>", " My aunt", " <speech>", 1, " <text>", " English"]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("{speech} or {speech}?", r"\{speech\} exactly once.*further recordings are \{speech2\}"),
        ("{speech} or {speech3}?", r"\{speech2\} exactly once"),
        ("{speech2}", r"\{speech\} exactly once"),
        ("{speech1}", r"\{speech\} exactly once"),
        ("{speech} {speech2} {speech02}", r"\{speech3\} exactly once"),
        ("{speech}", r"2 recordings, and no \{speech2\} in the prompt"),
        ("{speech}{speech2}{speech3}", r"no recording for the \{speech3\} of the prompt, only 2"),
    ],
)
def test_slots_and_recordings_must_agree(prompt: str, message: str, tokenizer: ChatTokenizer) -> None:
    with pytest.raises(DataError, match=message):
        tokenizer.question(prompt, (SpeechSegment(0, 1),), (SpeechSegment(0, 1),))


def test_slots_are_counted_over_the_turns(tokenizer: ChatTokenizer) -> None:
    assert check_prompt("Why?", HISTORY) == 1
    assert check_prompt("And {speech2}?", HISTORY) == 2
    with pytest.raises(DataError, match=r"'Say: \{speech\}', 'And \{speech\}\?'"):
        check_prompt("And {speech}?", HISTORY)
    with pytest.raises(DataError, match="exactly once"):
        check_prompt("Why?", [Turn("What?", "It is {speech}.")])  # an answer has no slots


def test_a_template_that_forgets_earlier_turns_is_refused(tiny_llm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "forgetful"
    shutil.copytree(tiny_llm, folder)
    path = folder / "tokenizer_config.json"
    template = "{% set m = messages[-1] %}<|im_start|>{{ m['content'] }}<|im_end|>"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": template}))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer = ChatTokenizer(str(folder), "")
    tokenizer.question("{speech}", (SpeechSegment(0, 1),))
    with pytest.raises(DataError, match="does not show every turn"):
        tokenizer.question("Why?", (SpeechSegment(0, 1),), history=HISTORY)


def said(name: str, text: str) -> Example:
    words = tuple(Word(word, i / 2, (i + 1) / 2) for i, word in enumerate(text.split()))
    return Example(name, len(words) / 2, text, words)


A, B, C = said("a", FIRST), said("b", SECOND), said("c", "What is the capital of France?")
ROWS = [
    replace(A, prompt="{speech} or {speech2}?", response="the first", others=(B,)),
    replace(C, prompt="Say: {speech}", response="what"),
    replace(B, prompt="{speech3} {speech} {speech2}", response="large", response_complete=False, others=(C, A)),
    replace(C, prompt="And {speech2}?", response="no", others=(A,), history=HISTORY),
]


def collator(tokenizer: ChatTokenizer, shares: Shares, ratio: float = 0.5) -> Collator:
    def load(name: str) -> torch.Tensor:
        return torch.full((3 + ord(name) - ord("a"), 2), float(ord(name)))

    return Collator(tokenizer, Views(WordsInterleaver(ratio=ratio), shares, seed=1), load, teacher=True)


def test_a_batch_has_a_row_of_frames_for_each_recording(tokenizer: ChatTokenizer) -> None:
    batch = collator(tokenizer, Shares(1.0))(ROWS, 0, 0)
    assert batch.recordings == ((0, 1), (2,), (3, 4, 5), (6, 7))
    assert batch.ids == ("a", "c", "b", "c")
    assert batch.frames is not None
    assert batch.transcripts is not None
    assert batch.token_times is not None
    names = "abcbcaca"
    assert [chr(int(row[0, 0])) for row in batch.frames.unpad()] == list(names)
    texts = {e.id: e.transcript for e in (A, B, C)}
    assert [tokenizer.decode(row.tolist()) for row in batch.transcripts.unpad()] == [texts[name] for name in names]
    assert [len(row) for row in batch.token_times.unpad()] == batch.transcripts.lengths.tolist()
    assert not torch.isnan(torch.cat(batch.token_times.unpad())).any()
    assert batch.to("cpu").recordings == batch.recordings


@pytest.mark.parametrize("shares", [Shares(1.0), Shares(0.0, 1.0), Shares(0.0), Shares(0.3, 0.3)])
def test_the_teachers_targets_are_the_students(shares: Shares, tokenizer: ChatTokenizer) -> None:
    def targets(rows: tuple[Sequence, ...]) -> list[list[int]]:
        return [tokens(tuple(p for p in row if isinstance(p, TokenPiece) and p.supervised)) for row in rows]

    for step in range(5):
        batch = collator(tokenizer, shares)(ROWS, step, step)
        assert batch.teacher_sequences is not None
        assert targets(batch.sequences) == targets(batch.teacher_sequences)
        assert [tokenizer.decode(row) for row in targets(batch.sequences)] == [row.response for row in ROWS]


def test_all_recordings_of_a_row_are_in_one_view_and_each_is_interleaved(tokenizer: ChatTokenizer) -> None:
    collate = collator(tokenizer, Shares(0.3, 0.3))
    views = set()
    for step in range(40):
        row = collate([ROWS[2]], step, step).sequences[0]
        heard = {n: [p for p in row if isinstance(p, SpeechSegment) and p.recording == n] for n in range(3)}
        whole = [heard[n] == [SpeechSegment(0.0, e.duration, n)] for n, e in enumerate(ROWS[2].utterances)]
        silent = [not spans for spans in heard.values()]
        mixed = [bool(spans) and not w for spans, w in zip(heard.values(), whole, strict=True)]
        views.add("speech" if all(whole) else "text" if all(silent) else "mixed" if all(mixed) else "several")
    assert views == {"speech", "text", "mixed"}


def test_recordings_are_numbered_row_by_row() -> None:
    assert numbered([1, 2, 3]) == ((0,), (1, 2), (3, 4, 5))
    assert numbered([]) == ()


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    (tmp_path / "pair.yaml").write_text(
        "name: pair\nfamily: content\nwordings:\n"
        "  training: ['{speech} or {speech2}?', 'From {speech2} to {speech}']\n"
        "  held_out: ['{speech3}{speech2}{speech}']\n"
    )
    return tmp_path


def test_others_are_drawn_by_the_utterance_and_the_wording_alone(tasks: Path) -> None:
    loaded = load_tasks(tasks)
    cuts = [f"utt{i}" for i in range(30)]
    requests = evaluation_requests(cuts, loaded)
    for request in requests:
        assert len(set(request.utterances)) == len(request.utterances) == check_prompt(request.prompt)
        assert set(request.utterances) <= set(cuts)
    assert requests == evaluation_requests(cuts, loaded)
    trained = [training_requests(cuts, list(loaded.values()), 1, seed) for seed in (1, 2)]
    drawn = {(r.cut, r.prompt): r.others for r in requests}
    assert all(drawn.get((r.cut, r.prompt), r.others) == r.others for seed in trained for r in seed)
    assert len({r.others for r in requests if len(r.others) == 1}) > 10
    with pytest.raises(DataError, match="asks about 3 utterances at once, and the split has 2"):
        evaluation_requests(cuts[:2], loaded)


def test_transcription_is_of_one_utterance(tmp_path: Path) -> None:
    wordings = "{training: ['{speech} {speech2}'], held_out: ['a {speech}']}"
    text = f"name: transcribe\nfamily: a\ntarget: transcript\nwordings: {wordings}"
    (tmp_path / "transcribe.yaml").write_text(text)
    with pytest.raises(DataError, match=r"transcribe\.yaml: the transcript of one utterance"):
        load_tasks(tmp_path)


def test_an_example_of_a_request_holds_the_others(tasks: Path) -> None:
    examples = {e.id: e for e in (A, B, C)}
    request = next(r for r in evaluation_requests(list(examples), load_tasks(tasks)) if r.group == "held_out_wording")
    example = request.example(examples)
    assert tuple(utterance.id for utterance in example.utterances) == request.utterances
