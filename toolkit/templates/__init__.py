"""What `toolkit new` copies: one small part of each kind that keeps its law, a recipe and a task.

The parts are real modules, checked like any other, but nobody imports them: `new_part` is not registered.
"""
