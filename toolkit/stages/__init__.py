"""The stages of an experiment: each module is a step from files to files, with `run(config)`.

A stage may be rerun: it keeps what was made with the same settings, and writes under temporary names. The
modules are imported only when their stage runs; their order and titles are in `toolkit.cli`.
"""
