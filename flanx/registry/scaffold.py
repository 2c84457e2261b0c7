"""`flanx tasks new`: a task file that runs as written, with a little data and its test."""

import importlib.util
import json
import keyword
from pathlib import Path

from flanx.errors import UserError

_TASK = '''\
"""{name}: say here what the dataset is, where it comes from and under which licence.

    flanx tasks show {name} --import {collection}
    flanx tasks check {name} --import {collection}
    pytest test_{collection}.py
"""

import flanx

TEAMS = ["billing", "delivery", "returns", "technical"]


def fields(row: dict) -> dict:
    """A line of the file as the fields that the templates name; `options` is what one may choose from."""
    return {{"ticket": row["text"], "options": TEAMS, "answer": row["team"]}}


flanx.register(
    "{name}",
    # Relative paths are looked up in the working directory, then in DATA_DIR.
    source=flanx.Jsonl(
        train="{collection}_data/{dataset}_train.jsonl",
        validation="{collection}_data/{dataset}_validation.jsonl",
    ),
    fields=fields,
    templates=[
        flanx.Template("{{ticket}}\\n\\nWhich team should take this?{{options_}}", "{{answer}}"),
        flanx.Template("Ticket: {{ticket}}{{options_}}\\nTeam:", "{{answer}}"),
        flanx.Template("Who answers this letter?\\n{{ticket}}{{options_}}", "{{answer}}"),
        flanx.Template("Send the ticket below to a team.{{options_}}\\n\\n{{ticket}}", "{{answer}}"),
    ],
    inverted=[
        flanx.Template("Write a support ticket for the {{answer}} team.", "{{ticket}}"),
        flanx.Template("What might a customer write to the {{answer}} team?", "{{ticket}}"),
    ],
    category="classification",
    metrics=[flanx.metrics.accuracy, flanx.metrics.rank_accuracy],
)
'''

_TEST = '''\
"""{name} reads as meant, and nothing in it would mislead a model."""

import sys
from pathlib import Path

from flanx.registry import check

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import {collection}  # noqa: E402


def test_a_row_becomes_these_fields():
    row = {{"text": "The parcel never came.", "team": "delivery"}}
    assert {collection}.fields(row) == {{
        "ticket": "The parcel never came.",
        "options": ["billing", "delivery", "returns", "technical"],
        "answer": "delivery",
    }}


def test_nothing_is_empty_cut_leaked_or_repeated():
    problems = check.find("{name}", imports=["{collection}"], data_dir=str(HERE))
    assert not problems, "\\n".join(map(str, problems))
'''

_TRAIN = (
    ("I was charged twice for the same order.", "billing"),
    ("My card was declined although there is money on it.", "billing"),
    ("Please send me an invoice with our company's address.", "billing"),
    ("The voucher was not taken off the total.", "billing"),
    ("The tracking page has said 'on its way' for nine days.", "delivery"),
    ("The courier left my parcel with somebody I don't know.", "delivery"),
    ("Can the sofa come on a Saturday instead?", "delivery"),
    ("Only one of the three boxes has arrived.", "delivery"),
    ("The shoes are too small and I'd like to send them back.", "returns"),
    ("How long may I keep a coat before returning it?", "returns"),
    ("I sent the lamp back a month ago and heard nothing.", "returns"),
    ("The label for the way back won't print.", "returns"),
    ("The app closes as soon as I open my basket.", "technical"),
    ("I never get the mail that should reset my password.", "technical"),
    ("The speaker no longer connects after the update.", "technical"),
    ("Your page shows nothing but a white screen on my phone.", "technical"),
)
_VALIDATION = (
    ("The amount on my statement is not the one in the shop.", "billing"),
    ("The driver says that our street does not exist.", "delivery"),
    ("One of the two chairs can go back, the other we keep.", "returns"),
    ("Two-step login asks for a code that never comes.", "technical"),
)


def write(name: str, folder: Path) -> list[Path]:
    """Writes `<collection>.py`, `test_<collection>.py` and its data into `folder`; returns their paths.

    Raises:
      UserError: `name` is not `collection.dataset`, is taken by another module, a file is there already, or none can
        be written.
    """
    collection, dataset = _parts(name, folder)
    words = {"name": name, "collection": collection, "dataset": dataset}
    files = {
        folder / f"{collection}.py": _TASK.format(**words),
        folder / f"test_{collection}.py": _TEST.format(**words),
        folder / f"{collection}_data" / f"{dataset}_train.jsonl": _jsonl(_TRAIN),
        folder / f"{collection}_data" / f"{dataset}_validation.jsonl": _jsonl(_VALIDATION),
    }
    for path in files:
        if path.exists():
            raise UserError(
                f"{path} is there already: add a second flanx.register call to {collection}.py,"
                " or give another collection"
            )
    try:
        for path, text in files.items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror})") from error
    return list(files)


def _parts(name: str, folder: Path) -> tuple[str, str]:
    parts = name.split(".")
    if len(parts) != 2 or not all(_is_name(part) for part in parts):
        raise UserError(
            f"'{name}' is no name for a new dataset: write collection.dataset, both in letters, digits and '_',"
            " for instance tickets.triage"
        )
    collection, dataset = parts
    if not (folder / f"{collection}.py").exists() and importlib.util.find_spec(collection):
        raise UserError(
            f"'{collection}' is the name of a Python module that is installed here, which {collection}.py would hide:"
            " give the collection another name"
        )
    return collection, dataset


def _is_name(part: str) -> bool:
    return part.isascii() and part.isidentifier() and not keyword.iskeyword(part)


def _jsonl(rows: tuple[tuple[str, str], ...]) -> str:
    return "".join(json.dumps({"text": text, "team": team}) + "\n" for text, team in rows)
