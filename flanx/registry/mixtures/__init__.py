"""Mixtures: their parts, the tasks that they select, and how each weighs."""
