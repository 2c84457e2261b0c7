"""Makes fixtures/decoder-*: small random decoders saved by transformers, with what transformers computes from them.

    python tests/interop/make_decoder_fixtures.py   # with torch and transformers; written by transformers 5.24

One folder for each model_type: config.json and model.safetensors (bfloat16) as `save_pretrained` leaves them, and
expected.npz, of the model in float32 with eager attention: `tokens` int32 [3, 12] and their `logits` float32, of rows
without padding; and `prompts` int32 [2, 6] with `greedy` int32 [2, 40], the likeliest tokens one after the other.
Settings are such that every one of them counts: windows shorter than a row, rows longer than rotations were made for,
norms and biases away from their first values.
"""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

FOLDER = Path(__file__).parent / "fixtures"
COMMON = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "attn_implementation": "eager",
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 16, "rope_theta": 500_000.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
YARN |= {"rope_theta": 1_000_000.0}
LINEAR = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0}
# model_type -> transformers' class and its own settings.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"rope_parameters": LLAMA3}),
    "mistral": ("Mistral", {"sliding_window": 5}),
    "qwen2": (
        "Qwen2",
        {
            "tie_word_embeddings": True,
            "use_sliding_window": True,
            "sliding_window": 5,
            "max_window_layers": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
        },
    ),
    "qwen3": ("Qwen3", {"head_dim": 16, "rope_parameters": YARN}),
    "gemma": ("Gemma", {"head_dim": 16, "num_key_value_heads": 1}),
    "gemma2": ("Gemma2", {"head_dim": 8, "query_pre_attn_scalar": 24, "sliding_window": 5}),
    "gemma3_text": (
        "Gemma3",
        {
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
            "sliding_window": 5,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": LINEAR,
                "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            },
        },
    ),
    "olmo2": ("Olmo2", {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}}),
}


def made(kind: str, seed: int, **changes: Any) -> Any:
    """A random model of transformers in float32, its numbers those of bfloat16."""
    name, own = KINDS[kind]
    torch.manual_seed(seed)
    config_class = getattr(transformers, f"{name}{'Text' if kind == 'gemma3_text' else ''}Config")
    model = getattr(transformers, f"{name}ForCausalLM")(config_class(**COMMON | own | changes))
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.3 if parameter.ndim == 1 else 1.5 * parameter.shape[-1] ** -0.5
            first = parameter if parameter.ndim == 1 else torch.zeros_like(parameter)
            parameter.copy_((first + spread * torch.randn_like(parameter)).bfloat16().float())
    return model.eval()


def logits_of(model: Any, tokens: np.ndarray) -> np.ndarray:
    """[B, L, V] of rows without padding."""
    with torch.no_grad():
        return model(torch.tensor(tokens, dtype=torch.long)).logits.float().numpy()


def greedy_of(model: Any, prompts: np.ndarray, count: int) -> np.ndarray:
    """The likeliest `count` tokens after each prompt, by transformers' own loop with its cache."""
    model.generation_config.eos_token_id = None
    ids = torch.tensor(prompts, dtype=torch.long)
    out = model.generate(ids, max_new_tokens=count, do_sample=False, attention_mask=ids * 0 + 1)
    return out[:, prompts.shape[1] :].numpy().astype(np.int32)


def main() -> None:
    for seed, kind in enumerate(KINDS):
        model, rng = made(kind, seed), np.random.default_rng(seed)
        tokens = rng.integers(0, 64, (3, 12)).astype(np.int32)
        prompts = rng.integers(3, 64, (2, 6)).astype(np.int32)
        folder = FOLDER / f"decoder-{kind}"
        # A copy: in bfloat16, a model rounds its tables of angles too.
        copy.deepcopy(model).bfloat16().save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        np.savez_compressed(
            folder / "expected.npz",
            tokens=tokens,
            logits=logits_of(model, tokens),
            prompts=prompts,
            greedy=greedy_of(model, prompts, 40),
        )


if __name__ == "__main__":
    main()
