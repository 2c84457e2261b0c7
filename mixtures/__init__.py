"""Mixture families: one file each. Installed as `flanx.mixtures`."""
