"""From questions in words, each with settings of its own, to answers in words."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.sharding import Mesh

from flanx.decoding.engine import Engine, OnText
from flanx.decoding.requests import Request, Result, mistake
from flanx.evaluation.answer_file import Row
from flanx.evaluation.predictor import layout_of
from flanx.evaluation.trained import Trained

OVERRIDES = "decoding"  # the field of a line whose settings replace the common ones


@dataclass(frozen=True)
class Question:
    """A question as token ids, end-of-sequence included, with its place among all and the settings that are its own."""

    place: int
    tokens: Any
    own: Mapping[str, Any]


class Answerer:
    """Answers questions with a trained model.

    Attributes:
      cut: questions that lost their end so far.

    Args:
      trained: the model.
      inputs_length: most tokens of a question, end-of-sequence included.
      settings: of every request, by name (`requests.SETTINGS`); "max_length" is the most that a question's own
        settings may ask for.
      slots: answers that are made together.
      samples: answers to each question.
      mesh: devices that share the work; None for the default device.
    """

    def __init__(
        self,
        trained: Trained,
        *,
        inputs_length: int,
        settings: Mapping[str, Any],
        slots: int,
        samples: int = 1,
        mesh: Mesh | None = None,
    ):
        self.cut = 0
        self._trained = trained
        self._inputs_length = inputs_length
        self._settings = dict(settings)
        self._samples = samples
        self._engine = Engine(
            trained.model,
            inputs_length=inputs_length,
            max_length=settings["max_length"],
            slots=slots,
            decode=trained.vocabulary.decode,
            layout=layout_of(mesh, trained.model.config.num_heads),
            eos_id=trained.vocabulary.eos_id,
        )

    def encoded(self, text: str) -> list[int]:
        """Token ids of a question; one beyond `inputs_length` loses its end."""
        ids = self._trained.vocabulary.encode(text)
        self.cut += len(ids) >= self._inputs_length
        return [*ids[: self._inputs_length - 1], self._trained.vocabulary.eos_id]

    def fits(self, text: str) -> bool:
        """Whether a question keeps its end."""
        return len(self._trained.vocabulary.encode(text)) < self._inputs_length

    def wrong(self, own: object) -> str | None:
        """What is wrong with a question's own settings, in words; None where nothing is."""
        if not isinstance(own, dict):
            return f"no object of settings but {type(own).__name__}"
        settings = {**self._settings, **own}
        most = self._settings["max_length"]
        found = mistake(settings)
        if not found and settings["max_length"] > most:
            found = f"max_length={settings['max_length']} is beyond --max_decode_length={most}"
        return found

    def answers(
        self, questions: Iterable[Question], on_text: OnText | None = None
    ) -> Iterator[tuple[int, list[Result]]]:
        """Yields (place, as many results as there are samples) as they are done.

        Args:
          questions: taken as they are needed.
          on_text: told (number of the answer, text so far).
        """
        origin: list[tuple[int, int]] = []
        found: dict[int, dict[int, Result]] = {}

        def requests() -> Iterator[Request]:
            for question in questions:
                for sample in range(self._samples):
                    origin.append((question.place, sample))
                    yield self._request(question, sample)

        for number, result in self._engine.run(self._trained.params, requests(), on_text):
            place, sample = origin[number]
            found.setdefault(place, {})[sample] = result
            if len(found[place]) == self._samples:
                results = found.pop(place)
                yield place, [results[i] for i in range(self._samples)]

    def _request(self, question: Question, sample: int) -> Request:
        settings = {**self._settings, **question.own}
        # A seed of its own makes a question's draws independent of its place.
        place = 0 if "seed" in question.own else question.place
        settings["seed"] = seed_of(settings["seed"], place, sample)
        settings["stop"] = tuple(settings["stop"])
        return Request(question.tokens, **settings)


def fields(results: list[Result], *, several: bool, scores: bool) -> Row:
    """What is added to a line: "prediction", or the list "predictions"; and their log-probabilities."""
    texts = [result.text for result in results]
    values = [result.log_probability for result in results]
    if several:
        return {"predictions": texts, **({"log_probabilities": values} if scores else {})}
    return {"prediction": texts[0], **({"log_probability": values[0]} if scores else {})}


def seed_of(seed: int, place: int, sample: int) -> int:
    """A seed for each sample of each question: 32 well-mixed bits."""
    return int(np.random.SeedSequence((seed, place, sample)).generate_state(1)[0])
