"""Small tokenizers of every family's kind, as Hugging Face folders hold them, trained on the texts that are given.

Pipelines and configuration files are those of the families' own folders; only the vocabularies are small.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

TEXTS = (
    "The quick brown fox jumps over the lazy dog, doesn't it? 1,234.56 + 7 = 1241.56",
    "def f(x):\n\tif x < 3 and {x}:\n        return [i**2 for i in range(x)]  # ~\\n",
    "  Übergrößenträger naïve façade; l'été, où ça?  \r\n\r\n  Straße",
    "Быстрая коричневая лиса прыгает через ленивую собаку.",
    "東京は日本の首都です。人口は一千万人を超えます。",
    "สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามสุนัขขี้เกียจ ১২৩ বাংলা తెలుగు",
    "👩‍👩‍👧‍👦 😀 ﬁ \uff21 e\u0301 \u0301 \u00a0\u2028\u200b x²",
)
# Tokens that are written out, spaces at the ends and in rows, and nothing at all.
ODD_TEXTS = (
    "",
    " ",
    "  two  spaces \n\n\n",
    "<extra_id_0> in <extra_id_9>text</s> <pad><eos> <unk>",
    "<|im_end|>\n<|im_start|>user\n<|eot_id|> <|endoftext|><end_of_turn>",
    "\x00 \ufffd ▁ ⁇ [PAD]",
)
_GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN = _GPT4.replace(r"\p{N}{1,3}", r"\p{N}")
_BYTES = [f"<0x{i:02X}>" for i in range(256)]


def write_all(folder: Path, texts: Iterable[str] = TEXTS, size: int = 600) -> dict[str, Path]:
    """Writes a folder for every family.

    Args:
      folder: where.
      texts: to train on.
      size: about the number of tokens.

    Returns:
      By family, its folder.
    """
    texts = list(texts)
    made = {}
    for family, make in FAMILIES.items():
        made[family] = folder / family
        made[family].mkdir(parents=True)
        for name, content in make(texts, size).items():
            text = content if isinstance(content, str) else json.dumps(content)
            (made[family] / name).write_text(text)
    return made


def llama3(texts: list[str], size: int) -> dict[str, Any]:
    """Byte-level BPE whose words are looked up whole first; a begin of sequence by the post-processor; an instruction
    model's three ends, of which tokenizer_config.json names the second."""
    begin, *_ = special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>"]
    tokenizer = _byte_level(texts, size, _GPT4, special, ignore_merges=True)
    tokenizer.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=False), _begins_with(tokenizer, begin)]
    )
    ids = {token: tokenizer.token_to_id(token) for token in special}
    return {
        "tokenizer.json": tokenizer.to_str(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": begin,
            "eos_token": "<|eot_id|>",
            "added_tokens_decoder": {str(i): _added(token) for token, i in ids.items()},
        },
        "generation_config.json": {
            "bos_token_id": ids[begin],
            "eos_token_id": [ids["<|end_of_text|>"], ids["<|eom_id|>"], ids["<|eot_id|>"]],
        },
    }


def qwen(texts: list[str], size: int) -> dict[str, Any]:
    """Byte-level BPE after NFC; no begin of sequence."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = _byte_level(texts, size, _QWEN, special)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return {
        "tokenizer.json": tokenizer.to_str(),
        "tokenizer_config.json": {
            "tokenizer_class": "Qwen2Tokenizer",
            "add_bos_token": False,
            "bos_token": None,
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        },
        "generation_config.json": {
            "eos_token_id": [tokenizer.token_to_id(one) for one in ("<|im_end|>", "<|endoftext|>")]
        },
    }


def olmo(texts: list[str], size: int) -> dict[str, Any]:
    """Byte-level BPE whose one special token both begins and ends a text; a map of special tokens."""
    tokenizer = _byte_level(texts, size, _GPT4, ["<|endoftext|>", "<|pad|>"])
    return {
        "tokenizer.json": tokenizer.to_str(),
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"},
        "special_tokens_map.json": {
            "bos_token": "<|endoftext|>",
            "eos_token": {**_added("<|endoftext|>"), "special": True},
            "pad_token": "<|pad|>",
        },
    }


_LLAMA2_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def mistral(texts: list[str], size: int) -> dict[str, Any]:
    """SentencePiece's BPE with byte fallback; a normalizer puts a space before every text; no padding token."""
    content = _fallback(texts, size, ["<unk>", "<s>", "</s>"])
    content["normalizer"] = {
        "type": "Sequence",
        "normalizers": [{"type": "Prepend", "prepend": "▁"}, _spaces("Replace")],
    }
    return {
        "tokenizer.json": {**content, "post_processor": _template("<s>", 1)},
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", **_LLAMA2_TOKENS},
    }


def llama2(texts: list[str], size: int) -> dict[str, Any]:
    """The same by the class of Llama 2, which transformers 5 rebuilds with another step before the model."""
    return {
        **mistral(texts, size),
        "tokenizer_config.json": {
            "tokenizer_class": "LlamaTokenizer",
            "add_bos_token": True,
            "legacy": False,
            **_LLAMA2_TOKENS,
        },
        "config.json": {"model_type": "llama", "eos_token_id": 2, "pad_token_id": -1},
    }


def llama2_saved_again(texts: list[str], size: int) -> dict[str, Any]:
    """As transformers 5 itself writes it: a pre-tokenizer puts the space before the first word."""
    content = _fallback(texts, size, ["<unk>", "<s>", "</s>"])
    content["pre_tokenizer"] = {
        "type": "Metaspace",
        "replacement": "▁",
        "prepend_scheme": "first",
        "split": False,
    }
    return {
        "tokenizer.json": {**content, "post_processor": _template("<s>", 1)},
        "tokenizer_config.json": {"tokenizer_class": "TokenizersBackend", **_LLAMA2_TOKENS},
    }


def gemma(texts: list[str], size: int) -> dict[str, Any]:
    """BPE with byte fallback and no space before a text; padding, end and begin at 0, 1, 2; turns end at a fourth."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
    content = _fallback(texts, size, special)
    content["normalizer"] = _spaces("Replace")
    content["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithPrevious",
        "invert": False,
    }
    content["decoder"]["decoders"].pop()
    return {
        "tokenizer.json": {**content, "post_processor": _template("<bos>", 2)},
        "tokenizer_config.json": {
            "tokenizer_class": "GemmaTokenizer",
            "add_bos_token": True,
            **{f"{n}_token": f"<{n}>" for n in ("pad", "eos", "bos", "unk")},
        },
        "generation_config.json": {"eos_token_id": [1, 6]},
    }


def t5(texts: list[str], size: int) -> dict[str, Any]:
    """SentencePiece's unigrams with sentinels at the end, some unknown characters, and no begin of sequence."""
    sentinels = [f"<extra_id_{i}>" for i in range(10)]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always", split=True)
    tokenizer.train_from_iterator(
        [text.replace("{", "").replace("~", "").replace("<", "") for text in texts],
        trainers.UnigramTrainer(
            vocab_size=size,
            special_tokens=["<pad>", "</s>", "<unk>"],
            unk_token="<unk>",
            show_progress=False,
        ),
    )
    tokenizer.add_special_tokens(sentinels)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    # What many published files hold: texts must neither be cut nor filled up.
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=16, pad_token="<pad>")
    return {
        "tokenizer.json": tokenizer.to_str(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "</s>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "extra_special_tokens": sentinels,
        },
    }


FAMILIES: dict[str, Callable[[list[str], int], dict[str, Any]]] = {
    make.__name__: make
    for make in (llama3, qwen, olmo, mistral, llama2, llama2_saved_again, gemma, t5)
}


def _byte_level(
    texts: list[str], size: int, pattern: str, special: list[str], ignore_merges: bool = False
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.add_special_tokens(special)
    return tokenizer


def _fallback(texts: list[str], size: int, special: list[str]) -> dict[str, Any]:
    """A tokenizer.json without the steps before and after the model."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=size + 256,
        special_tokens=[*special, *_BYTES],
        limit_alphabet=size // 3,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    content = json.loads(tokenizer.to_str())
    tokens = content["added_tokens"]
    return {
        **content,
        "added_tokens": [token for token in tokens if token["content"] in special],
        "normalizer": None,
        "pre_tokenizer": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
    }


def _spaces(kind: str) -> dict[str, Any]:
    return {"type": kind, "pattern": {"String": " "}, "content": "▁"}


def _template(begin: str, begin_id: int) -> dict[str, Any]:
    """A post-processor that puts `begin` before a text."""
    first = {"SpecialToken": {"id": begin, "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [first, text],
        "pair": [first, text, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {begin: {"id": begin, "ids": [begin_id], "tokens": [begin]}},
    }


def _begins_with(tokenizer: Tokenizer, begin: str) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single=f"{begin} $A",
        pair=f"{begin} $A {begin} $B",
        special_tokens=[(begin, tokenizer.token_to_id(begin))],
    )


def _added(token: str) -> dict[str, Any]:
    return {
        "content": token,
        "lstrip": False,
        "normalized": False,
        "rstrip": False,
        "single_word": False,
        "special": True,
    }
