"""Lines of a text file, whatever it is called: compression is told by its first bytes, the text must be UTF-8."""

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from typing import IO, Any, cast

from flanx.errors import UserError

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
_BY_ARROW = ("zstd", "lz4")  # the others Python reads itself
_SUFFIXES = {"gz": "gzip", "bz2": "bzip2", "xz": "xz", "zst": "zstd", "lz4": "lz4"}
# What is no text at all: the first bytes, what they say, and what to do.
_OTHERS = (
    (b"PAR1", "a Parquet file", "read it with flanx.Parquet"),
    (b"ARROW1", "an Arrow file", "write it as Parquet and read it with flanx.Parquet"),
    (b"PK\x03\x04", "a zip archive", "unpack it: unzip {file}"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it: 7z x {file}"),
    (b"\x1f\x9d", "compressed with `compress`", "unpack it: gunzip {file}"),
    (b"\x89HDF", "an HDF5 file", "write its rows as JSON lines"),
    (b"SQLite format 3\x00", "a SQLite database", "write its rows as JSON lines"),
    (b"\xff\xfe\x00\x00", "UTF-32", "write it as UTF-8: iconv -f UTF-32 -t UTF-8 {file}"),
    (b"\x00\x00\xfe\xff", "UTF-32", "write it as UTF-8: iconv -f UTF-32 -t UTF-8 {file}"),
    (b"\xff\xfe", "UTF-16", "write it as UTF-8: iconv -f UTF-16 -t UTF-8 {file}"),
    (b"\xfe\xff", "UTF-16", "write it as UTF-8: iconv -f UTF-16 -t UTF-8 {file}"),
)
_MOST_MAGIC = 32
_MOST_CHARACTERS = 200


def lines(file: str) -> Iterator[tuple[int, str]]:
    r"""Numbered lines of a UTF-8 file, cut at `\n` alone (and a `\r` before it), unpacked where it is compressed.

    `str.splitlines` would also cut at U+2028 and its like, which real data has inside rows.

    Raises:
      UserError: the file cannot be read, is damaged, or is not UTF-8; the message says how to make it so.
    """
    number = 0
    with reading(file) as stream:
        try:
            for raw in stream:
                number += 1
                line = raw.decode("utf-8")
                raw = b""  # a long line is not kept twice
                if number == 1 and line.startswith("\ufeff"):
                    line = line[1:]
                if line.endswith("\n"):
                    line = line[:-2] if line.endswith("\r\n") else line[:-1]
                yield number, line
        except UnicodeDecodeError as error:
            raise _not_utf8(f"{file}:{number}", file, error) from None
        except UserError:
            raise
        except Exception as error:
            raise _unreadable(file, number + 1, error) from None


def whole(file: str) -> str:
    """All of a UTF-8 file; raises as `lines` does."""
    with reading(file) as stream:
        try:
            content = stream.read()
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise _not_utf8(f"{file}:{line}", file, error) from None
        except Exception as error:
            raise _unreadable(file, 1, error) from None
    return text.removeprefix("\ufeff")


@contextlib.contextmanager
def reading(file: str) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked.

    Raises:
      UserError: it cannot be opened, or is of a kind that is no text.
    """
    with contextlib.ExitStack() as stack:
        try:
            raw, head = _opened(file, stack)
            form = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
            stream = _unpacked(raw, form, stack)
            if form is not None:
                stream, head = _peeked(stream)
        except UserError:
            raise
        except Exception as error:
            raise _unreadable(file, 1, error) from None
        _refuse_other_kinds(file, head)
        yield stream


def _opened(file: str, stack: contextlib.ExitStack) -> tuple[IO[bytes], bytes]:
    if "://" in file:
        from etils import epath

        raw: Any = stack.enter_context(epath.Path(file).open("rb"))
    else:
        raw = stack.enter_context(open(file, "rb"))  # noqa: SIM115 - the stack closes it
    return _peeked(raw)


def _peeked(raw: Any) -> tuple[IO[bytes], bytes]:
    """The stream and its first bytes, which it still gives."""
    if not hasattr(raw, "peek"):
        raw = io.BufferedReader(raw)
    return cast(IO[bytes], raw), raw.peek(_MOST_MAGIC)[:_MOST_MAGIC]


def _unpacked(raw: IO[bytes], form: str | None, stack: contextlib.ExitStack) -> IO[bytes]:
    if form is None:
        return raw
    if form == "gzip":
        return cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=raw, mode="rb")))
    if form == "bzip2":
        return cast(IO[bytes], stack.enter_context(bz2.BZ2File(raw)))
    if form == "xz":
        return cast(IO[bytes], stack.enter_context(lzma.LZMAFile(raw)))
    assert form in _BY_ARROW
    import pyarrow as pa

    return cast(IO[bytes], stack.enter_context(pa.CompressedInputStream(raw, form)))


def _refuse_other_kinds(file: str, head: bytes) -> None:
    for magic, what, fix in _OTHERS:
        if head.startswith(magic):
            raise UserError(
                f"{file}: {what}, where lines of text are expected; {fix.format(file=file)}"
            )


def _not_utf8(place: str, file: str, error: UnicodeDecodeError) -> UserError:
    suffix = file.rpartition(".")[2].lower()
    if suffix in _SUFFIXES:
        named = _SUFFIXES[suffix]
        return UserError(
            f"{place}: not a whole {named} file, as its name says, nor UTF-8; fetch it again"
        )
    byte = error.object[error.start]
    return UserError(
        f"{place}: not UTF-8 (byte 0x{byte:02x}: {error.reason}); write it as UTF-8, from Latin-1 say: "
        f"iconv -f LATIN1 -t UTF-8 {file}"
    )


def _unreadable(file: str, line: int, error: Exception) -> Exception:
    """What to raise for an error of opening or reading; one that is no damage of the file stays as it is."""
    if isinstance(error, IsADirectoryError):
        return UserError(f"{file}: a folder where a file is expected; name the files in it")
    damage = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
    text = " ".join(str(error).split())[:_MOST_CHARACTERS]
    packed = _form(file)
    if isinstance(error, damage) or (
        packed is not None and isinstance(error, (OSError, ValueError))
    ):
        return UserError(f"{file}:{line}: not a whole {packed} file ({text}); fetch it again")
    if isinstance(error, OSError):
        return UserError(f"{file}: cannot be read ({text})")
    return error


def _form(file: str) -> str | None:
    try:
        with contextlib.ExitStack() as stack:
            _, head = _opened(file, stack)
            return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    except OSError:
        return None
