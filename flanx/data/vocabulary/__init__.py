"""Text to token ids and back without TensorFlow, with exactly the ids that SeqIO or transformers gives.

`load` opens what a spec names: the path of a SentencePiece model (`path?extra_ids=0` changes the number of sentinels),
a Hugging Face folder or the tokenizer.json in it (`path?eos_id=2` names its end of sequence), or `bytes` for UTF-8
bytes as ByT5 reads them. docs/data.md says what a spec may hold, and what is read beside a tokenizer.json.
"""

from flanx.data.vocabulary.identity import includes
from flanx.data.vocabulary.loading import is_tokenizer_json, load
from flanx.data.vocabulary.protocol import LONG, Vocabulary
from flanx.data.vocabulary.sizes import padded_size
from flanx.data.vocabulary.spec import BYTES, DEFAULT_EXTRA_IDS, parse_spec, with_file

__all__ = [
    "BYTES",
    "DEFAULT_EXTRA_IDS",
    "LONG",
    "Vocabulary",
    "includes",
    "is_tokenizer_json",
    "load",
    "padded_size",
    "parse_spec",
    "with_file",
]
