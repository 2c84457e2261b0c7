"""Natural Instructions files: splits, caps, references, and the files' own quirks."""

import json
from pathlib import Path
from typing import Any

import pytest

import flanx
from flanx import NaturalInstructions


def write(folder: Path, task: str = "task1", instances: int = 300, **changes: Any) -> str:
    content = {
        "Definition": ["Say it."],
        "Positive Examples": [
            {"input": "i", "output": "o", "explanation": "e"},
            {"input": "j", "output": "p"},
        ],
        "Categories": ["Misc."],
        "Instances": [
            {"id": f"{task}-{i}", "input": f"in {i % 250}", "output": ["a", "b", "a"]}
            for i in range(instances)
        ],
        **changes,
    }
    (folder / "tasks").mkdir(exist_ok=True)
    (folder / f"tasks/{task}.json").write_text(json.dumps(content))
    return str(folder)


def test_rows(tmp_path: Path):
    row = next(NaturalInstructions("task1").rows("train", write(tmp_path)))
    assert row["output"] == ["a", "b"]
    assert row["definition"] == "Say it."
    assert row["positive_examples"] == [
        {"input": "i", "output": "o", "explanation": "e"},
        {"input": "j", "output": "p"},
    ]


def test_train_and_validation_share_no_input(tmp_path: Path):
    folder = write(tmp_path)
    source = NaturalInstructions("task1", validation=0.2)
    train, held = list(source.rows("train", folder)), list(source.rows("validation", folder))
    assert len(train) + len(held) == 300
    assert held
    assert not {row["input"] for row in train} & {row["input"] for row in held}


def test_cap_keeps_a_subset_in_order(tmp_path: Path):
    folder = write(tmp_path)
    whole = [row["id"] for row in NaturalInstructions("task1").rows("train", folder)]
    capped = [row["id"] for row in NaturalInstructions("task1", cap=40).rows("train", folder)]
    fewer = [row["id"] for row in NaturalInstructions("task1", cap=20).rows("train", folder)]
    assert len(capped) == 40
    assert [one for one in whole if one in capped] == capped
    assert set(fewer) < set(capped)
    assert NaturalInstructions("task1", cap=40).count("train", folder) == 40


def test_test_tasks_are_the_first_hundred(tmp_path: Path):
    folder = write(tmp_path)
    source = NaturalInstructions("task1", test=True)
    assert source.splits == ("test",)
    assert [row["id"] for row in source.rows("test", folder)] == [f"task1-{i}" for i in range(100)]
    assert NaturalInstructions("task1", cap=7, test=True).count("test", folder) == 7


def test_bare_nan(tmp_path: Path):
    shots = [
        {"input": "i", "output": "o", "explanation": float("nan")},
        {"input": float("nan"), "output": "o"},
    ]
    folder = write(tmp_path, **{"Positive Examples": shots})
    assert "NaN" in (tmp_path / "tasks/task1.json").read_text()
    row = next(NaturalInstructions("task1").rows("train", folder))
    assert row["positive_examples"] == [{"input": "i", "output": "o"}]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"Instances": []}, "no 'Instances'"),
        ({"Definition": []}, "no 'Definition'"),
        ({"Instances": [{"id": "1", "input": "x"}]}, "Instances[0] has no 'output'"),
        ({"Instances": [{"id": "1", "output": ["x"]}]}, "Instances[0] has no 'input'"),
    ],
)
def test_missing_parts(tmp_path: Path, changes: dict[str, Any], said: str):
    folder = write(tmp_path, **changes)
    with pytest.raises(flanx.UserError) as caught:
        list(NaturalInstructions("task1", test=True).rows("test", folder))
    assert str(caught.value).startswith(f"{folder}/tasks/task1.json: {said}")


def test_malformed_json_names_the_line(tmp_path: Path):
    folder = write(tmp_path)
    (tmp_path / "tasks/task1.json").write_text('{"Definition": ["x"],\n"Instances": [}')
    with pytest.raises(flanx.UserError, match=r"task1\.json:2: not valid JSON"):
        list(NaturalInstructions("task1").rows("train", folder))


def test_missing_file(tmp_path: Path):
    with pytest.raises(flanx.UserError, match=r"no such file or folder: 'tasks/task9\.json'"):
        list(NaturalInstructions("task9").rows("train", str(tmp_path)))


def test_real_files(shared_data: Path):
    folder = str(shared_data / "natural-instructions")
    names = (shared_data / "natural-instructions/splits/default/test_tasks.txt").read_text().split()
    for name in names:
        rows = list(NaturalInstructions(name, test=True).rows("test", folder))
        assert len(rows) == 100
        assert all(row["input"] and row["output"] for row in rows)
        assert all(len(set(row["output"])) == len(row["output"]) for row in rows)


def test_a_repeated_key_matters_where_it_is_read(tmp_path: Path):
    folder = write(tmp_path, instances=2)
    file = tmp_path / "tasks/task1.json"
    text = file.read_text()
    file.write_text('{"Contributors": ["a"], "Contributors": ["b"], ' + text[1:])
    assert len(list(NaturalInstructions("task1").rows("train", folder))) > 0
    file.write_text('{"Definition": ["Say this."], ' + text[1:])
    with pytest.raises(flanx.UserError, match="'Definition' stands twice"):
        list(NaturalInstructions("task1").rows("train", folder))
