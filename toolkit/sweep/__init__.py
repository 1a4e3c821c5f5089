"""Sweeps: cells that differ in a few overrides, each trained in a process of its own, and one table of them."""
