"""A collection of many small tasks like those of Natural Instructions, for the benchmarks of caching.

    write(folder, tasks=1836, rows=200)

writes `folder/data/task0000.jsonl` ... and the module `folder/many_tasks.py`, which registers each file in the types
zs_noopt and fs_noopt for flanx, or in an equal zero-shot form for SeqIO where `MANY_TASKS_SEQIO` is set.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

MODULE = "many_tasks"
WORDS = (
    30  # of an input, on average; with its definition some 150 tokens, as in Natural Instructions
)

_MODULE = '''
"""Tasks of a benchmark."""

import os
from pathlib import Path

DATA = Path(__file__).parent / "data"
NAMES = sorted(path.stem for path in DATA.glob("*.jsonl"))
VOCABULARY = "pkg://flanx.tasks.playground_parts/vocabulary.model"


def for_flanx():
    import flanx

    for name in NAMES:
        flanx.register(
            "many." + name,
            source=flanx.Jsonl(train=str(DATA / (name + ".jsonl"))),
            fields=lambda row: row,
            templates=[
                flanx.Template("{definition}\\n\\nInput: {input}\\nOutput:", "{output}"),
                flanx.Template("{input}\\n\\n{definition}", "{output}"),
            ],
            template_types=("zs_noopt", "fs_noopt"),
            vocabulary=VOCABULARY,
        )


def for_seqio():
    import json

    import seqio
    import tensorflow as tf
    from flanx import resources

    vocabulary = seqio.SentencePieceVocabulary(resources.resolve(VOCABULARY), extra_ids=0)
    features = {name: seqio.Feature(vocabulary, add_eos=True) for name in ("inputs", "targets")}

    def fields(line):
        row = json.loads(line.numpy())
        return row["definition"] + "\\n\\nInput: " + row["input"] + "\\nOutput:", row["output"]

    def render(line):
        inputs, targets = tf.py_function(fields, [line], (tf.string, tf.string))
        return {"inputs": tf.ensure_shape(inputs, ()), "targets": tf.ensure_shape(targets, ())}

    for name in NAMES:
        seqio.TaskRegistry.add(
            "many_" + name,
            source=seqio.TextLineDataSource({"train": str(DATA / (name + ".jsonl"))}),
            preprocessors=[
                lambda dataset: dataset.map(render, num_parallel_calls=tf.data.AUTOTUNE),
                seqio.preprocessors.tokenize,
                seqio.preprocessors.append_eos,
                seqio.CacheDatasetPlaceholder(),
            ],
            output_features=features,
        )


for_seqio() if os.environ.get("MANY_TASKS_SEQIO") else for_flanx()
'''


def write(folder: Path, *, tasks: int, rows: int, seed: int = 0) -> None:
    """Writes the data of `tasks` tasks of `rows` rows each, and their module."""
    draws = random.Random(seed)
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(draws.choices(letters, k=draws.randint(2, 9))) for _ in range(4000)]
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for task in range(tasks):
        definition = " ".join(draws.choices(words, k=15)) + "."
        lines = []
        for row in range(rows):
            size = draws.randint(WORDS // 2, 3 * WORDS // 2)
            fields = {
                "definition": definition,
                "input": f"{row} " + " ".join(draws.choices(words, k=size)),
                "output": " ".join(draws.choices(words, k=draws.randint(1, 12))),
            }
            lines.append(json.dumps(fields) + "\n")
        (folder / "data" / f"task{task:04d}.jsonl").write_text("".join(lines))
    (folder / f"{MODULE}.py").write_text(_MODULE.lstrip())


def environment(folder: Path, **more: str) -> dict[str, str]:
    """For a process that imports the module of `folder`."""
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}


def seqio_seconds(folder: Path, workers: int) -> float:
    """Seconds that `seqio_cache_tasks` takes for all tasks of `folder`, one output file each, start included.

    It writes TFRecord files, for which Beam wants a checksum library: pip install google-crc32c.
    """
    shutil.rmtree(folder / "seqio", ignore_errors=True)
    options = [
        "--runner=FnApiRunner",  # Beam's local runner
        *(
            [f"--direct_num_workers={workers}", "--direct_running_mode=multi_processing"]
            * (workers > 1)
        ),
    ]
    command = [
        *(sys.executable, "-m", "seqio.scripts.cache_tasks_main"),
        *("--tasks=many_.*", f"--module_import={MODULE}", "--min_shards=1"),
        *(f"--output_cache_dir={folder / 'seqio'}", f"--pipeline_options={','.join(options)}"),
    ]
    began = time.perf_counter()
    subprocess.run(
        command,
        check=True,
        env=environment(folder, MANY_TASKS_SEQIO="1"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - began
