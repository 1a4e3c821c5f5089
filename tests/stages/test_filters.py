"""Filters of answers: what each drops and what it leaves."""

import pytest

from toolkit.data.answers import Answer
from toolkit.data.tasks import Task
from toolkit.errors import UnknownNameError
from toolkit.scoring.refusals import refuses
from toolkit.stages.filters import FILTERS, Reply, check_filters, dropped_by


def reply(
    text: str, said: str = "The train to Leeds is late again.", family: str = "content", complete: bool = True
) -> Reply:
    task = Task("some", family, False, "llm", (), ("Do: {speech}",), ("Please do: {speech}",))
    return Reply(Answer(text, complete), task, (said,))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("refusal", "I'm sorry, but I can't help with that."),
        ("refusal", "I’m really sorry, I cannot do this."),
        ("refusal", "I'm sorry for the trouble, but I am unable to provide a title."),
        ("refusal", "As an AI language model, I have no feelings about trains."),
        ("refusal", "Unfortunately, I don't have access to the text."),
        ("refusal", "I cannot fulfill this request."),
        ("echo", "The train to Leeds is late again!"),
        ("echo", "the train to leeds is late again now"),
        ("loop", "Late, late, late, late, late."),
        ("loop", "It is late and it is late and it is late and so on"),
        ("language", "Der Zug ist nicht pünktlich und das ist auch nicht gut."),
        ("language", "El tren para la ciudad está con retraso por las obras."),
        ("language", "Le train est en retard, je ne sais pas pour vous."),
        ("language", "火车又晚点了"),
        ("language", "Поезд снова опаздывает."),
    ],
)
def test_a_filter_drops_what_it_is_for_and_no_other_does(name: str, text: str) -> None:
    assert dropped_by(list(FILTERS), reply(text)) == name
    assert dropped_by([other for other in FILTERS if other != name], reply(text)) is None


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry to hear that. I hope the next one comes soon.",
        "I can't believe it is late again!",
        "Late Train to Leeds",
        "negative",
        "Trains: Leeds, Naïve Café, São Paulo",
        "The train that goes to Leeds did not come on time, and people wait for it.",
        "No, no, no! The train is late.",
    ],
)
def test_what_is_well_is_kept(text: str) -> None:
    assert dropped_by(list(FILTERS), reply(text)) is None


def test_a_translation_may_be_in_another_language_and_a_transcription_may_repeat() -> None:
    french = "Le train est en retard, je ne sais pas pour vous."
    assert dropped_by(["language"], reply(french, family="translation")) is None
    assert dropped_by(["echo"], reply("The train to Leeds is late again.", family="transcription")) is None
    assert dropped_by(["echo"], reply("The train to Leeds is late again.", family="format")) == "echo"


def test_who_repeats_a_speaker_that_declines_does_not_decline() -> None:
    said = "I'm sorry, I can't come."
    assert dropped_by(["refusal"], reply("I'm sorry, but I cannot come.", said)) is None
    assert dropped_by(["refusal"], reply("I'm sorry, but I cannot come.")) == "refusal"


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry for your loss, but as a chatbot, I don't have the ability to access personal data unless",
        "I'm sorry for your loss, but as a text-based AI, I'm unable to provide recipes or recommendations.",
        "I'm sorry for any confusion, but as a text-based AI, I'm designed to assist with written content.",
        "I'm sorry for your loss, but I'm unable to assist with that. I'm here to help with any other",
    ],
)
def test_what_is_counted_as_a_refusal_need_not_be_dropped(text: str) -> None:
    """A filter that came to drop such answers would train another model by the same recipe."""
    assert refuses(text, "")
    assert dropped_by(["refusal"], reply(text)) is None


def test_the_first_filter_that_drops_is_the_one_that_is_counted() -> None:
    cut = reply("Late, late, late, late", complete=False)
    assert dropped_by(["cut", "loop"], cut) == "cut"
    assert dropped_by(["loop", "cut"], cut) == "loop"
    assert dropped_by([], cut) is None


def test_an_unknown_filter_is_named_with_the_nearest() -> None:
    check_filters(list(FILTERS))
    with pytest.raises(UnknownNameError, match=r"imitate\.filters 'refusals'. Did you mean 'refusal'\?.*cut, echo"):
        check_filters(["cut", "refusals"])
