"""`flanx train --dry_run` refuses what the start refuses, with the same words and status."""

import pytest

from flanx.cli.main import main

MISTAKES = {
    "mixture": ("--gin.MIXTURE_OR_TASK_NAME=playgroud", "playgroud"),
    "import": ("--import=no_such_module", "no_such_module"),
    "template type": ("--gin.TEMPLATE_TYPES=('zs_op',)", "zs_op"),
    "checkpoint": ("--gin.INITIAL_CHECKPOINT_PATH=nowhere", "nowhere"),
    "NUM_TASKS": ("--gin.NUM_TASKS=9999", "9999"),
    "vocabulary": ("--gin.VOCABULARY=no.model", "no.model"),
    "mesh": ("--gin.MeshConfig.model=7", "7"),
    "microbatches": ("--gin.TrainConfig.microbatches=5", "microbatch"),
    "lengths": ("--gin.TASK_FEATURE_LENGTHS={'inputs': 0, 'targets': 8}", "length"),
    "MODEL_DIR": ("--gin.MODEL_DIR=afile/run", "afile"),
    "CACHE_DIR": ("--gin.CACHE_DIR=afile/cache", "afile"),
    "filter": ("--gin.FILTERS=('Lenght()',)", "Length"),
    "vocab_size": ("--gin.T5Config.vocab_size=100", "vocab_size"),
    "attention": ("--gin.T5Config.attention=cudnn", "attention"),
    "suites": ("--gin.held_out/EvalSuite.name=held_in", "held_in"),
    "processes": ("--process_count=2", "--coordinator_address"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_dry_run_refuses_as_the_start_does(mistake, tmp_path, monkeypatch, capfd):
    flag, word = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").touch()
    lines = []
    monkeypatch.setenv("HOME", str(tmp_path))
    for more in ([], ["--dry_run"]):
        command = ["train", "--gin_file=quickstart.gin", "--gin.MODEL_DIR=model", flag, *more]
        assert main(command) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert word in line
        lines.append(line)
    assert lines[0] == lines[1]


def test_cache_lists_tasks_with_the_sizes_of_their_data_and_stores(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [f'{{"word": "w{i}", "answer": "a"}}\n' for i in range(7)]
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    (tmp_path / "previewed.py").write_text(
        "import flanx\n"
        "flanx.register('pre.viewed', source=flanx.Jsonl(train='rows.jsonl'), fields=dict,\n"
        "    templates=[flanx.Template('Say {word}', '{answer}')], template_types=['zs_noopt', 'fs_noopt'])\n"
    )
    cache = ["cache", "--mixture=pre.viewed", "--import=previewed", "--vocabulary=bytes"]
    cache += ["--feature_lengths=inputs=64,targets=8", "--cache_dir=cache", "--workers=0"]
    assert main([*cache, "--dry_run"]) == 0
    before = capsys.readouterr().out
    assert "pre.viewed.zs_noopt\t210 bytes\tto be made\n" in before
    assert "2 tasks, 2 to be made, of 210 bytes of data" in before
    assert not (tmp_path / "cache").exists()
    assert main(cache) == 0
    assert main([*cache, "--dry_run"]) == 0
    after = capsys.readouterr().out
    assert "pre.viewed.zs_noopt\t210 bytes\t7 examples, " in after
    assert "2 tasks, 0 to be made, of 0 bytes of data" in after
    assert main([*cache, "--dry_run", "--workers=-1"]) == 2
    assert "--workers" in capsys.readouterr().err
