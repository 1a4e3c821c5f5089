"""How much faster imitation is than asking one prompt at a time, and whether the answers are the same.

Both sides answer the same questions, of egs/mini's transcripts under recipes/tasks, on the same machine with the same
weights in fp32: one by Hugging Face's own `generate`, a prompt at a time, the other as `toolkit imitate` does. They
take turns, and each repeat changes who begins. Read the ratio of a machine that has nothing else to do; on a busy one
the ratio of processor time says more.

    OMP_NUM_THREADS=2 python benchmarks/imitate.py --questions 192 --repeats 3
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # a script's own folder comes first on the path, and the package is one above
    sys.path[0] = str(Path(__file__).resolve().parents[1])

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from toolkit.assets.locate import locate
from toolkit.config import compose_config
from toolkit.data.answers import Answer, AnswerStore, Question
from toolkit.data.tasks import choose, load_tasks, training_requests
from toolkit.data.tokenization import chat, written
from toolkit.stages.fill import batches_ahead
from toolkit.stages.imitate import TextLLM, spread, text_llm

ROOT = Path(__file__).resolve().parents[1]
MODEL = "asset:smollm2-135m-instruct"
Answers = dict[Question, str]


def questions_of(count: int) -> list[Question]:
    """Return what the imitate stage asks of the training utterances of egs/mini, `count` of it, in its own mixture."""
    lines = (ROOT / "egs/mini/corpus/utterances.jsonl").read_text(encoding="utf-8").split("\n")
    texts = {row["id"]: row["text"] for row in map(json.loads, filter(None, lines)) if row["split"] == "train"}
    tasks = load_tasks(ROOT / "recipes/tasks")
    requests = training_requests(spread(sorted(texts), count), choose(tasks, []), 2, seed=1)
    asked = {Question.of(r, texts): None for r in requests if tasks[r.task].target == "llm"}
    return spread(list(asked), count)


class OneAtATime:
    """Hugging Face's `generate`, as its documentation has it: the chat template, one prompt, greedy, with a cache."""

    def __init__(self, model: str, max_new_tokens: int) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(locate(model))
        self.lm: Any = AutoModelForCausalLM.from_pretrained(locate(model), dtype=torch.float32).eval()
        self.max_new_tokens = max_new_tokens

    def tokens(self, question: Question) -> Any:
        """Return the input of one question."""
        messages = chat(None, written(question.prompt, [text for text, _ in question.said]))
        return self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )

    @torch.no_grad()
    def answer(self, questions: Seq[Question]) -> Answers:
        """Answer them, one after the other."""
        answers = {}
        for question in questions:
            prompt = self.tokens(question)
            row = self.lm.generate(**prompt, max_new_tokens=self.max_new_tokens, do_sample=False, use_cache=True)[0]
            said = row[prompt["input_ids"].shape[1] :]
            answers[question] = self.tokenizer.decode(said, skip_special_tokens=True).strip()
        return answers


def imitate(llm: TextLLM, questions: Seq[Question], batch_size: int) -> Answers:
    """Answer them as the stage does, into a store of answers."""
    with tempfile.TemporaryDirectory() as folder:
        store = AnswerStore(Path(folder), llm.max_new_tokens)
        for _ in store.fill(questions, llm.answer, batch_size * batches_ahead(len(questions), batch_size, 1)):
            pass
        found = {question: store.get(question) for question in questions}
    return {question: answer.text for question, answer in found.items() if isinstance(answer, Answer)}


def timed(side: Callable[[], Answers]) -> tuple[float, float, Answers]:
    """Return the seconds that a side takes, those that the processors spend on it, and its answers."""
    begun, spent = time.perf_counter(), time.process_time()
    answers = side()
    return time.perf_counter() - begun, time.process_time() - spent, answers


def main() -> int:
    """Measure; returns 1 where an answer differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=192)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("overrides", nargs="*", help="of the configuration, such as imitate.max_new_tokens=48")
    given = parser.parse_args()
    corpus = ["egs=mini/conf/mini", "imitate.batch_size=96", f"decoder.model={given.model}"]
    config = compose_config(["exp_dir=-", "encoder.model=-", *corpus, *given.overrides])
    llm, alone = text_llm(config), OneAtATime(given.model, config.imitate.max_new_tokens)
    questions = questions_of(given.questions)
    sides: dict[str, Callable[[], Answers]] = {
        "one at a time": lambda: alone.answer(questions),
        "imitation": lambda: imitate(llm, questions, config.imitate.batch_size),
    }
    alone.answer(questions[:2])
    imitate(llm, questions[:2], 2)
    wordings = len({question.prompt for question in questions})
    print(
        f"{len(questions)} questions, {wordings} wordings, at most {llm.max_new_tokens} tokens an answer; "
        f"{given.model} in fp32, batches of {config.imitate.batch_size}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}"
    )
    ratios: list[float] = []
    processor: list[float] = []
    different = 0
    for repeat in range(given.repeats):
        order = list(sides) if repeat % 2 == 0 else list(reversed(sides))
        results = {name: timed(sides[name]) for name in order}
        (slow, much, theirs), (fast, little, ours) = results["one at a time"], results["imitation"]
        wrong = [question for question in questions if theirs[question] != ours[question]]
        different = max(different, len(wrong))
        ratios.append(slow / fast)
        processor.append(much / little)
        print(
            f"  repeat {repeat + 1}: one at a time {slow:.1f} s ({len(questions) / slow:.2f} a second), imitation "
            f"{fast:.1f} s ({len(questions) / fast:.2f} a second), ratio {slow / fast:.2f}, of processor time "
            f"{much / little:.2f} ({much:.1f} s, {little:.1f} s); {len(wrong)} differ",
            flush=True,
        )
        for question in wrong if repeat == 0 else ():
            print(f"    {question.prompt!r} {question.text!r}\n      {theirs[question]!r}\n      {ours[question]!r}")
    for name, values in (("ratio", ratios), ("of processor time", processor)):
        print(f"{name}: median {statistics.median(values):.2f}, from {min(values):.2f} to {max(values):.2f}")
    print(f"answers that differ: {different} of {len(questions)}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
