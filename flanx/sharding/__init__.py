"""Devices as a mesh, logical axes, and where each array lies."""
