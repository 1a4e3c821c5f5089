"""The stages of an experiment: each module is a step from files to files, with `run(config)`.

A stage may be rerun: it keeps what was made with the same settings, and writes under temporary names. The
modules are imported only when their stage runs.
"""

STAGES = {
    "prepare": "corpus -> cuts: audio checked, transcripts, splits",
    "align": "cuts -> cuts with word times",
    "encode": "cuts -> cached frames of the frozen encoder",
    "imitate": "transcripts -> the text LLM's own answers",
    "train": "cuts, frames and answers -> a trained adapter",
    "decode": "checkpoint and cuts -> hypotheses",
    "score": "hypotheses -> scores",
}
"""name -> what it does, in the order in which they are run"""
