"""The peer of train_step.py: transformers' T5 on PyTorch, forward, backward and Adafactor, a step at a time.

Started by train_step.py with the same shapes, in a process of its own. It reads a line "step" and answers with seconds,
until its input ends; then it prints its peak memory.
"""

import argparse
import json
import sys
import time
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("emb_dim", "num_heads", "layers", "mlp_dim", "batch_size", "inputs", "targets"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--dropout_rate", type=float, required=True)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), required=True)
    args = parser.parse_args()

    import torch

    torch.set_num_threads(args.threads)
    # Without this PyTorch's steps grow slower and slower, as gradients shrink to denormal numbers.
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    step = training_step(args, torch)
    print(json.dumps({"ready": f"transformers on torch {torch.__version__}"}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)
    print(json.dumps({"peak_bytes": peak_bytes(torch)}), flush=True)


def training_step(args: argparse.Namespace, torch: Any) -> Any:
    """A function without arguments that takes one step, always on the same random rows without padding."""
    from transformers import T5Config, T5ForConditionalGeneration
    from transformers.optimization import Adafactor

    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings: dict[str, Any] = {
        "vocab_size": 32128,
        "d_model": args.emb_dim,
        "d_kv": 64,
        "d_ff": args.mlp_dim,
        "num_layers": args.layers,
        "num_decoder_layers": args.layers,
        "num_heads": args.num_heads,
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": args.dropout_rate,
        "tie_word_embeddings": False,
        "decoder_start_token_id": 0,
        "use_cache": False,
    }
    model: Any = T5ForConditionalGeneration(T5Config(**settings))
    model.to(device).train()
    # T5X's numbers: a constant rate, relative to each parameter's size.
    optimizer = Adafactor(
        model.parameters(), lr=1e-3, relative_step=False, scale_parameter=True, warmup_init=False
    )
    inputs = torch.randint(2, 32000, (args.batch_size, args.inputs), device=device)
    targets = torch.randint(2, 32000, (args.batch_size, args.targets), device=device)
    low = args.dtype == "bfloat16"

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=low):
            loss = model(input_ids=inputs, labels=targets).loss
        loss.backward()
        optimizer.step()

    return step


def peak_bytes(torch: Any) -> int:
    """Most memory of the GPU where there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024


if __name__ == "__main__":
    main()
