"""Filters at work: which rows do not reach the store. Settings are in `flanx.data.filters`."""
