"""Stage: a trained experiment -> how far what it learnt holds beyond the prompts of its training.

<exp_dir>/bench/<split>/{speech,deaf,text,other,cascade,gap,knowledge}.jsonl -> <exp_dir>/bench/{scores.json,BENCH.md}

It is decode and score with more questions and more measures; `bench.rescore` scores the raw answers that are there.
"""

from __future__ import annotations

import json
from pathlib import Path

from toolkit.config import Config, require
from toolkit.data.answers import Answer, AnswerStore, Question
from toolkit.data.fingerprint import fingerprint
from toolkit.data.tasks import Task, benchmark_requests, load_tasks
from toolkit.errors import ConfigError, DataError
from toolkit.rules import parse_rule
from toolkit.scoring.behaviour import GAPS, KNOWLEDGE, Gap, Known, read_kept, write_kept
from toolkit.scoring.bench_page import PAGE, write_benchmark
from toolkit.scoring.benchmark import benchmark
from toolkit.scoring.bootstrap import Resampling
from toolkit.scoring.layout import turned
from toolkit.scoring.scorecard import FILE, write_text
from toolkit.scoring.terminal import draw
from toolkit.stages.behaviour import Knowledge, behaviour_gaps
from toolkit.stages.decode import Asked, answer_all, checked, hearing_model, mark_of, text_answers
from toolkit.stages.fill import fill
from toolkit.stages.imitate import split_examples, spread, text_llm, transcripts
from toolkit.stages.paths import answers_folder, as_trained, benchmark_folder, checkpoint_folder
from toolkit.stages.progress import CONSOLE, say
from toolkit.stages.score import about_experiment, check_scoring, find_answers
from toolkit.training.checkpoint import weights_path

ASKED = "asked.json"


def run(config: Config) -> Path:
    """Ask the benchmark's questions, unless the answers alone are to be scored, and score them.

    Returns:
        the path of `scores.json`.

    Raises:
        ConfigError: an option, a system or the rule of a task is none that there is.
        CheckpointError: nothing was trained yet.
        DataError: there are no answers to score again.
    """
    check_scoring(config)
    if not config.bench.rescore:
        ask(config)
    return score(config)


def ask(config: Config) -> None:
    """Have every system answer, measure the gap and ask for the knowledge; what is there already is kept."""
    if "speech" not in config.bench.systems:
        raise ConfigError("bench.systems needs 'speech': it is what the others stand beside")
    config = checked(config, config.bench.systems, "bench.systems")
    asked = what_to_ask(config)
    learns = config.decode.hears == "model"
    if learns:
        weights_path(checkpoint_folder(config))  # known before the text LLM answers for hours
    # Where nothing was trained there is nothing that could have been forgotten.
    knowledge = Knowledge(asked, config.bench.knowledge if learns else 0, config.imitate.batch_size)
    untouched = _ask_in_text(config, asked, knowledge)
    model = hearing_model(config)
    llm = text_llm(config, model.decoder if model else None)
    mark = mark_of(config, model, llm)
    answer_all(config, asked, model, llm, llm, mark)
    truths = text_answers(AnswerStore(answers_folder(config, asked.split, llm.key), llm.max_new_tokens), asked)
    write_kept(asked.folder / GAPS, behaviour_gaps(config, asked, model, llm, truths, mark))
    trained = knowledge.ask(llm.answer_as_trained, mark, llm.max_new_tokens)
    write_kept(asked.folder / KNOWLEDGE, list(knowledge.compare(untouched, trained)))
    families = {name: task.family for name, task in asked.tasks.items()}
    write_text(asked.folder / ASKED, json.dumps({"families": families}, indent=1, ensure_ascii=False) + "\n")


def score(config: Config) -> Path:
    """Score the raw answers into `scores.json` and `BENCH.md`; return the path of the former."""
    exp_dir, folder = Path(require(config.exp_dir, "exp_dir")), benchmark_folder(config, config.decode.split)
    files = find_answers(folder, "bench")
    card = benchmark(
        files,
        _families(folder / ASKED),
        gaps=read_kept(folder / GAPS, Gap),
        knowledge=read_kept(folder / KNOWLEDGE, Known),
        normaliser_name=config.score.normaliser,
        resampling=Resampling(config.score.bootstrap),
        examples=config.score.examples,
        metadata=about_experiment(as_trained(config), files),
    )
    path = folder.parent / FILE
    card.write(path)
    results = write_benchmark(folder.parent, exp_dir.resolve().name, card)
    CONSOLE.print(draw(turned(results.tables[0])))
    say(f"bench: {path}")
    say(f"the page: {path.parent / PAGE}")
    return path


def what_to_ask(config: Config) -> Asked:
    """Choose utterances and requests.

    Raises:
        ConfigError: the rule of a task is none that there is.
    """
    split, bench = config.decode.split, config.bench
    tasks = load_tasks(Path(bench.tasks or config.imitate.tasks))
    for task in tasks.values():
        _check_rule(task)
    known = split_examples(config, split)
    examples = {name: known[name] for name in spread(sorted(known), bench.utterances or len(known))}
    requests = benchmark_requests(list(examples), tasks, bench.wordings)
    about = fingerprint({"asked": [[r.cut, r.task, r.group, r.prompt, *r.others] for r in requests]})
    return Asked(split, benchmark_folder(config, split), bench.systems, examples, tasks, requests, f" {about}")


def _ask_in_text(config: Config, asked: Asked, knowledge: Knowledge) -> list[Answer]:
    """Have the untouched LLM, loaded from its own files alone, answer all that is asked in text.

    It is gone when this returns: two large LLMs may not fit.
    """
    llm = text_llm(config)
    store = AnswerStore(answers_folder(config, asked.split, llm.key), llm.max_new_tokens)
    heard = [asked.itself, asked.other] if asked.other else [asked.itself]
    texts = [transcripts(asked.examples, pairs) for pairs in heard]
    questions = [Question.of(request, said) for said in texts for request in asked.requests]
    fill(store, questions, llm.answer, config.imitate.batch_size, f"answer {asked.split} for the benchmark")
    return knowledge.ask(llm.answer, llm.key, llm.max_new_tokens)


def _check_rule(task: Task) -> None:
    if task.rule:
        try:
            parse_rule(task.rule)
        except ConfigError as error:
            raise ConfigError(f"task '{task.name}': {error}") from error


def _families(path: Path) -> dict[str, str]:
    """Read which task is of which family."""
    if not path.is_file():
        raise DataError(f"{path} is missing, which says of which family the tasks are: bench again, not only rescore")
    families: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))["families"]
    return families
