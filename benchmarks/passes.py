"""Delta-AttnMask against the plain loss and against the naive way, on a decoder of a given shape with random weights.

    python benchmarks/passes.py                     # SmolVLM-256M shape, T = 1000, bf16 and fp32
    python benchmarks/passes.py --shape embedded    # the embedded model, vision included, on its own pool's samples
    python benchmarks/passes.py --memory            # peak memory of each way as T grows, each in a process of its own

Of a shape, only the text decoder runs. Vision costs the same for every way but the naive one, which pays it twice:
leaving it out favours the naive way, and makes the ratio to the plain loss as large as it can be. The ways take turns,
round after round; the table gives medians, and the median of the per-round ratios.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vlmsift.models import Adapter, open_model
from vlmsift.models.quirks import PLAIN
from vlmsift.passes.capture import Capture
from vlmsift.passes.interventions import MaskedLoss
from vlmsift.passes.loss import Head
from vlmsift.passes.masking import Masking
from vlmsift.passes.measure import measure
from vlmsift.specs import ModelSpec
from vlmsift.types import Batch

SHAPES = {  # text decoders: hidden, layers, heads, key-value heads, mlp, vocabulary
    "smolvlm-256m": (576, 30, 9, 3, 1536, 49280),
    "llava-1.5-7b": (4096, 32, 32, 32, 11008, 32064),
    "qwen2.5-vl-3b": (2048, 36, 16, 2, 11008, 151936),
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
IMAGE_SHARE, ANSWER = 0.75, 100


def build(shape: str, dtype: torch.dtype, device: str) -> Adapter:
    """A Llama decoder of that shape as an adapter, without vision tower and processor; or the embedded model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    if shape == "embedded":
        from vlmsift.demo import MODEL_PATH

        precision: Any = str(dtype).removeprefix("torch.")
        return open_model(ModelSpec(MODEL_PATH, device=device, dtype=precision))

    hidden, layers, heads, groups, wide, vocabulary = SHAPES[shape]
    config = LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        intermediate_size=wide,
        vocab_size=vocabulary,
        max_position_embeddings=8192,
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    with torch.device(device):
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            model = LlamaForCausalLM(config).eval().requires_grad_(False)
        finally:
            torch.set_default_dtype(before)
    text = model.model
    return Adapter(model, None, text, text.layers, text.norm, 0, 8192, PLAIN, shape)


def make_batch(adapter: Adapter, count: int, length: int) -> Batch:
    """`count` samples of `length` tokens: three quarters pretend to be image, the last 100 are the answer."""
    if adapter.processor is not None:
        return embedded_batch(adapter, count)
    ids = torch.randint(1, 1000, (count, length), generator=torch.Generator().manual_seed(length))
    place = torch.arange(length).expand(count, -1)
    image = (place >= 10) & (place < 10 + int(IMAGE_SHARE * length))
    answer = place >= length - ANSWER
    query = torch.zeros_like(answer)
    query[:, :-1] = answer[:, 1:]
    return Batch(
        ids=tuple(map(str, range(count))),
        inputs={"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        labels=ids.where(answer, -100),
        image_mask=image,
        image_index=torch.where(image, 0, -1),
        special_mask=place == 0,
        valid=torch.ones_like(image),
        query_mask=query,
    )


def embedded_batch(adapter: Adapter, count: int) -> Batch:
    """Samples made from digits that the embedded model was not trained on; about 40 tokens each."""
    from io import BytesIO

    from PIL import Image

    from vlmsift.demo.questions import draw_samples

    encoder = adapter.encoder(lambda ref: Image.open(BytesIO(ref if isinstance(ref, bytes) else b"")))
    return encoder.collate([encoder.encode(sample) for sample in draw_samples("pool", count)])


def plain(adapter: Adapter, batch: Batch) -> Tensor:
    """The loss alone, over the same batch, with the same code."""
    with Capture(adapter) as capture:
        loss: Tensor = measure(capture, batch, [])[Head()]
    return loss


def delta(masking: Masking) -> Callable[[Adapter, Batch], Tensor]:
    """Delta-AttnMask with these settings."""

    def run(adapter: Adapter, batch: Batch) -> Tensor:
        with Capture(adapter) as capture:
            found = measure(capture, batch, [MaskedLoss(masking)])
        change: Tensor = found[MaskedLoss(masking)] - found[Head()]
        return change

    return run


def naive(adapter: Adapter, batch: Batch) -> Tensor:
    """The straightforward way: batch 1, eager attention kept whole, all logits, two full forwards."""
    model: Any = adapter.model
    model.set_attn_implementation("eager")
    changes = []
    try:
        for row in range(len(batch)):
            length = int(batch.valid[row].sum())
            own = {name: value[row : row + 1].to(adapter.device) for name, value in batch.inputs.items()}
            own = {name: value[:, :length] if value.ndim == 2 else value.to(model.dtype) for name, value in own.items()}
            labels = batch.labels[row : row + 1, :length].to(adapter.device)
            with torch.no_grad():
                first = model(**own, labels=labels, output_attentions=True, use_cache=False)
                received = torch.stack([layer[0].float().mean(0).sum(0) for layer in first.attentions]).mean(0)
                image = batch.image_mask[row, :length].to(adapter.device)
                chosen = received.masked_fill(~image, -1).topk(int(image.sum()) // 2).indices

                def hook(module: Any, args: tuple[Any, ...], where: Tensor = chosen) -> tuple[Any, ...]:
                    states = args[0].clone()
                    states[:, where] = 0
                    return (states, *args[1:])

                handle = adapter.layers[adapter.depth // 2].register_forward_pre_hook(hook)
                try:
                    second = model(**own, labels=labels, output_attentions=True, use_cache=False)
                finally:
                    handle.remove()
            changes.append(second.loss - first.loss)
    finally:
        model.set_attn_implementation("sdpa")
    return torch.stack(changes)


HALF = Masking(depth=0.5)
WAYS: dict[str, Callable[[Adapter, Batch], Tensor]] = {
    "plain loss": plain,
    "delta, default (quarter depth, answer rows)": delta(Masking()),
    "delta, half depth, answer rows": delta(HALF),
    "delta, half depth, all rows": delta(replace(HALF, rows="all")),
    "naive": naive,
}


def times(adapter: Adapter, batch: Batch, rounds: int) -> dict[str, list[float]]:
    """Seconds per way and round; the ways take turns, after one round that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(rounds + 1):
        for name, way in WAYS.items():
            _wait(adapter)
            started = time.perf_counter()
            way(adapter, batch)
            _wait(adapter)
            if number:
                found[name].append(time.perf_counter() - started)
    return found


def _wait(adapter: Adapter) -> None:
    if adapter.device.type == "cuda":
        torch.cuda.synchronize()


def speed_table(shape: str, dtypes: list[str], length: int, count: int, rounds: int, device: str) -> None:
    """Print seconds per batch, samples/s and ratios for each precision."""
    what = "" if shape == "embedded" else f", {SHAPES[shape][1]} layers, T = {length}, {ANSWER} answer tokens"
    print(f"{shape}{what}, {count} samples, {rounds} rounds, {torch.get_num_threads()} threads, {device}")
    print("| precision | way | s per batch | samples/s | time / plain | speed / naive |")
    print("|---|---|---|---|---|---|")
    for name in dtypes:
        adapter = build(shape, DTYPES[name], device)
        found = times(adapter, make_batch(adapter, count, length), rounds)
        for way, seconds in found.items():
            to_plain = statistics.median(a / b for a, b in zip(seconds, found["plain loss"], strict=True))
            to_naive = statistics.median(b / a for a, b in zip(seconds, found["naive"], strict=True))
            middle = statistics.median(seconds)
            print(
                f"| {name} | {way} | {middle:.2f} | {count / middle:.2f} | {to_plain:.2f} | {to_naive:.2f} |",
                flush=True,
            )
        del adapter


def memory_table(shape: str, lengths: list[int], device: str, starts: int) -> None:
    """Print the peak memory of one forward of each way, beyond that of the plain loss, as T grows."""
    print(f"{shape}, fp32, one sample; MiB of peak memory beyond the plain loss")
    print("| way | " + " | ".join(f"T = {length}" for length in lengths) + " |")
    print("|---|" + "---|" * len(lengths))
    peaks = {way: [_peak(shape, way, length, device, starts) for length in lengths] for way in WAYS}
    for way, values in peaks.items():
        more = [value - base for value, base in zip(values, peaks["plain loss"], strict=True)]
        print(f"| {way} | " + " | ".join(f"{value:.0f}" for value in more) + " |")
    print("| (plain loss, whole process) | " + " | ".join(f"{value:.0f}" for value in peaks["plain loss"]) + " |")


def _peak(shape: str, way: str, length: int, device: str, starts: int) -> float:
    """MiB: the smallest of several processes' peaks, since allocators differ from start to start."""
    command = [sys.executable, __file__, "--shape", shape, "--one", way, "--length", str(length), "--device", device]
    return min(float(json.loads(subprocess.check_output(command))) for _ in range(starts))


def one(shape: str, way: str, length: int, device: str) -> None:
    """Run one way once and print this process's peak memory in MiB."""
    adapter = build(shape, torch.float32, device)
    WAYS[way](adapter, make_batch(adapter, 1, length))
    if device == "cuda":
        print(torch.cuda.max_memory_allocated() / 2**20)
    else:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=[*SHAPES, "embedded"], default="smolvlm-256m")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--length", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--starts", type=int, default=3, help="processes per peak of --memory")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--layers", type=int, help="cut the shape to so many layers")
    options = parser.parse_args()
    if options.layers and options.shape in SHAPES:
        hidden, _, *rest = SHAPES[options.shape]
        SHAPES[options.shape] = (hidden, options.layers, *rest)
    if options.one:
        one(options.shape, options.one, options.length, options.device)
    elif options.memory:
        memory_table(options.shape, [500, 1000, 2000], options.device, options.starts)
    else:
        speed_table(options.shape, options.dtypes, options.length, options.samples, options.rounds, options.device)


if __name__ == "__main__":
    main()
