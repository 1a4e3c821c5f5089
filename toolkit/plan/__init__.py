"""What an experiment would take, told before any weights are there: sizes, memory, steps."""
