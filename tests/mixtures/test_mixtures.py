"""Mixtures: which tasks, at which weights, and what happens where only a part of the data is there."""

import itertools

import pytest

from flanx import mixtures
from flanx.errors import UserError
from flanx.registry import (
    Jsonl,
    Part,
    Template,
    isolated,
    load_for,
    mixture,
    rates,
    register,
    resolve,
)
from flanx.tasks import niv2

for _name in ("niv2.train", "cot", "flan2022.niv2_cot"):
    load_for(_name)


def _counts(selected, data_dir):
    return {one.task: one.spec.count("train", data_dir) for one in selected}


def test_train_and_test_share_no_task(shared_data):
    train = {one.dataset for one in resolve("niv2.train", data_dir=str(shared_data))}
    test = {one.dataset for one in resolve("niv2.test", split="test", data_dir=str(shared_data))}
    assert (len(train), len(test)) == (129, 11)
    assert not train & test
    excluded = {niv2.dataset(name) for name, split, _ in niv2.tasks() if split == "excluded"}
    assert not (train | test) & excluded


def test_a_part_of_the_data_will_do_and_is_counted(shared_data):
    there = len(list((shared_data / "flan/v2/cot_data").glob("*_train.tsv")))
    said: list[str] = []
    resolve("niv2.train", data_dir=str(shared_data), say=said.append)
    resolve("cot.answer_only", data_dir=str(shared_data), say=said.append)
    assert said == [
        "niv2.train: 129 of 756 datasets are there, the others are left out",
        f"cot.answer_only: {there} of 9 datasets are there, the others are left out",
    ]


@pytest.mark.parametrize("name", ["niv2.train", "niv2.test", "cot", "cot.inverted"])
def test_no_data_at_all_is_an_error(tmp_path, name):
    split = "test" if name == "niv2.test" else "train"
    with pytest.raises(
        UserError, match=rf"'{name}': none of its \d+ datasets is there: no such file"
    ):
        resolve(name, split=split, data_dir=str(tmp_path))


def test_weights_of_natural_instructions_are_capped_rates(shared_data):
    selected = resolve("niv2.train", data_dir=str(shared_data))
    counts = _counts(selected, str(shared_data))
    weights = rates(selected, counts)
    large = "niv2.task1318_country_national_dish"
    for dataset in (large, "niv2.task094_conala_calculate_mean"):
        both = weights[f"{dataset}.zs_opt"] + weights[f"{dataset}.fs_opt"]
        assert both == pytest.approx(min(counts[f"{dataset}.zs_opt"], 5000))
    assert rates(selected, dict.fromkeys(counts, 9000))[f"{large}.zs_opt"] == pytest.approx(2500)


def test_inverted_cot_weighs_three_tenths(shared_data):
    selected = resolve("cot", data_dir=str(shared_data))
    weights = rates(selected, _counts(selected, str(shared_data)))
    assert weights["cot.gsm8k.inv"] == pytest.approx(0.3 * weights["cot.gsm8k.zs_opt"])
    assert {one.type for one in resolve("cot.inverted", data_dir=str(shared_data))} == {"inv"}
    rationale = resolve("cot.with_rationale", data_dir=str(shared_data))
    assert {one.type for one in rationale} == {"zs_opt", "fs_opt"}
    assert not any(one.dataset.endswith("_direct") for one in rationale)


@pytest.mark.parametrize(
    ("name", "share"), [("flan2022.niv2_cot", 24.2 / 26.0), ("flan2022.niv2_cot_scaling", 30 / 33)]
)
def test_flan_shares_are_the_published_ones(shared_data, name, share):
    selected = resolve(name, data_dir=str(shared_data))
    weights = rates(selected, _counts(selected, str(shared_data)))
    of_niv2 = sum(weight for task, weight in weights.items() if task.startswith("niv2."))
    assert of_niv2 / sum(weights.values()) == pytest.approx(share)


def _register_numbers(count):
    for number in range(count):
        register(
            f"numbers.n{number}",
            source=Jsonl(train="train.jsonl", validation="validation.jsonl"),
            fields={"x": "x", "y": "y"},
            templates=[Template("{x}", "{y}")],
        )


def test_scaled_subsets_are_nested_and_keep_their_weights():
    with isolated():
        _register_numbers(12)
        mixture(
            "numbers",
            [Part("numbers.n[0-5]", rate=3.0), Part("numbers.*", exclude="numbers.n[0-5]")],
        )
        chosen = []
        for size in (1, 3, 7, 12):
            name = mixtures.scaled("numbers", size, seed=5)
            assert name == f"numbers.scaled_{size}_5"
            selected = resolve(name)
            chosen.append({one.dataset for one in selected})
            assert len(chosen[-1]) == size
            assert chosen[-1] == {one.dataset for one in resolve("numbers", num_tasks=size, seed=5)}
            counts = {one.task: 40 for one in selected}
            whole = rates(resolve("numbers"), {one.task: 40 for one in resolve("numbers")})
            assert rates(selected, counts) == pytest.approx({task: whole[task] for task in counts})
        assert all(small < large for small, large in itertools.pairwise(chosen))


def test_scaled_by_another_seed_is_another_subset():
    with isolated():
        _register_numbers(12)
        first, second = (mixtures.scaled("numbers.*", 4, seed) for seed in (0, 1))
        assert first == "numbers._.scaled_4_0"
        assert {one.dataset for one in resolve(first)} != {one.dataset for one in resolve(second)}


def test_scaled_refuses_more_than_there_are():
    with isolated():
        _register_numbers(3)
        with pytest.raises(UserError, match="num_tasks 4 is not between 1 and its 3 datasets"):
            mixtures.scaled("numbers.*", 4)


def test_scaled_of_an_unknown_mixture_offers_the_nearest():
    with pytest.raises(
        UserError, match=r"name 'niv2.trian' matches no task or mixture; did you mean 'niv2.train'"
    ):
        mixtures.scaled("niv2.trian", 4)
