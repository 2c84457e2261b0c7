"""Chain of thought: the nine reasoning sets of the Flan collection, `cot.<set>`.

Each set is one file `<set>_train.tsv` of question, answer and rationale (google-research/FLAN, `flan/v2/cot_data`),
found in DATA_DIR, in its `cot_data/` or in its `flan/v2/cot_data/`. It makes two datasets:

    cot.gsm8k          question -> rationale and answer      types zs_opt, fs_opt; and inv, the four inversions of
                                                             Flan 2022 (Longpre et al. 2023, section 2.1)
    cot.gsm8k_direct   question -> answer alone              types zs_opt, fs_opt

Options, where a set has them, are part of its questions, so there is one option form. The sets have no official
validation split: questions are held out by a hash of their text, the same ones for both datasets and in every release
of a file.
"""

from collections.abc import Mapping
from typing import Any

import flanx
from flanx.evaluation.postprocess import after_the_answer_is

# Where the file may lie under DATA_DIR.
FOLDERS = ("", "cot_data", "flan/v2/cot_data")
HELD_OUT = 0.05

# Dataset: what it asks for.
SETS = {
    "aqua": "algebra word problems",
    "creak": "fact verification",
    "ecqa": "commonsense question answering",
    "esnli": "natural language inference",
    "gsm8k": "arithmetic word problems",
    "qasc": "science question answering",
    "qed": "open question answering",
    "sensemaking": "commonsense validation",
    "strategyqa": "multi-hop question answering",
}

WITH_RATIONALE = [
    flanx.Template(
        "{question}\n\nThink it through step by step before you answer.",
        "{rationale} The answer is {answer}.",
    ),
    flanx.Template(
        "Question: {question}\nExplain your reasoning, then give the answer.\nReasoning:",
        "{rationale}\nThe answer is {answer}.",
    ),
    flanx.Template(
        "Solve the problem below and write down how you get to the solution.\n\n{question}",
        "{rationale} So the answer is {answer}.",
    ),
    flanx.Template(
        "{question}\nReasons first, answer last:",
        "{rationale} Therefore the answer is {answer}.",
    ),
    flanx.Template(
        "Q: {question}\nA, with an explanation:",
        "{rationale} The answer is {answer}.",
    ),
    flanx.Template(
        "Here is something to reason about.\n\n{question}\n\n"
        'State your reasons and finish with the words "the answer is".',
        "{rationale}\nThe answer is {answer}.",
    ),
    flanx.Template(
        "Which facts or steps lead to the answer of this question? List them, then answer it.\n{question}",
        "{rationale} This means that the answer is {answer}.",
    ),
    flanx.Template(
        "A student asks you: {question}\n\nTeach the way to the answer, not just the answer.",
        "{rationale}\n\nThe answer is {answer}.",
    ),
]

ANSWER_ONLY = [
    flanx.Template("{question}\n\nGive the final answer only.", "{answer}"),
    flanx.Template("Question: {question}\nAnswer:", "{answer}"),
    flanx.Template("Answer this without any explanation.\n\n{question}", "{answer}"),
    flanx.Template("{question}\nFinal answer:", "{answer}"),
    flanx.Template("Reply with the answer and nothing else.\nQ: {question}\nA:", "{answer}"),
    flanx.Template("What is the answer to the following?\n\n{question}", "{answer}"),
    flanx.Template("I have a question. A short reply is enough.\n{question}", "{answer}"),
    flanx.Template("Problem:\n{question}\n\nSolution (no working needed):", "{answer}"),
]

ASK_QUESTION = [  # rationale and answer -> question
    (
        "Reasoning: {rationale}\nAnswer: {answer}\n\nWrite the question that these belong to.",
        "{question}",
    ),
    (
        "Somebody reasoned like this:\n{rationale}\n\nThe conclusion was: {answer}\nWhat had they been asked?",
        "{question}",
    ),
    (
        'Make up a question that is answered by "{answer}", for this reason: {rationale}',
        "{question}",
    ),
    ("Explanation: {rationale}\nSolution: {answer}\nQuestion:", "{question}"),
    (
        "Restore the missing first line of this exercise.\nQuestion: ...\nSteps: {rationale}\nResult: {answer}",
        "{question}",
    ),
    (
        "{rationale} Hence the answer is {answer}.\n\nState the problem that is being solved here.",
        "{question}",
    ),
]
ASK_RATIONALE = [  # question and answer -> rationale
    ("{question}\nThe answer is {answer}. Why?", "{rationale}"),
    ("Question: {question}\nAnswer: {answer}\nReasoning:", "{rationale}"),
    (
        "Justify the answer given to this question.\n\n{question}\n\nAnswer given: {answer}",
        "{rationale}",
    ),
    ("Q: {question}\nA: {answer}\n\nFill in the steps between Q and A.", "{rationale}"),
    (
        "Someone answered {answer} to the question below and was right. Explain what makes it right.\n{question}",
        "{rationale}",
    ),
    ("Problem: {question}\nKnown solution: {answer}\nDerive the solution.", "{rationale}"),
]
ASK_QUESTION_AND_ANSWER = [  # rationale -> question and answer
    (
        "{rationale}\n\nWrite a question that this explains, and its answer.",
        "{question}\nThe answer is {answer}.",
    ),
    (
        "Explanation: {rationale}\nWhat was the question, and what is the answer?",
        "Question: {question}\nAnswer: {answer}",
    ),
    (
        "Turn this line of thought into an exercise with its solution.\n{rationale}",
        "{question}\nSolution: {answer}",
    ),
    (
        "Build a quiz item (question, then answer) from these facts: {rationale}",
        "Q: {question}\nA: {answer}",
    ),
    (
        "Reasoning:\n{rationale}\n\nGive what comes before it and what comes after it.",
        "Before: {question}\nAfter: {answer}",
    ),
    (
        "{rationale}\nWhich question and answer does this connect?",
        "{question} The answer is {answer}.",
    ),
]
ASK_QUESTION_AND_RATIONALE = [  # answer -> question and rationale
    (
        "Write a question that has the answer {answer}, and explain the answer.",
        "{question}\nExplanation: {rationale}",
    ),
    (
        "Answer: {answer}\nInvent a question for it, with the reasoning that leads there.",
        "Question: {question}\nReasoning: {rationale}",
    ),
    (
        'The solution of an exercise is "{answer}". Write the exercise and the way to solve it.',
        "{question}\n\n{rationale}",
    ),
    (
        "A quiz needs an item whose answer is {answer}. Give the question and the reason.",
        "Q: {question}\nReason: {rationale}",
    ),
    (
        "{answer}\n\nThink of a problem with this result and work it out.",
        "Problem: {question}\nWorking: {rationale}",
    ),
    (
        "What could one ask to be answered with {answer}, and why is that the answer?",
        "{question} {rationale}",
    ),
]

INVERTED = [
    flanx.Template(inputs, targets)
    for inputs, targets in (
        *ASK_QUESTION,
        *ASK_RATIONALE,
        *ASK_QUESTION_AND_ANSWER,
        *ASK_QUESTION_AND_RATIONALE,
    )
]


def fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """Question, answer and rationale without outer white space; a rationale ends its last sentence."""
    rationale = row["rationale"].strip()
    return {
        "question": row["question"].strip(),
        "answer": row["answer"].strip(),
        "rationale": rationale if rationale[-1:] in ".!?" else f"{rationale}.",
    }


for name, category in SETS.items():
    source = flanx.HeldOut(
        flanx.Tsv(("question", "answer", "rationale"), folders=FOLDERS, train=f"{name}_train.tsv"),
        HELD_OUT,
        key="question",
    )
    flanx.register(
        f"cot.{name}",
        source=source,
        fields=fields,
        templates=WITH_RATIONALE,
        inverted=INVERTED,
        category=category,
        metrics=[flanx.metrics.accuracy],
        postprocessor=after_the_answer_is,
        template_types=("zs_opt", "fs_opt", "inv"),
    )
    flanx.register(
        f"cot.{name}_direct",
        source=source,
        fields=fields,
        templates=ANSWER_ONLY,
        category=category,
        metrics=[flanx.metrics.accuracy],
        postprocessor=after_the_answer_is,
        template_types=("zs_opt", "fs_opt"),
    )
