"""The speech LLM: the splice, the model and what of it is trained."""
