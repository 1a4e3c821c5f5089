"""A neighbour stands beside the utterance, in the prompt and in the answer, drawn the same for every stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.config import Config
from toolkit.data.answers import AnswerStore, Question
from toolkit.data.neighbours import with_neighbours
from toolkit.data.tasks import Request, choose, load_tasks, training_requests
from toolkit.data.tokenization import ChatTokenizer
from toolkit.errors import ConfigError, DataError
from toolkit.interfaces import LOSSES
from toolkit.stages import imitate, train
from toolkit.stages.imitate import asked_examples, text_llm
from toolkit.stages.paths import answers_folder
from toolkit.types import Sequence, SpeechSegment, TextSegment, TokenPiece

TRANSCRIPTS = {f"u{i}": f"This is number {i}." for i in range(40)} | {"odd": "say {speech} twice", "empty": ""}
REQUESTS = training_requests(
    list(TRANSCRIPTS), choose(load_tasks(Path(__file__).resolve().parents[2] / "recipes" / "tasks"), []), 3, seed=1
)


def tokens(row: Sequence) -> list[int]:
    return [t for piece in row if isinstance(piece, TokenPiece) for t in piece.token_ids]


def test_the_share_is_kept_and_both_sides_are_as_likely() -> None:
    joined = with_neighbours(REQUESTS, TRANSCRIPTS, 0.5, seed=1)
    before, after = sum(bool(r.before) for r in joined), sum(bool(r.after) for r in joined)
    assert (before + after) / len(joined) == pytest.approx(0.5, abs=0.12)
    assert before / (before + after) == pytest.approx(0.5, abs=0.15)
    assert len({r.before or r.after for r in joined}) > 20
    assert [r for r in joined if not r.before + r.after] == [
        r for r, j in zip(REQUESTS, joined, strict=True) if not j.before + j.after
    ]


def test_a_draw_depends_on_the_seed_and_the_request_alone() -> None:
    whole = with_neighbours(REQUESTS, TRANSCRIPTS, 0.5, seed=1)
    assert with_neighbours(REQUESTS[20:40], TRANSCRIPTS, 0.5, seed=1) == whole[20:40]
    assert with_neighbours(REQUESTS, TRANSCRIPTS, 0.5, seed=2) != whole
    assert with_neighbours(REQUESTS, TRANSCRIPTS, 0.0, seed=1) == REQUESTS


def test_nobody_is_their_own_neighbour_and_a_slot_is_never_doubled() -> None:
    for request in with_neighbours(REQUESTS, TRANSCRIPTS, 1.0, seed=1):
        neighbour = request.before or request.after
        assert neighbour in TRANSCRIPTS.values()
        assert neighbour not in ("", TRANSCRIPTS[request.cut], TRANSCRIPTS["odd"])
        assert request.prompt.count("{speech}") == 1


@pytest.mark.parametrize("prompt", ["Repeat: {speech}", "{speech}", 'What is "{speech}"?', "{speech}\nWho says it?"])
@pytest.mark.parametrize("seed", range(6))
def test_a_row_reads_as_both_transcripts_joined(prompt: str, seed: int, tiny_llm: Path) -> None:
    tokenizer = ChatTokenizer(str(tiny_llm), "")
    own, other = "My aunt isn't large.", "She sells sea shells."
    [joined] = with_neighbours([Request("a", "t", "g", prompt)], {"a": own, "b": other}, 1.0, seed)
    whole = joined.whole(own)
    assert whole in (f"{own} {other}", f"{other} {own}")
    row = tokens(tokenizer.question(joined.prompt, (TextSegment(own),)))
    assert tokenizer.decode(row) == tokenizer.decode(tokens(tokenizer.question(prompt, (TextSegment(whole),))))
    heard = tokenizer.question(joined.prompt, (SpeechSegment(0, 1),))
    said = tokenizer.decode(tokens(heard))
    assert other in said
    assert own not in said


@pytest.mark.parametrize(
    ("error", "transcripts", "share", "message"),
    [
        (ConfigError, TRANSCRIPTS, 1.5, "imitate.concatenated is a share"),
        (ConfigError, TRANSCRIPTS, float("nan"), "imitate.concatenated is a share"),
        (DataError, {"u0": "alone", "empty": ""}, 0.5, "needs two utterances to join, and there are 1"),
    ],
)
def test_what_cannot_be_joined_is_refused(
    error: type[Exception], transcripts: dict[str, str], share: float, message: str
) -> None:
    with pytest.raises(error, match=message):
        with_neighbours(REQUESTS, transcripts, share, seed=1)


def test_training_learns_the_answer_to_both(config_of: Callable[..., Config], tmp_path: Path) -> None:
    config = config_of(tmp_path, "imitate.concatenated=1")
    llm = text_llm(config)
    with pytest.raises(DataError, match="run the imitate stage"):
        train.training_examples(config, llm, LOSSES.build(config.loss))
    imitate.run(config)
    examples = train.training_examples(config, llm, LOSSES.build(config.loss))
    alone = asked_examples(config, "train")
    plain = load_tasks(Path(config.imitate.tasks))
    wordings = {wording for task in plain.values() for wording in task.training}
    store = AnswerStore(answers_folder(config, "train", llm.key), llm.max_new_tokens)
    assert len(examples) > 10
    for example in examples:
        assert example.prompt not in wordings  # each has its neighbour
        assert example.transcript == alone[example.id].transcript
        assert example.words == alone[example.id].words
        answer = store.get(Question(example.prompt, example.transcript))
        if answer is None:  # a transcription: both are written down
            assert example.transcript in example.response
            assert len(example.response) > len(example.transcript)
        else:
            assert example.response == answer.text
