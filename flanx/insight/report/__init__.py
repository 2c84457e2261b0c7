"""The report of a token store: one HTML page that needs nothing else, no network, and hardly any script."""

from flanx.insight.report.writing import default_path, write

__all__ = ["default_path", "write"]
