"""Scores: how near the answers to speech come to the same LLM's answers to the true transcript.

`answers` pairs the systems' files, `metrics` counts, `bootstrap` gives intervals, `compute` joins these to a
`Scorecard`, to which `benchmark` adds what is said of other wordings, tasks and text; `results` lays scorecards of
several experiments side by side, and the rest draws them.
Nothing here imports torch: scoring needs files, not a model.
"""
