"""Corpora, cuts, word times, prompts, tokens and caches: everything between the files and the model."""
