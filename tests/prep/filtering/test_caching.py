"""Filters from request to manifest: what is left out, how it is counted, and that nothing else depends on them."""

import io
import json
import os
import shutil
import sys

import pytest

from flanx import registry
from flanx.cli import main as cli
from flanx.data import filters, store
from flanx.data import vocabulary as vocabularies
from flanx.data.request import StoreRequest
from flanx.errors import UserError
from flanx.prep import jobs, prepared
from flanx.prep import progress as displays
from flanx.prep.cache import cache
from flanx.prep.filtering import libraries
from flanx.prep.progress import Progress


class Record(Progress):
    """The warnings of a run."""

    def __init__(self):
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


def cached(request, workers=0, progress=None, **settings):
    (manifest,) = cache([request], workers=workers, progress=progress or Progress(), **settings)
    return manifest


def ids(manifest):
    """Places of the rows of each task, by the task's last part but the type."""
    folder = manifest.request["cache_dir"]
    return {e.task.split(".")[1]: e.open(folder).example_ids.tolist() for e in manifest.entries}


def dropped(manifest):
    return {e.task.split(".")[1]: dict(e.dropped) for e in manifest.entries if e.dropped}


def rows(*words, answer="a"):
    return [{"word": word, "answer": answer} for word in words]


@pytest.fixture
def shop(collection):
    """Datasets one, two and three, with rows that occur in several places."""
    made = collection(one=1, two=1, three=2)
    made.write_rows("one", rows("a", "b", "a", "c"))
    made.write_rows("two", rows("d", "b  ", "e") + rows("a", answer="other"))
    return made


def test_exact_duplicates_inside_and_between_tasks(shop):
    display = Record()
    manifest = cached(shop.request(filters=["ExactDuplicates()"]), progress=display)
    assert ids(manifest) == {"one": [0, 1, 3], "two": [0, 2, 3], "three": [0, 1]}
    name = "filter:exact_duplicate"
    assert dropped(manifest) == {"one": {name: 1}, "two": {name: 1}}
    assert display.warnings == [f"{name}: 2 of 10 rows"]
    assert manifest.request["filters"] == [{"filter": "ExactDuplicates", "between_tasks": True}]
    one = next(e for e in manifest.entries if ".one." in e.task)
    meta = one.open(shop.cache_dir).meta
    assert (meta["examples"], meta["dropped"]) == (3, {name: 1})
    assert meta["made_of"]["filters"] == manifest.request["filters"]


def test_inside_tasks_alone(shop):
    manifest = cached(shop.request(filters=["ExactDuplicates(between_tasks=False)"]))
    assert ids(manifest) == {"one": [0, 1, 3], "two": [0, 1, 2, 3], "three": [0, 1]}


def test_what_stays_is_what_it_was(shop):
    plain = cached(shop.request())
    filtered = cached(shop.request(filters=["ExactDuplicates()", "NearDuplicates(shortest=1)"]))
    for before, after in zip(plain.entries, filtered.entries, strict=True):
        old, new = before.open(shop.cache_dir), after.open(shop.cache_dir)
        places = {index: i for i, index in enumerate(old.example_ids.tolist())}
        kept = list(old.rows())
        assert list(new.rows()) == [kept[places[i]] for i in new.example_ids.tolist()]
    # A task that loses nothing keeps its store.
    assert {e.path for e in plain.entries} & {e.path for e in filtered.entries} == {
        plain.entries[1].path
    }
    assert plain.entries[1].task.endswith("three.zs_noopt")


def test_evaluation_stores_keep_their_texts(shop):
    request = shop.request(for_eval=True, filters=["ExactDuplicates()"])
    read = next(e for e in cached(request).entries if ".one." in e.task).open(shop.cache_dir)
    assert read.has_text
    assert "a" in read.inputs_text(0)
    assert [read.references(i) for i in range(3)] == [["a"]] * 3


def test_the_number_of_processes_does_not_matter(shop):
    given = [
        "ExactDuplicates()",
        "NearDuplicates(shortest=1)",
        "Length('inputs', 'characters', max=14)",
    ]
    request = shop.request(filters=given)
    here = cached(request)
    files = sorted(path.relative_to(shop.cache_dir) for path in shop.cache_dir.rglob("*.arrow"))
    content = [(shop.cache_dir / path).read_bytes() for path in files]
    shutil.rmtree(shop.cache_dir)
    there = cached(request, workers=2)
    assert there.entries == here.entries
    assert content == [(shop.cache_dir / path).read_bytes() for path in files]


def test_a_task_in_shards_is_filtered_as_a_whole(shop, monkeypatch):
    shop.write_rows("one", rows(*"abcabcd" * 20, "x" * 12))
    given = ["NearDuplicates(shortest=1)", "Length('inputs', 'characters', max=18)"]
    request = shop.request(mixture=f"{shop.name}.one", filters=given)
    here = cached(request)
    assert here.entries[0].dropped == {"filter:length_of_inputs": 1, "filter:near_duplicate": 136}
    shutil.rmtree(shop.cache_dir)
    monkeypatch.setattr(jobs, "_SPLIT", 100)
    for _ in range(2):  # made, and found again
        assert cached(request, workers=2).entries == here.entries
        os.unlink(request.manifest_path)


def test_what_is_there_is_not_made_again(shop):
    request = shop.request(filters=["NearDuplicates(shortest=1)"])
    before = cached(request)
    assert prepared.ready(request) == before
    files = {path: os.stat(path).st_ino for path in shop.cache_dir.rglob("*.arrow")}
    (shop.cache_dir / "manifests" / os.path.basename(request.manifest_path)).unlink()
    assert cached(request) == before
    assert {path: os.stat(path).st_ino for path in shop.cache_dir.rglob("*.arrow")} == files
    for folder in (before.entries[0].path, "sketches"):
        shutil.rmtree(shop.cache_dir / folder)
        os.unlink(request.manifest_path)
        assert cached(request) == before
    assert set(shop.cache_dir.rglob("*.arrow")) == set(files)


def test_a_damaged_store_without_duplicates_is_made_again(shop):
    request = shop.request(filters=["ExactDuplicates()"])
    before = cached(request)
    tokens = shop.cache_dir / before.entries[0].path / "tokens.arrow"
    tokens.write_bytes(tokens.read_bytes()[:-8])
    assert prepared.ready(request) is None
    display = Record()
    assert cached(request, progress=display) == before
    assert any("was damaged and is made anew" in text for text in display.warnings)
    store.verify(tokens.parent)
    os.utime(tokens, (1, 1))
    cached(request, force=True)
    assert tokens.stat().st_mtime > 1


def test_all_renderings_of_a_row_go_together(tmp_path):
    words = ["a", "b", "a", "c", "b", "d"]
    with registry.isolated():
        registry.register(
            "here.words",
            source=registry.Generated(lambda split, i: {"word": words[i], "answer": "x"}, train=6),
            fields=lambda row: row,
            templates=[registry.Template("{word}?", "{answer}")],
            inverted=[registry.Template("ask for {answer}", "{word}")],
            vocabulary="bytes",
        )
        lengths = {"inputs": 200, "targets": 16}
        given = ("ExactDuplicates()",)
        manifest = cached(StoreRequest("here.words", lengths, str(tmp_path), filters=given))
    assert [entry.type for entry in manifest.entries] == ["fs_noopt", "inv", "zs_noopt"]
    for entry in manifest.entries:
        assert entry.open(tmp_path).example_ids.tolist() == [0, 1, 3, 5]


@pytest.mark.parametrize("given", ["ExactDuplicates()", "Language()"])
def test_templates_of_other_types_count_where_they_name_fields(tmp_path, given):
    made = []
    for other in ("{asked} {told}?", "{asked}?"):
        with registry.isolated():
            registry.register(
                "here.words",
                source=registry.Generated(
                    lambda _, i: {"asked": f"{i % 2}", "told": f"{i}", "answer": "yes"}, train=4
                ),
                fields=lambda row: {**row, "options": ["yes", "no"]},
                templates=[
                    registry.Template("{asked}? {options_}", "{answer}"),
                    registry.Template(other, "{answer}"),
                ],
                vocabulary="bytes",
            )
            lengths = {"inputs": 200, "targets": 16}
            request = StoreRequest("here.words.zs_opt", lengths, str(tmp_path), filters=(given,))
            manifest = cached(request)
            made.append(manifest.entries[0])
            os.unlink(request.manifest_path)
    assert made[0].path != made[1].path
    if given == "ExactDuplicates()":
        assert [entry.examples for entry in made] == [4, 2]


@pytest.mark.parametrize(
    ("one", "name", "stays"),
    [
        ("Length('inputs', max=14)", "inputs", lambda asked, _: len(asked) <= 14),
        ("Length('inputs', 'words', min=4)", "inputs", lambda asked, _: len(asked.split()) >= 4),
        ("Length('targets', 'characters', 2, 2)", "targets", lambda _, answer: len(answer) == 2),
        ("Length('targets', min=2)", "targets", lambda _, answer: len(answer) >= 2),
    ],
)
def test_lengths(collection, one, name, stays):
    shop = collection(one=1)
    pairs = [("ab", "a"), ("cd", "bb"), ("two words and", "c"), ("more of them", "ddd")]
    shop.write_rows("one", [{"word": word, "answer": answer} for word, answer in pairs])
    read = cached(shop.request(for_eval=True)).entries[0].open(shop.cache_dir)
    expected = [i for i in range(4) if stays(read.inputs_text(i), read.references(i)[0])]
    assert 0 < len(expected) < 4
    manifest = cached(shop.request(filters=[one]))
    assert ids(manifest) == {"one": expected}
    assert dropped(manifest) == {"one": {f"filter:length_of_{name}": 4 - len(expected)}}


ENGLISH = (
    "The committee will publish its report about the new railway line at the end of this month."
)
FRENCH = (
    "Le comité publiera son rapport sur la nouvelle ligne de chemin de fer à la fin de ce mois."
)
GERMAN = (
    "Der Ausschuss wird seinen Bericht über die neue Eisenbahnstrecke Ende des Monats vorlegen."
)


def test_languages(collection):
    shop = collection(one=1)
    pairs = [(ENGLISH, ENGLISH), (FRENCH, "oui"), (ENGLISH, FRENCH), ("oui", "non"), (GERMAN, "x")]
    shop.write_rows("one", [{"word": word, "answer": answer} for word, answer in pairs])
    lengths = {"inputs": 200, "targets": 200}
    for given, expected in [
        ("Language()", [0, 3]),
        ("Language(keep=('en', 'fr'))", [0, 1, 2, 3]),
        ("Language(of='inputs')", [0, 2, 3]),
        ("Language(shortest=200)", [0, 1, 2, 3, 4]),
    ]:
        manifest = cached(shop.request(filters=[given], feature_lengths=lengths))
        assert ids(manifest) == {"one": expected}
    assert dropped(cached(shop.request(filters=["Language"], feature_lengths=lengths))) == {
        "one": {"filter:language": 3}
    }


def test_a_language_that_is_never_found_is_refused(shop):
    with pytest.raises(UserError, match="keep names 'english'"):
        cached(shop.request(filters=["Language('english')"]))


@pytest.mark.parametrize("one", ["NearDuplicates", "ExactDuplicates"])
def test_two_of_one_kind_are_refused(shop, one):
    given = [f"{one}()", f"{one}(between_tasks=False)"]
    with pytest.raises(UserError, match=f"several {one} filters"):
        cached(shop.request(filters=given))


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module of the user's with a function `keep`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"users_{tmp_path.name.replace('-', '_')}"

    def write(body):
        (tmp_path / f"{name}.py").write_text(f"def keep(example):\n    {body}\n")
        sys.modules.pop(name, None)
        return name

    yield write
    sys.modules.pop(name, None)


def test_a_function_of_the_users_own(shop, module):
    body = (
        "return {'b': False, 'c': 'too  common'}.get(example.fields['word'].strip(), True) "
        "if example.task.endswith('zs_noopt') and example.index < 9 else None"
    )
    name = module(body)
    manifest = cached(shop.request(filters=[f"Function('{name}:keep')"]))
    assert ids(manifest) == {"one": [0, 2], "two": [0, 2, 3], "three": [0, 1]}
    assert dropped(manifest) == {
        "one": {f"filter:{name}:keep": 1, "filter:too common": 1},
        "two": {f"filter:{name}:keep": 1},
    }


def test_another_function_makes_another_store(shop, module):
    name = module("return example.index > 0")
    request = shop.request(filters=[f"Function('{name}:keep')"])
    first = cached(request)
    assert prepared.ready(request) == first
    assert ids(first) == {"one": [1, 2, 3], "two": [1, 2, 3], "three": [1]}
    module("return example.index > 1")
    assert prepared.ready(request) is None
    second = cached(request)
    assert ids(second) == {"one": [2, 3], "two": [2, 3]}
    assert not {e.path for e in first.entries} & {e.path for e in second.entries}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return example.fields['nothing']", "fails on row 0 of task"),
        ("return None", "returns None for row 0 of task"),
        ("return ''", "returns '' for row 0 of task"),
    ],
)
def test_a_function_that_fails_is_named(shop, module, body, message):
    name = module(body)
    with pytest.raises(UserError) as raised:
        cached(shop.request(mixture=f"{shop.name}.one", filters=[f"Function('{name}:keep')"]))
    assert f"filter {name}:keep {message} '{shop.name}.one.zs_noopt'" in str(raised.value)


def test_a_function_that_is_not_there_is_named(shop, module):
    name = module("return True")
    with pytest.raises(UserError, match="has no function 'keeps'; did you mean 'keep'?"):
        cached(shop.request(filters=[f"Function('{name}:keeps')"]))
    with pytest.raises(UserError, match=r"Function\('users_nowhere:keep'\): no such module"):
        cached(shop.request(filters=["Function('users_nowhere:keep')"]))


def test_a_function_lies_in_the_working_directory(shop, tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    name = f"users_here_{tmp_path.name.replace('-', '_')}"
    (folder / f"{name}.py").write_text("def keep(example):\n    return example.index > 0\n")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(folder))])
    manifest = cached(
        shop.request(mixture=f"{shop.name}.one", filters=[f"Function('{name}:keep')"])
    )
    assert ids(manifest) == {"one": [1, 2, 3]}


def test_a_long_search_is_told(shop, monkeypatch):
    monkeypatch.setattr(displays, "_SECONDS", -1.0)
    stream = io.StringIO()
    cached(shop.request(filters=["NearDuplicates(shortest=1)"]), progress=displays.Lines(stream))
    lines = stream.getvalue().splitlines()
    assert "cache: near duplicates: band 21 of 21 over 8 rows" in lines
    assert "cache: filter:near_duplicate: 2 of 10 rows" in lines


def test_a_missing_library_is_one_line(shop, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(UserError) as raised:
        cached(shop.request(filters=["NearDuplicates(shortest=1)"]))
    assert str(raised.value) == (
        "filter NearDuplicates needs datasketch, which is not installed: "
        'pip install "flanx[filters]"'
    )
    assert libraries.version("py3langid")


def test_a_task_that_loses_all_is_left_out(shop):
    shop.write_rows("two", rows("a", "b", "b"))
    display = Record()
    manifest = cached(shop.request(filters=["ExactDuplicates()"]), progress=display)
    assert ids(manifest) == {"one": [0, 1, 3], "three": [0, 1]}
    assert display.warnings[-1].endswith("is left out (filter:exact_duplicate: 3)")
    assert prepared.ready(shop.request(filters=["ExactDuplicates()"])) == manifest


def test_a_filter_that_takes_everything_is_named(shop):
    with pytest.raises(UserError, match=r"rows were dropped for: filter:length_of_targets"):
        cached(shop.request(filters=["Length('targets', min=50)"]))


def test_filters_of_one_request_leave_others_alone(shop):
    requests = [
        shop.request(filters=["ExactDuplicates()", "Length('inputs', 'words', max=2)"]),
        shop.request(),
        shop.request(filters=["NearDuplicates(shortest=1)"]),
    ]
    together = cache(requests, workers=0, progress=Progress())
    shutil.rmtree(shop.cache_dir)
    apart = [cached(request) for request in requests]
    assert [m.entries for m in together] == [m.entries for m in apart]
    assert together[1].num_examples == 10


def test_duplicates_are_looked_for_in_what_other_filters_leave(shop, module):
    name = module("return not ('.one.' in example.task and example.index == 0)")
    manifest = cached(shop.request(filters=["ExactDuplicates()", f"Function('{name}:keep')"]))
    assert ids(manifest) == {"one": [1, 2, 3], "two": [0, 2, 3], "three": [0, 1]}


def test_the_command_line(shop, capsys):
    command = [
        *("cache", "--mixture", f"{shop.name}.*", "--feature_lengths", "inputs=40,targets=16"),
        *("--cache_dir", str(shop.cache_dir), "--data_dir", str(shop.folder / "data")),
        *("--import", shop.name, "--workers", "0"),
    ]
    assert cli.main([*command, "--filter", "ExactDuplicates", "--filter", "Language()"]) == 0
    said = capsys.readouterr().err
    assert "filter:exact_duplicate: 2 of 10 rows" in said
    assert "left out by filters: exact_duplicate 2, language 0" in said
    assert cli.main([*command, "--filter", "ExactDuplicate"]) == 2
    assert "did you mean 'ExactDuplicates'?" in capsys.readouterr().err
    gin = ["cache", "--gin_file=quickstart.gin", "--filter", "ExactDuplicates"]
    assert cli.main(gin) == 2
    assert "--gin.FILTERS=" in capsys.readouterr().err


def test_gin(capsys):
    command = ["cache", "--gin_file=quickstart.gin", "--dry_run"]
    assert cli.main([*command, "--gin.FILTERS=('ExactDuplicates()', 'Language(\"en\")')"]) == 0
    listed = capsys.readouterr().out
    first = StoreRequest.from_json(json.loads(listed[: listed.index("\n}") + 2]))
    assert first.filters == filters.read(["ExactDuplicates()", "Language(keep='en')"])


def test_the_child_process_filters_too(shop):
    request = shop.request(filters=["ExactDuplicates()"])
    (manifest,) = prepared.ensure([request], workers=0, progress=False)
    assert manifest.num_examples == 8


def test_vocabulary_tokens_are_counted_uncut(collection):
    shop = collection(one=1)
    shop.write_rows("one", rows("w" * 100, "v"))
    manifest = cached(shop.request(filters=["Length('inputs', max=60)"]))
    assert ids(manifest) == {"one": [1]}
    assert manifest.entries[0].clipped == {"inputs": 0, "targets": 0}
    assert vocabularies.load("bytes").decode(manifest.entries[0].open(shop.cache_dir).targets(0))
