"""What a store's key hangs on, and what it does not."""

import json
import sys
from pathlib import Path

import pytest

import flanx
from flanx import registry
from flanx.data import vocabulary
from flanx.data.filters import Length
from flanx.prep import prepared, render, store_keys
from flanx.prep.cache import cache
from flanx.prep.filtering import row_filters
from flanx.prep.versions import versions
from flanx.prep.work_item import WorkItem
from flanx.registry.mixtures import mixing_rates
from flanx.registry.rendering import few_shot, renderer
from flanx.registry.sources import row_sources


@pytest.fixture
def items(tmp_path):
    """A zero-shot, a few-shot and a filtered work item of one dataset."""
    with registry.isolated():
        flanx.register(
            "keys.one",
            source=flanx.Generated(lambda split, index: {"a": str(index)}, train=9),
            fields={"a": "a"},
            templates=[flanx.Template("{a}?", "{a}")],
        )
        lengths = {"inputs": 9, "targets": 9}
        zero, few = (
            WorkItem(f"keys.one.{kind}", "train", lengths, "bytes", str(tmp_path))
            for kind in ("zs_noopt", "fs_noopt")
        )
        filtered = WorkItem(
            zero.task, "train", lengths, "bytes", str(tmp_path), filters=(Length("inputs", min=2),)
        )
        yield zero, few, filtered


def keys(items):
    return [store_keys.store_key(item, vocabulary.load("bytes"))[0] for item in items]


@pytest.mark.parametrize(
    ("module", "changed"),
    [
        (few_shot, [False, True, False]),
        (row_filters, [False, False, True]),
        (renderer, [True, True, True]),
        (row_sources, [True, True, True]),
        (render, [True, True, True]),
        (mixing_rates, [False, False, False]),
    ],
)
def test_a_part_of_another_version_makes_the_stores_anew_that_it_makes(
    items, module, changed, monkeypatch
):
    before = keys(items)
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    assert [new != old for new, old in zip(keys(items), before, strict=True)] == changed


def test_another_release_of_flanx_makes_none_anew(items, monkeypatch):
    before = keys(items)
    monkeypatch.setattr(flanx, "__version__", "99.0")
    assert keys(items) == before


def test_the_engines_files_are_no_inputs(collection):
    shop = collection(one=5)
    (manifest,) = cache([shop.request()], workers=0)
    files = [record["path"] for record in manifest.inputs]
    assert str(shop.module) in files
    assert not [file for file in files if "/flanx/registry/" in file or "/flanx/prep/" in file]


def test_a_manifest_of_other_versions_is_made_anew_from_the_stores_there(collection, monkeypatch):
    shop = collection(one=5)
    request = shop.request()
    (first,) = cache([request], workers=0)
    assert prepared.ready(request) is not None
    monkeypatch.setattr(mixing_rates, "VERSION", mixing_rates.VERSION + 1)
    assert prepared.ready(request) is None
    (second,) = cache([request], workers=0)
    assert [entry.path for entry in second.entries] == [entry.path for entry in first.entries]
    assert prepared.ready(request) is not None


def test_a_manifest_of_before_there_were_versions_is_made_anew(collection):
    shop = collection(one=5)
    request = shop.request()
    (first,) = cache([request], workers=0)
    path = Path(request.manifest_path)
    fields = json.loads(path.read_text())
    del fields["versions"]
    path.write_text(json.dumps(fields))
    assert prepared.ready(request) is None
    (second,) = cache([request], workers=0)
    assert second.versions == first.versions == versions()


def test_a_comment_in_the_users_module_makes_no_store_anew(collection):
    shop = collection(one=5)
    request = shop.request()
    (first,) = cache([request], workers=0)
    text = shop.module.read_text()
    for edited, same in (
        (text.replace("return {", "# why\n    return {"), True),
        (in_capitals(text), False),
    ):
        shop.module.write_text(edited)
        sys.modules.pop(shop.name)
        with registry.isolated():
            (now,) = cache([request], workers=0)
        assert (now.entries[0].path == first.entries[0].path) == same


def in_capitals(text):
    return text.replace('row["word"],', 'row["word"].upper(),')
