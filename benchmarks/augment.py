"""What masked-states augmentation costs: a training step of each form against the plain step.

    python benchmarks/augment.py                    # a LLaVA with SmolVLM-256M's text shape, 10 layers, T = 1000
    python benchmarks/augment.py --shape embedded   # the embedded model on its own samples

Random weights, float32, vision tower frozen, every sample augmented (probability 1: the dearest case). A step is
forward, backward and AdamW. The ways take turns, round after round; the table gives medians of seconds and of the
per-round ratios to the plain step.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from typing import Any

import torch

from vlmsift.augment import VARIANTS, Rankings, masked_states

WAYS: dict[str, dict[str, Any] | None] = {
    "plain step": None,
    "top, second forward": {"variant": "top"},
    "top, one pass": {"variant": "top", "ranking_from": "one-pass"},
    "top, cached choice": {"variant": "top", "ranking_from": "cached"},
    **{name: {"variant": name} for name in VARIANTS if name != "top"},
}


def text_shape(layers: int, length: int, count: int) -> tuple[Any, dict[str, Any]]:
    """A LLaVA of 576 image tokens, and a batch of `count` samples of `length` tokens, the last 100 the answer."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    vision = CLIPVisionConfig(
        image_size=336, patch_size=14, hidden_size=384, intermediate_size=1536, num_hidden_layers=6, projection_dim=384
    )
    text = LlamaConfig(
        hidden_size=576,
        num_hidden_layers=layers,
        num_attention_heads=9,
        num_key_value_heads=3,
        intermediate_size=1536,
        vocab_size=49280,
        max_position_embeddings=8192,
    )
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=5, image_seq_length=576)
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config)
    ids = torch.randint(10, 1000, (count, length), generator=torch.Generator().manual_seed(1))
    ids[:, 10:586] = 5
    labels = ids.clone()
    labels[:, :-100] = -100
    pixels = torch.randn(count, 3, 336, 336, generator=torch.Generator().manual_seed(2))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels, "labels": labels}
    return model, inputs


def embedded(count: int) -> tuple[Any, dict[str, Any]]:
    """The embedded model, and `count` samples made from digits that it was not trained on."""
    from makers import encode
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from vlmsift.demo import MODEL_PATH
    from vlmsift.demo.questions import draw_samples

    model = AutoModelForImageTextToText.from_pretrained(MODEL_PATH)
    inputs, labels = encode(AutoProcessor.from_pretrained(MODEL_PATH), draw_samples("pool", count))
    return model, {**inputs, "labels": labels}


def times(model: Any, inputs: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Seconds per way and round, after one round that is not counted (in which choices are cached)."""
    model.model.vision_tower.requires_grad_(False)
    model.train()
    optimiser = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], 1e-5)
    rankings = Rankings()
    found: dict[str, list[float]] = {name: [] for name in WAYS}

    def step() -> None:
        model(**inputs).loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    for number in range(rounds + 1):
        for name, how in WAYS.items():
            context: Any = contextlib.nullcontext()
            if how is not None:
                kept: dict[str, Any] = {"rankings": rankings} if how.get("ranking_from") == "cached" else {}
                context = masked_states(model, probability=1.0, **how, **kept)
            with context:
                started = time.perf_counter()
                step()
                if number:
                    found[name].append(time.perf_counter() - started)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=["smolvlm-256m", "embedded"], default="smolvlm-256m")
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--length", type=int, default=1000)
    parser.add_argument("--samples", type=int, help="samples per step (default: 2, embedded 32)")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    count = options.samples or (32 if options.shape == "embedded" else 2)
    if options.shape == "embedded":
        model, inputs = embedded(count)
    else:
        model, inputs = text_shape(options.layers, options.length, count)
    shape = "x".join(map(str, inputs["input_ids"].shape))
    print(f"{options.shape}, tokens {shape}, {options.rounds} rounds, {torch.get_num_threads()} threads")
    print("| way | s per step | time / plain |")
    print("|---|---|---|")
    found = times(model, inputs, options.rounds)
    for name, seconds in found.items():
        ratio = statistics.median(a / b for a, b in zip(seconds, found["plain step"], strict=True))
        print(f"| {name} | {statistics.median(seconds):.3f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
