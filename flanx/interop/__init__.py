"""Checkpoints of T5X and Hugging Face, both ways: `open_checkpoint` reads any form, `flanx.interop.convert` writes."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flanx.interop.detect import open_checkpoint
    from flanx.interop.source import ArrayInfo, Source

__all__ = ["ArrayInfo", "Source", "open_checkpoint"]


def __getattr__(name: str) -> Any:
    """Loads what is asked for: the readers need TensorStore, which `import flanx` must not."""
    if name == "open_checkpoint":
        from flanx.interop.detect import open_checkpoint

        return open_checkpoint
    if name in ("ArrayInfo", "Source"):
        from flanx.interop import source

        return getattr(source, name)
    raise AttributeError(f"module 'flanx.interop' has no attribute '{name}'")
