"""Makes fixtures/: small random T5s saved by transformers, with the logits that transformers computes from them.

    python tests/interop/make_fixtures.py        # with torch and transformers; written by transformers 5.23, torch 2.13

One folder for each of {tied, untied} x {relu, gated-gelu}: config.json and model.safetensors (bfloat16) as
`save_pretrained` leaves them, and expected.npz: `inputs`, `targets` (int32, 0 is padding) and `logits`, float32, of the
model in float32 on the targets shifted right. Beside them an mT5, tied and untied, and a umT5, whose layers have a
position bias each.
"""

from pathlib import Path

import numpy as np
import torch
from transformers import (
    MT5Config,
    MT5ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
    UMT5Config,
    UMT5ForConditionalGeneration,
)

FOLDER = Path(__file__).parent / "fixtures"
LENGTHS = ((7, 5), (4, 3), (9, 2), (3, 6))


def main() -> None:
    for tied in (True, False):
        for projection in ("relu", "gated-gelu"):
            name = f"{'tied' if tied else 'untied'}-{projection}"
            make(FOLDER / name, tied, projection, seed=len(name))
    mt5, umt5 = (MT5Config, MT5ForConditionalGeneration), (UMT5Config, UMT5ForConditionalGeneration)
    make(FOLDER / "tied-mt5", True, "gated-gelu", seed=31, kind=mt5, layers=2)
    make(FOLDER / "untied-mt5", False, "gated-gelu", seed=32, kind=mt5, layers=2)
    make(FOLDER / "tied-umt5", True, "gated-gelu", seed=33, kind=umt5, layers=2)


def make(
    folder: Path,
    tied: bool,
    projection: str,
    seed: int,
    kind=(T5Config, T5ForConditionalGeneration),
    layers: int = 1,
) -> None:
    torch.manual_seed(seed)
    config = kind[0](
        vocab_size=48,
        d_model=16,
        d_kv=4,
        d_ff=24,
        num_layers=layers,
        num_decoder_layers=2,
        num_heads=2,
        feed_forward_proj=projection,
        tie_word_embeddings=tied,
        dropout_rate=0.0,
        decoder_start_token_id=0,
    )
    model = kind[1](config)
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(torch.empty(48, 16))
    with torch.no_grad():
        for parameter in model.parameters():
            spread = torch.randn_like(parameter) * (0.3 if parameter.ndim > 1 else 0.1)
            parameter.copy_((spread + (parameter.ndim == 1)).bfloat16().float())
    inputs, targets = batch(np.random.default_rng(seed))
    shifted = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    with torch.no_grad():
        logits = model.eval()(
            input_ids=torch.tensor(inputs, dtype=torch.long),
            attention_mask=torch.tensor(inputs > 0, dtype=torch.long),
            decoder_input_ids=torch.tensor(shifted, dtype=torch.long),
        ).logits
    model.bfloat16().save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    np.savez_compressed(
        folder / "expected.npz", inputs=inputs, targets=targets, logits=logits.numpy()
    )


def batch(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    inputs, targets = np.zeros((4, 12), np.int32), np.zeros((4, 8), np.int32)
    for row, (length, answer) in enumerate(LENGTHS):
        inputs[row, :length] = rng.integers(2, 48, length)
        targets[row, :answer] = rng.integers(2, 48, answer)
    return inputs, targets


if __name__ == "__main__":
    main()
