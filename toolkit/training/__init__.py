"""Training: one step, its schedule and its checkpoints."""
