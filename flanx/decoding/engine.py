"""Continuous batching: answers to a stream of requests, each of which leaves as soon as it is done.

A fixed number of slots is decoded together (`slots.py`). When an answer ends, by end-of-sequence, its own greatest
length or a stop text, the next request takes its slot, so that no answer waits for the longest of its batch. Requests
are taken from the stream in windows and sorted by length, in turn the longest first and the shortest first: neighbours
are alike, there is little padding, and the prompts that every step reads are narrow while questions are short.

Requests for beam search are answered in batches of their own, a window at a time.

What a request is answered depends on the request alone (to rounding: the width of its padding follows its neighbours),
and every process of a multi-process run makes the same decisions.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Literal

import jax
import numpy as np

from flanx.decoding import slots as device
from flanx.decoding.batching import finer, ladder, padded, rung
from flanx.decoding.beam_batches import best_answers
from flanx.decoding.requests import EOS_ID, Request, Result
from flanx.decoding.slots import Group, Layout, Pool, Rows
from flanx.decoding.stop import before_stop, showable
from flanx.models.common.scanned import unrolled_model

CHUNK = 16  # most tokens between two looks of the host
LOOK = 4  # the same where somebody waits for the text, or a stop text may come
WINDOW = 8  # requests that are sorted together, in slots
SHORTEST_CACHE = 64

Decode = Callable[[Sequence[int]], str]
OnText = Callable[[int, str], None]


@dataclass
class _Answering:
    """A request in a slot."""

    number: int
    request: Request
    width: int
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)


@dataclass
class _Ready:
    """A group whose prompts wait for slots."""

    group: Group
    width: int
    members: deque[tuple[int, int, Request]]  # (row of the group, number, request)


class Engine:
    """Answers requests to one model, a fixed number at a time.

    Args:
      model: a network of `flanx.models.build`.
      inputs_length: the longest question that is common, in tokens; a longer one costs a compilation.
      max_length: most tokens of any answer.
      slots: requests that are decoded together.
      decode: token ids to text; None where neither texts nor stop texts are wanted.
      layout: how to lie on several devices; None for the default device.
      eos_id: the token that ends an answer.
    """

    def __init__(
        self,
        model: Any,
        *,
        inputs_length: int,
        max_length: int,
        slots: int = 32,
        decode: Decode | None = None,
        layout: Layout | None = None,
        eos_id: int = EOS_ID,
    ):
        shares = layout.shares if layout else 1
        self._single = unrolled_model(model, {})[0]
        self._shares = shares
        self._slots = -(-slots // shares) * shares
        # Prompts that are read together: a quarter of the slots, so that a group is soon used up.
        self._group = -(-self._slots // (4 * shares)) * shares
        self._widths = ladder(inputs_length)
        self._encoder_widths = finer(self._widths)
        self._lengths = _cache_lengths(max_length)
        self._decode = decode
        self._layout = layout
        self._eos_id = eos_id
        self._programs = device.programs(model, layout, CHUNK, eos_id)

    def run(
        self, params: Any, requests: Iterable[Request], on_text: OnText | None = None
    ) -> Iterator[tuple[int, Result]]:
        """Yields (number of the request, its result) as answers end.

        Args:
          params: the model's parameters.
          requests: taken as they are needed, a window ahead.
          on_text: told (number, text so far) whenever the host looks at an unfinished answer.

        Raises:
          ValueError: a request is longer than the engine's `max_length`, or wants a stop text and
            the engine has no `decode`.
        """
        return _Run(self, params, on_text).results(enumerate(requests))


class _Run:
    """One pass over a stream of requests."""

    def __init__(self, engine: Engine, params: Any, on_text: OnText | None):
        self._e = engine
        self._p = engine._programs
        self._params = self._p.unrolled(params)
        self._on_text = on_text
        self._waiting: deque[tuple[int, Request]] = deque()
        self._ready: _Ready | None = None
        self._at: list[_Answering | None] = [None] * engine._slots
        self._pool: Pool | None = None
        self._width = self._length = 0

    def results(self, stream: Iterator[tuple[int, Request]]) -> Iterator[tuple[int, Result]]:
        windows = _windows(stream, WINDOW * self._e._slots)
        while True:
            while len(self._waiting) < self._e._group:
                window = next(windows, None)
                if window is None:
                    break
                for _, request in window:
                    self._check(request)
                yield from self._searched([one for one in window if one[1].beams > 1])
                self._waiting.extend(one for one in window if one[1].beams == 1)
            self._fill()
            if not any(self._at):
                return
            yield from self._advance()

    def _check(self, request: Request) -> None:
        if request.max_length > self._e._lengths[-1]:
            raise ValueError(
                f"max_length={request.max_length} of a request is beyond the engine's {self._e._lengths[-1]}"
            )
        if request.stop and self._e._decode is None:
            raise ValueError("stop texts need an engine with `decode`")

    def _searched(self, requests: Sequence[tuple[int, Request]]) -> Iterator[tuple[int, Result]]:
        """Answers by beam search; the search takes no notice of stop texts, its best answer is cut there."""
        e = self._e
        found = best_answers(
            e._single,
            self._params,
            requests,
            rows=e._slots,
            widths=e._widths,
            put=partial(self._put, rows=True),
            shares=e._shares,
            whole=e._layout.whole if e._layout else None,
            eos_id=e._eos_id,
        )
        for number, request, (tokens, log_probability) in found:
            held = _Answering(number, request, 0, log_probs=[log_probability])
            result = self._taken(held, tokens, [0.0] * len(tokens))
            assert result is not None
            yield number, result

    def _fill(self) -> None:
        """Starts requests in free slots."""
        free = [slot for slot, held in enumerate(self._at) if held is None]
        while free and (self._ready or self._waiting):
            ready = self._ready or self._prefilled()
            members = [ready.members.popleft() for _ in range(min(len(free), len(ready.members)))]
            chosen, free = free[: len(members)], free[len(members) :]
            for slot, (_, number, request) in zip(chosen, members, strict=True):
                self._at[slot] = _Answering(number, request, ready.width)
            self._insert(ready, members, chosen)
            self._ready = ready if ready.members else None

    def _prefilled(self) -> _Ready:
        size = self._e._group
        group = [self._waiting.popleft() for _ in range(min(size, len(self._waiting)))]
        width = rung(max(len(request.tokens) for _, request in group), self._e._encoder_widths)
        inputs = padded([request.tokens for _, request in group], size, width)
        read = self._p.prefill(self._params, self._put(inputs, rows=True))
        return _Ready(read, width, deque((row, *one) for row, one in enumerate(group)))

    def _insert(
        self, ready: _Ready, members: Sequence[tuple[int, int, Request]], chosen: Sequence[int]
    ) -> None:
        self._fit(narrower=len(self._waiting) >= self._e._group)
        size = self._e._group
        asked = [request for *_, request in members]
        rows = _starting([*asked, *asked[:1] * (size - len(asked))])
        source, slot = np.zeros((2, size), np.int32)
        source[: len(members)] = [row for row, *_ in members]
        slot[: len(members)] = chosen
        arguments = jax.tree.map(self._put, (rows, source, slot, np.int32(len(members))))
        self._pool = self._p.insert(self._pool, ready.group, *arguments)

    def _fit(self, *, narrower: bool) -> None:
        """Makes the pool large enough for the requests in slots and the next chunk; smaller only if it may."""
        live = [held for held in self._at if held]
        reached = (min(len(h.tokens) + CHUNK, h.request.max_length) for h in live)
        width = rung(max(held.width for held in live), self._e._widths)
        length = rung(max(reached), self._e._lengths)
        if self._pool is None:
            self._pool = self._p.empty(self._e._slots, width, length)
        else:
            if not narrower:
                width, length = max(width, self._width), max(length, self._length)
            if (width, length) != (self._width, self._length):
                self._pool = self._p.resized(self._pool, width, length)
        self._width, self._length = width, length

    def _advance(self) -> list[tuple[int, Result]]:
        """A chunk of tokens; the answers that ended."""
        e = self._e
        self._fit(narrower=False)
        keep = np.array([held is not None for held in self._at])
        watched = self._on_text is not None or any(held and held.request.stop for held in self._at)
        draws = any(held and held.request.temperature > 0 for held in self._at)
        # Where others wait, free slots are filled before many stand idle.
        enough = max(1, e._slots // 8) if self._ready or self._waiting else e._slots + 1
        control = (keep, np.int32(LOOK if watched else CHUNK), np.int32(enough))
        self._pool, report = self._p.advance(
            self._params, self._pool, *jax.tree.map(self._put, control), draws
        )
        found = jax.device_get(report)
        done = []
        for slot, held in enumerate(self._at):
            if held is None:
                continue
            made = int(found.made[slot])
            result = self._taken(
                held, found.tokens[:made, slot].tolist(), found.log_probs[:made, slot].tolist()
            )
            if result is not None:
                done.append((held.number, result))
                self._at[slot] = None
        return done

    def _taken(
        self, held: _Answering, tokens: Sequence[int], log_probs: Sequence[float]
    ) -> Result | None:
        """Adds tokens to an answer; the result if they end it."""
        request, decode = held.request, self._e._decode
        for token, log_prob in zip(tokens, log_probs, strict=True):
            held.tokens.append(token)
            held.log_probs.append(log_prob)
            if token == self._e._eos_id:
                return self._result(held, "eos")
            if request.stop and decode:
                text = before_stop(decode(held.tokens), request.stop)
                if text is not None:
                    return self._result(held, "stop", text)
            if len(held.tokens) >= request.max_length:
                return self._result(held, "length")
        if self._on_text and decode:
            self._on_text(held.number, showable(decode(held.tokens), request.stop))
        return None

    def _result(
        self, held: _Answering, ended: Literal["eos", "length", "stop"], text: str | None = None
    ) -> Result:
        if text is None:
            text = self._e._decode(held.tokens) if self._e._decode else ""
        return Result(tuple(held.tokens), text, float(np.sum(held.log_probs)), ended)

    def _put(self, array: Any, *, rows: bool = False) -> Any:
        layout = self._e._layout
        if layout is None:
            return array
        sharding = layout.rows if rows else layout.whole
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _cache_lengths(longest: int) -> tuple[int, ...]:
    """Positions that caches may have: `longest`, a quarter and a sixteenth of it; few answers need the most."""
    quarters = {-(-longest // 4), -(-longest // 16)}
    return tuple(sorted({longest, *(length for length in quarters if length >= SHORTEST_CACHE)}))


def _windows(
    stream: Iterator[tuple[int, Request]], size: int
) -> Iterator[list[tuple[int, Request]]]:
    """The stream in parts of `size`, in turn sorted the longest first and the shortest first."""
    falling = True
    while window := list(islice(stream, size)):
        sign = -1 if falling else 1
        yield sorted(window, key=lambda one: sign * len(one[1].tokens))
        falling = not falling


def _starting(requests: Sequence[Request]) -> Rows:
    """Rows of requests that have not begun; their first tokens are the prompts' to say."""
    count = len(requests)
    return Rows(
        token=np.zeros(count, np.int32),
        position=np.zeros(count, np.int32),
        live=np.ones(count, bool),
        limit=np.array([r.max_length for r in requests], np.int32),
        temperature=np.array([r.temperature for r in requests], np.float32),
        top_k=np.array([r.top_k for r in requests], np.int32),
        top_p=np.array([r.top_p for r in requests], np.float32),
        seed=np.array([r.seed for r in requests], np.uint32),
    )
