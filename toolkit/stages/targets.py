"""Requests joined with their targets: what is trained on, and what is left out of it and why.

`imitate` tells of it and `train` learns it; both ask here, so that they cannot disagree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace

from toolkit.data.answers import Answer, AnswerStore, Question
from toolkit.data.labels import known_target
from toolkit.data.tasks import Request, Task
from toolkit.errors import DataError
from toolkit.stages.filters import Reply, dropped_by
from toolkit.types import Example


@dataclass
class Joined:
    """The requests of one split with their targets."""

    pairs: list[tuple[Request, Example]] = field(default_factory=list)
    """in the order of the requests, what is left out left out"""
    dropped: list[tuple[Request, str, Answer]] = field(default_factory=list)
    """what a filter drops: the request, the filter, the answer"""
    empty: int = 0
    """requests to which the answer is empty"""

    @property
    def examples(self) -> list[Example]:
        """Return what is learnt."""
        return [example for _, example in self.pairs]

    @property
    def drops(self) -> dict[str, Counter[str]]:
        """Return how many answers each filter drops, by task."""
        counts: dict[str, Counter[str]] = {}
        for request, name, _ in self.dropped:
            counts.setdefault(name, Counter())[request.task] += 1
        return counts

    def report(self, split: str) -> list[str]:
        """Tell what of a split is left out, a line for each kind of reason; no line where nothing is."""
        asked = len(self.pairs) + len(self.dropped) + self.empty
        lines = []
        if self.empty:
            lines.append(f"{self.empty} of {asked} {split} requests are left out: the LLM's answer to them is empty")
        if self.dropped:
            each = (
                f"{name} {sum(tasks.values())} ({', '.join(f'{task} {n}' for task, n in tasks.most_common())})"
                for name, tasks in self.drops.items()
            )
            lines.append(f"{len(self.dropped)} of {asked} {split} requests are dropped by filters: {', '.join(each)}")
        return lines


def join(
    store: AnswerStore,
    requests: Seq[Request],
    examples: Mapping[str, Example],
    tasks: Mapping[str, Task],
    filters: Seq[str] = (),
) -> Joined:
    """Join requests with their targets: the LLM's answer, or the transcript or label where the task says so.

    Args:
        store: of the answers.
        requests: what is asked.
        examples: the utterances, by id.
        tasks: by name.
        filters: those that drop answers, of which the first that fires is counted; none for dev and test.

    Raises:
        DataError: a request has no answer yet.
    """
    texts = {name: example.transcript for name, example in examples.items()}
    joined = Joined()
    for request in requests:
        example, task = request.example(examples), tasks[request.task]
        known = known_target(task, request, example)
        answer = Answer(known or "", True)
        if known is None:
            found = store.get(Question.of(request, texts))
            if found is None:
                raise DataError(
                    f"no answer to {request.prompt!r} for '{request.cut}' in {store.path}: "
                    "run the imitate stage with this recipe"
                )
            answer = found
            said = (request.whole(example.transcript), *(texts[name] for name in request.utterances))
            if answer.text and (name := dropped_by(filters, Reply(answer, task, tuple(dict.fromkeys(said))))):
                joined.dropped.append((request, name, answer))
                continue
        if answer.text:
            target = replace(example, prompt=request.prompt, response=answer.text, response_complete=answer.complete)
            joined.pairs.append((request, target))
        else:
            joined.empty += 1
    return joined
