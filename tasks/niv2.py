"""Natural Instructions v2: every task of the collection as a dataset of its own, `niv2.<task name>`.

The names ship in niv2_tasks.tsv (name, split, category): 756 training and 119 test tasks of the official default
split, and 738 tasks in neither. They are keyed in full, since some numbers occur twice (861, 868, 672, ...); a hyphen,
which SeqIO allows in no name, is an underscore here. A task is read from `tasks/<name>.json` in DATA_DIR, or in
DATA_DIR's `natural-instructions/tasks/`.

    zs_opt   definition and input
    fs_opt   the same with the task's own first two positive examples, with or without their explanations

Training tasks have the splits train and validation, test tasks only test: the first 100 instances, as in the official
evaluation (Wang et al. 2022, section 5). The other tasks have train and validation, too, but are in no mixture of
niv2's. Categories are those of the Flan collection's table, which splits "Misc." up.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flanx
from flanx.registry import FewShot

NAMES = Path(__file__).parent / "niv2_tasks.tsv"

# Categories whose outputs are labels, so that an exact match means something.
LABEL_WORDS = ("Classification", "Detection", "Verification", "Prediction")
LABEL_CATEGORIES = frozenset(
    {
        "Coreference Resolution",
        "Dialogue Act Recognition",
        "Discourse Connective Identification",
        "Intent Identification",
        "Language Identification",
        "Sentiment Analysis",
        "Speaker Identification",
        "Text Categorization",
        "Text Matching",
        "Text Quality Evaluation",
        "Textual Entailment",
        "Word Analogy",
    }
)


def _template(inputs: str, example: str, explanation: str) -> flanx.Template:
    """A layout and the form of its positive examples, without and with their explanations."""
    return flanx.Template(inputs, "{output}", exemplars=(example, example + explanation))


TEMPLATES = [
    _template(
        "{definition}\n\n{exemplars_}Input: {input}\nOutput:",
        "Input: {input}\nOutput: {output}",
        "\nExplanation: {explanation}",
    ),
    _template(
        "Task: {definition}\n\n{exemplars_}Case: {input}\nResult:",
        "Case: {input}\nResult: {output}",
        "\nReason: {explanation}",
    ),
    _template(
        "You are given an instruction and something to apply it to.\n\n"
        "Instruction: {definition}\n\n{exemplars_}Apply it to: {input}\n\nYour answer:",
        "Applied to: {input}\n\nAnswer: {output}",
        "\n\nWhy: {explanation}",
    ),
    _template(
        "{exemplars_}{input}\n\n{definition}",
        "{input}\n\nA good answer here is: {output}",
        " ({explanation})",
    ),
    _template(
        "Instructions\n{definition}\n\n{exemplars_}Now carry them out for this:\n{input}",
        "Carried out for this:\n{input}\nthey give:\n{output}",
        "\nbecause: {explanation}",
    ),
    _template(
        "{definition}\n\n{exemplars_}Q: {input}\nA:",
        "Q: {input}\nA: {output}",
        "\nNote: {explanation}",
    ),
    _template(
        "### What to do\n{definition}\n\n{exemplars_}### Given\n{input}\n\n### Expected\n",
        "### Given\n{input}\n\n### Expected\n{output}",
        "\n\n### Comment\n{explanation}",
    ),
    _template(
        "Read the guidelines, then complete the last line.\nGuidelines: {definition}\n\n{exemplars_}{input} =>",
        "{input} => {output}",
        " [{explanation}]",
    ),
]


def fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """An instance without outer white space; `output` lists its references."""
    return {
        "definition": row["definition"].strip(),
        "input": row["input"].strip(),
        "output": [output.strip() for output in row["output"]],
        "examples": [
            {name: text.strip() for name, text in example.items()}
            for example in row["positive_examples"][:2]
        ],
    }


def tasks() -> list[tuple[str, str, str]]:
    """(task name, split, category) of every task, in the order of their numbers."""
    lines = NAMES.read_text(encoding="utf-8").splitlines()[1:]
    return [
        (name, split, category) for name, split, category in (line.split("\t") for line in lines)
    ]


def dataset(task: str) -> str:
    """The dataset of a task: its name with hyphens as underscores."""
    return f"niv2.{task.replace('-', '_')}"


def answers_with_labels(category: str) -> bool:
    """Whether the outputs of a category are labels."""
    return category in LABEL_CATEGORIES or category.endswith(LABEL_WORDS)


def _register() -> None:
    shots = FewShot(exemplars="examples", counts=(2,))
    for task, split, category in tasks():
        metrics = [flanx.metrics.rouge_l]
        if answers_with_labels(category):
            metrics.append(flanx.metrics.exact_match)
        flanx.register(
            dataset(task),
            source=flanx.NaturalInstructions(task, test=split == "test"),
            fields=fields,
            templates=TEMPLATES,
            category=category,
            metrics=metrics,
            few_shot=shots,
            template_types=("zs_opt", "fs_opt"),
        )


_register()
