"""What filters leave in the cache folder is kept as long as a manifest needs it, and no longer."""

from pathlib import Path

from flanx.prep import prepared, prune
from flanx.prep.cache import cache
from flanx.prep.progress import Progress


def test_filtered_stores_and_their_files_go_with_their_manifest(collection):
    shop = collection(one=1)
    shop.write_rows("one", [{"word": word, "answer": "x"} for word in "aba"])
    given = ["ExactDuplicates()", f"Decontaminate('{shop.name}.one', split='validation')"]
    filtered, plain = shop.request(filters=given), shop.request()
    made, _ = cache([filtered, plain], workers=0, progress=Progress())
    assert prune.prune(shop.cache_dir) == []
    assert len(made.unread) == 3  # the store with duplicates, the sketch, the index
    Path(filtered.manifest_path).unlink()
    removed = [one.path for one in prune.prune(shop.cache_dir)]
    assert sorted(removed) == sorted([made.entries[0].path, *made.unread])
    assert prepared.ready(plain) is not None
    cache([filtered], workers=0, progress=Progress())
    assert prepared.ready(filtered) == made
