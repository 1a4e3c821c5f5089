"""Imitation against one prompt at a time: what `python benchmarks/imitate.py` measures, as a case."""

from __future__ import annotations

from benchmarks.cases.generate import compare
from benchmarks.imitate import MODEL, OneAtATime, imitate, questions_of
from benchmarks.options import Options
from benchmarks.results import Figure
from toolkit.config import compose_config
from toolkit.stages.imitate import text_llm

FIGURES = ("imitate_vs_one_by_one",)


def run(options: Options) -> list[Figure]:
    """Measure."""
    config = compose_config(["exp_dir=-", "encoder.model=-", "egs=mini/conf/mini", f"decoder.model={MODEL}"])
    llm, alone = text_llm(config), OneAtATime(MODEL, config.imitate.max_new_tokens)
    questions, batch = questions_of(24 if options.quick else 192), 96
    alone.answer(questions[:2])
    imitate(llm, questions[:2], 2)
    values, processor, different = compare(
        lambda: alone.answer(questions), lambda: imitate(llm, questions, batch), options
    )
    return [
        Figure(
            "imitate_vs_one_by_one",
            f"answers of the text LLM a second in batches of {batch}, by `generate` one at a time with its cache",
            values,
            goal=6.0,
            equal=different == 0,
            notes=[
                f"{len(questions)} questions of egs/mini, at most {llm.max_new_tokens} tokens an answer, fp32",
                f"answers that differ: {different} of {len(questions)}",
                f"of processor time {min(processor):.2f} to {max(processor):.2f} times",
            ],
        )
    ]
