"""Benchmarks of others: their own files are read, a trained model answers, and rules score the answers.

No part of a benchmark that needs another LLM as a judge is run; such parts are named and counted instead.
"""
