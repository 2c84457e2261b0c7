"""`flanx infer --interactive`: prompts from the terminal or a pipe, answers as they are made."""

import io
import json
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

from flanx.decoding.requests import SETTINGS, mistake
from flanx.errors import UserError, did_you_mean
from flanx.evaluation.question_file import half_pair
from flanx.terminal import printable

BLOCK = '"""'
COMMANDS = ("/help", "/set", "/forget", "/quit")
HELP = f"""\
A line is a prompt. A prompt of several lines stands between two lines of {BLOCK}
  /set                   shows the settings
  /set temperature 0.7   changes one: {", ".join(SETTINGS)}, history
  /forget                leaves out the turns so far (with history)
  /quit                  ends, as Ctrl-D does; Ctrl-C stops an answer
"""

# (prompt, settings, number of the turn, told the text so far) -> the whole answer, a remark to show after it
Answer = Callable[[str, Mapping[str, Any], int, Callable[[str], None]], tuple[str, str]]


class Conversation:
    """Reads prompts until the end of the input.

    Args:
      answer: answers one prompt.
      settings: that every prompt begins with.
      check: what is wrong with changed settings, in words.
      fits: whether a prompt is short enough for the model.
      history: turns before a prompt that are put in front of it.
      source: where prompts come from; a mistake in one is an error unless it is a terminal.
      out: where answers go.
    """

    def __init__(
        self,
        answer: Answer,
        settings: Mapping[str, Any],
        *,
        check: Callable[[Mapping[str, Any]], str | None] = mistake,
        fits: Callable[[str], bool] = lambda text: True,
        history: int = 0,
        source: TextIO | None = None,
        out: TextIO | None = None,
    ):
        self._answer = answer
        self._settings = dict(settings)
        self._check = check
        self._fits = fits
        self._history = history
        self._source = source or sys.stdin
        if isinstance(self._source, io.TextIOWrapper):
            # A byte that is not UTF-8 is then refused by its line, instead of ending the reading of all.
            self._source.reconfigure(errors="surrogateescape")
        self._out = out or sys.stdout
        self._terminal = self._source.isatty()
        self._turns: deque[tuple[str, str]] = deque()
        self._line = 0

    def run(self) -> None:
        """Answers every prompt.

        Raises:
          UserError: a mistake in a command that comes from a pipe, with its line.
        """
        if self._terminal:
            self._out.write("/help shows what can be said; Ctrl-D ends.\n")
        for turn, prompt in enumerate(self._prompts()):
            self._reply(prompt, turn)

    def _prompts(self) -> Iterator[str]:
        while (line := self._read("> ")) is not None:
            if line.strip() == BLOCK:
                yield from self._valid(self._block())
            elif line.startswith("/"):
                wrong = self._command(line)
                if wrong == "/quit":
                    return
                if wrong and not self._terminal:
                    raise UserError(f"line {self._line}: {wrong}")
                if wrong:
                    self._out.write(f"{printable(wrong)}\n")
            elif line.strip():
                yield from self._valid(line)

    def _valid(self, prompt: str) -> Iterator[str]:
        """The prompt, unless it is no text."""
        wrong = half_pair(prompt)
        if not wrong:
            yield prompt
        elif self._terminal:
            self._out.write(f"{wrong}\n")
        else:
            raise UserError(f"line {self._line}: {wrong}")

    def _read(self, sign: str) -> str | None:
        """The next line; None at the end."""
        self._line += 1
        if not self._terminal:
            line = self._source.readline()
            return line.rstrip("\r\n") if line else None
        while True:
            try:
                return input(sign)
            except EOFError:
                self._out.write("\n")
                return None
            except KeyboardInterrupt:
                self._out.write("\n(/quit or Ctrl-D ends)\n")

    def _block(self) -> str:
        lines: list[str] = []
        while (line := self._read(". ")) is not None and line.strip() != BLOCK:
            lines.append(line)
        return "\n".join(lines)

    def _reply(self, prompt: str, turn: int) -> None:
        shown = ""

        def show(text: str) -> None:
            nonlocal shown
            # What decoding takes back is not shown again.
            if text.startswith(shown):
                self._out.write(printable(text[len(shown) :], lines=True))
                self._out.flush()
                shown = text

        try:
            text, remark = self._answer(self._with_history(prompt), self._settings, turn, show)
        except KeyboardInterrupt:
            if not self._terminal:
                raise
            self._out.write(" [stopped]\n")
            return
        if not text.startswith(shown):
            self._out.write("\n")
            shown = ""
        self._out.write(printable(text[len(shown) :], lines=True) + remark + "\n")
        self._out.flush()
        self._turns.append((prompt, text))

    def _with_history(self, prompt: str) -> str:
        """The last turns as question, line break, answer and an empty line each, then the prompt; fewer if too long."""
        while len(self._turns) > self._history:
            self._turns.popleft()
        turns = list(self._turns)
        while True:
            joined = "".join(f"{asked}\n{said}\n\n" for asked, said in turns) + prompt
            if not turns or self._fits(joined):
                return joined
            turns = turns[1:]

    def _command(self, line: str) -> str | None:
        """Obeys a command; what is wrong with it, or "/quit"."""
        name, _, rest = line.strip().partition(" ")
        if name == "/quit":
            return name
        if name == "/help":
            self._out.write(HELP)
        elif name == "/forget":
            self._turns.clear()
        elif name == "/set" and not rest:
            for key, value in {**self._settings, "history": self._history}.items():
                shown = printable(json.dumps(value, ensure_ascii=False))
                self._out.write(f"{key} = {shown}\n")
        elif name == "/set":
            return self._set(*rest.strip().partition(" ")[::2])
        else:
            return f"no command '{name}'{did_you_mean(name, COMMANDS)} (/help shows them)"
        return None

    def _set(self, name: str, text: str) -> str | None:
        try:
            value: Any = json.loads(text)
        except ValueError:
            value = text
        if name == "history":
            if type(value) is not int or value < 0:
                return f"history={text}: give a whole number from 0"
            self._history = value
            return None
        if name == "stop" and not isinstance(value, list):
            value = [text.strip()]
        changed = {**self._settings, name: value}
        wrong = self._check(changed)
        if not wrong:
            self._settings = changed
        return wrong
