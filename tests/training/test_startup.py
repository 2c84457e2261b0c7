"""What a process prepares before it trains: compiled programs come from folders of the user's own."""

import jax
import pytest

from flanx.training import startup


@pytest.fixture
def cache_setting():
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield lambda: jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", before)


def test_compiled_programs_of_a_folder_that_others_write_to_are_not_run(
    tmp_path, cache_setting, capsys
):
    folder = tmp_path / "xla"
    folder.mkdir()
    folder.chmod(0o777)
    startup.prepare(str(folder))
    assert cache_setting() is None
    assert f"compiled programs in {folder} are not used" in capsys.readouterr().err
    folder.chmod(0o755)
    startup.prepare(str(folder))
    assert cache_setting().startswith(f"{folder}/")
    assert capsys.readouterr().err == ""
