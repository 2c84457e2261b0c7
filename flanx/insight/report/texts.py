"""Texts of examples made safe to look at: nothing invisible, nothing that turns the page round, not too much."""

from markupsafe import Markup, escape

_UNKNOWN = "\u2047"  # what SentencePiece writes for a token that it has no piece for


def visible(text: str) -> Markup:
    """`text` as HTML: control and direction characters are written out, unknown tokens marked, the rest escaped."""
    out: list[str] = []
    plain: list[str] = []

    def flush() -> None:
        if plain:
            out.append(str(escape("".join(plain))))
            plain.clear()

    for character in text:
        if character == _UNKNOWN:
            flush()
            out.append(f'<span class="unk" title="unknown to the vocabulary">{_UNKNOWN}</span>')
        elif character in "\n\t" or character == " " or character.isprintable():
            plain.append(character)
        else:
            flush()
            written = character.encode("unicode_escape").decode("ascii")
            out.append(f'<span class="ctl">{written}</span>')
    flush()
    return Markup("".join(out))


def middle_out(text: str, most: int) -> tuple[str, int, str]:
    """Beginning and end of a text of more than `most` bytes, and the characters left out between them.

    The question of a few-shot prompt stands at its end, the instruction at its beginning: both are worth keeping.
    """
    content = text.encode("utf-8", "surrogatepass")
    if len(content) <= most:
        return text, 0, ""
    head = content[: most * 3 // 5].decode("utf-8", "ignore")
    tail = content[len(content) - most * 2 // 5 :].decode("utf-8", "ignore")
    return head, len(text) - len(head) - len(tail), tail
