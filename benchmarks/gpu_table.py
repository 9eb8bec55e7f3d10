"""One unattended run on a GPU: scoring speed beside its predictions, every family's parity, training and snapshots.

    python -m benchmarks.gpu_table                        # needs one GPU with 40 GiB or more
    python -m benchmarks.gpu_table --device cpu --tiny    # the whole script on tiny shapes; its speeds mean nothing

LLaVA-1.5-7B and Qwen2.5-VL-3B are built from their configurations with random weights in bfloat16, vision included.
Use is the FLOPs below times samples/s, over 790 TFLOP/s (bf16 products on an H200). Predicted rates were computed
beforehand: the first is what the arithmetic alone allows at that rate, the second what was expected of this code.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import tests.conftest  # noqa: F401  before transformers: makes torchvision importable on a CPU

from passes import HALF, delta
from vlmsift.check import check_adapter
from vlmsift.models import Adapter, open_model
from vlmsift.models.adapter import look_inside
from vlmsift.passes.capture import Capture
from vlmsift.passes.loss import Head
from vlmsift.passes.masking import Masking
from vlmsift.passes.measure import measure
from vlmsift.signals import DEFAULT_SIGNALS, SIGNALS, build_signals
from vlmsift.specs import ModelSpec
from vlmsift.types import Batch

PEAK = 790.0  # TFLOP/s
TINY = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4}
TINY |= {"num_key_value_heads": 2, "vocab_size": 512}


@dataclass(frozen=True)
class Shape:
    """A model, one sample of it, and the TFLOPs that the sample takes."""

    name: str
    build: Callable[[bool], Any]  # tiny or not -> configuration
    length: int  # tokens of a sample; of them so many show the image, and so many are the answer
    image: int
    answer: int
    vision: float
    text: float  # the decoder's linear layers
    attention: float  # causal; whole, as eager computes it, is twice that
    received: float  # column sums of attention: all rows
    head: float  # at supervised positions
    whole_head: float  # at all
    predicted: dict[str, str]


def llava(tiny: bool) -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    text = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    vision |= {"image_size": 336, "patch_size": 14}
    if tiny:
        text, vision = TINY, {**vision, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    return LlavaConfig(
        text_config=LlamaConfig(**{"vocab_size": 32064, **text}, max_position_embeddings=4096),
        vision_config=CLIPVisionConfig(**vision),
        image_token_index=500,
    )


def qwen(tiny: bool) -> Any:
    from transformers import Qwen2_5_VLConfig

    text: dict[str, Any] = {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
    }
    text |= {"num_key_value_heads": 2, "vocab_size": 151936, "max_position_embeddings": 32768}
    vision: dict[str, Any] = {
        "hidden_size": 1280,
        "out_hidden_size": 2048,
        "num_heads": 16,
        "intermediate_size": 3420,
        "depth": 32,
    }
    if tiny:
        text = {**text, **TINY}
        vision = {"hidden_size": 64, "out_hidden_size": 64, "num_heads": 4, "intermediate_size": 96, "depth": 4}
        vision["fullatt_block_indexes"] = [3]
    head = text["hidden_size"] // text["num_attention_heads"]
    text["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": 1e6,
        "mrope_section": [head // 8, head // 16 * 3, head // 16 * 3],
    }
    tokens = {"image_token_id": 500, "video_token_id": 501, "vision_start_token_id": 502, "vision_end_token_id": 503}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, **tokens)


SHAPES = (
    Shape(
        *("llava-1.5-7b", llava, 826, 576, 100, 0.41, 10.70, 0.179, 0.089, 0.026, 0.217),
        {
            "plain loss": "69.9 / 42",
            "delta, half depth, answer rows": "46.8 / -",
            "delta, from the first layer, all rows": "35.4 / 25",
            "naive": "33.8 / 10-14",
        },
    ),
    Shape(
        *("qwen2.5-vl-3b", qwen, 1000, 750, 100, 4.06, 5.55, 0.147, 0.074, 0.062, 0.622),
        {
            "plain loss": "80.5 / 40",
            "delta, half depth, answer rows": "61.7 / -",
            "delta, from the first layer, all rows": "50.5 / 29",
            "naive": "37.5 / 6-10",
        },
    ),
)


def build(shape: Shape, device: str, tiny: bool) -> Adapter:
    """The model with random weights in bfloat16, made on the device."""
    from transformers import AutoModelForImageTextToText

    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(shape.build(tiny), dtype=torch.bfloat16)
    return look_inside(model.eval().requires_grad_(False), name=shape.name)


def make_batch(shape: Shape, count: int) -> Batch:
    """Samples of a special token, an image of noise, a question and an answer."""
    place = torch.arange(shape.length).expand(count, -1)
    image = (place >= 10) & (place < 10 + shape.image)
    answer = place >= shape.length - shape.answer
    query = torch.zeros_like(answer)
    query[:, :-1] = answer[:, 1:]
    seed = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 400, place.shape, generator=seed).masked_fill(image, 500)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if shape.name.startswith("llava"):
        inputs["pixel_values"] = torch.randn(count, 3, 336, 336, generator=seed)
    else:  # 4 patches a token, 30 tokens a line
        grid = torch.tensor([[1, 2 * shape.image // 30, 60]])
        inputs["pixel_values"] = torch.randn(count * 4 * shape.image, 1176, generator=seed)
        inputs |= {"image_grid_thw": grid.expand(count, -1), "mm_token_type_ids": image.int()}
    return Batch(
        ids=tuple(map(str, range(count))),
        inputs=inputs,
        labels=ids.where(answer, -100),
        image_mask=image,
        image_index=torch.where(image, 0, -1),
        special_mask=place == 0,
        valid=torch.ones_like(image),
        query_mask=query,
    )


def naive(adapter: Adapter, batch: Batch) -> None:
    """The straightforward way for one sample: eager attention kept whole, all logits, two forwards with the image."""
    inputs, labels = adapter.inputs(batch), batch.labels.to(adapter.device)
    adapter.model.set_attn_implementation("eager")
    asked = {"labels": labels, "output_attentions": True, "use_cache": False}
    try:
        with torch.no_grad():
            first = adapter.model(**inputs, **asked)
            received = torch.stack([layer.float().mean(1).sum(1) for layer in first.attentions]).mean(0)  # (1, T)
            image = batch.image_mask.to(received.device)
            chosen = received.masked_fill(~image, -1).topk(int(image.sum()) // 2).indices[0]

            def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                states = (args[0] if args else kwargs["hidden_states"]).clone()
                states[:, chosen] = 0
                return ((states, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": states})

            handle = adapter.layers[0].register_forward_pre_hook(hook, with_kwargs=True)
            try:
                float(adapter.model(**inputs, **asked).loss - first.loss)
            finally:
                handle.remove()
    finally:
        adapter.model.set_attn_implementation("sdpa")


def signals(words: list[str]) -> tuple[Callable[[Adapter, Batch], Any], list[Any]]:
    """A way that measures them, and their needs."""
    needs = list(dict.fromkeys(need for signal in build_signals(words).values() for need in signal.needs))

    def run(adapter: Adapter, batch: Batch) -> dict[Any, Tensor]:
        with Capture(adapter) as capture:
            return measure(capture, batch, needs)

    return run, needs


def ways() -> dict[str, tuple[Callable[[Adapter, Batch], Any], list[Any]]]:
    """Name -> what it does with a batch, and the needs that its FLOPs are counted from."""
    from vlmsift.passes.interventions import MaskedLoss

    first = Masking(depth=0, rows="all")
    every = [f"{name}:heads=0.1" if name == "attention_influence" else name for name in SIGNALS]
    return {
        "plain loss": signals(["answer_loss"]),
        "default signals": signals(list(DEFAULT_SIGNALS)),
        "delta, half depth, answer rows": (delta(HALF), [MaskedLoss(HALF)]),
        "delta, half depth, all rows": (delta(replace(HALF, rows="all")), [MaskedLoss(replace(HALF, rows="all"))]),
        "delta, from the first layer, all rows": (delta(first), [MaskedLoss(first)]),
        "image spectrum (XMAS)": signals(["image_spectrum"]),
        "all signals": signals(every),
    }


def speeds(shape: Shape, options: argparse.Namespace) -> None:
    """Print a line for each way: samples/s beside the prediction, use of the arithmetic units, memory."""
    adapter, cuda = build(shape, options.device, options.tiny), options.device != "cpu"
    batch, one = make_batch(shape, options.samples), make_batch(shape, 1)
    print(f"\n{shape.name}, {shape.length} tokens, batches of {len(batch)}, bfloat16, {options.rounds} rounds")
    print("| way | samples/s | predicted: ceiling / expected | use of 790 TFLOP/s | MiB beyond the weights |")
    print("|---|---|---|---|---|")
    for name, (way, needs) in {**ways(), "naive": (naive, [])}.items():
        given = one if name == "naive" else batch
        again = sum(need.cost(adapter.depth) for need in needs)
        flops = shape.vision + (1 + again) * (shape.text + shape.attention + shape.head)
        flops += shape.received * ("all rows" in name)
        if name == "naive":
            flops = 2 * (shape.vision + shape.text + 2 * shape.attention + shape.whole_head)
        try:
            seconds, memory = timed(partial(way, adapter, given), options.rounds, cuda)
        except Exception as error:  # out of memory, say: the other lines are wanted all the same
            print(f"| {name} | failed: {type(error).__name__}: {str(error).splitlines()[0][:80]} | | | |", flush=True)
            continue
        rate = len(given) / seconds
        use = "-" if options.tiny else f"{flops * rate / PEAK:.0%}"
        print(f"| {name} | {rate:.2f} | {shape.predicted.get(name, '-')} | {use} | {memory} |", flush=True)


def timed(work: Callable[[], Any], rounds: int, cuda: bool) -> tuple[float, str]:
    """Median seconds after a round that is not counted, and the peak of memory beyond what was held before."""
    work()
    held, seconds = 0, []
    if cuda:
        torch.cuda.synchronize()
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    memory = f"{(torch.cuda.max_memory_allocated() - held) / 2**20:.0f}" if cuda else "-"
    return statistics.median(seconds), memory


def parity(folder: Path, families: list[str], device: str) -> None:
    """Print, for every family and precision, the proofs of `check` there and how far the losses lie from the CPU's."""
    from tests.models.helpers import batch_of, varied
    from tests.toys import make_toy

    print(f"\nEvery family on {device}: proofs of `check`, and the losses of eight samples against float32 on the CPU")
    print("| family | precision | proofs | largest difference, nats |\n|---|---|---|---|")
    for family in families:
        losses: dict[str, Tensor] = {}
        for where, dtype in (("cpu", "float32"), (device, "float32"), (device, "bfloat16")):
            precision: Any = dtype
            try:
                path = folder / family if (folder / family).exists() else make_toy(family, folder / family)
                adapter = open_model(ModelSpec(path, device=where, dtype=precision))
                with Capture(adapter) as capture:
                    batch = batch_of(adapter, varied(adapter.model.config.model_type))
                    found = measure(capture, batch, [])[Head()]
                if not losses:
                    losses["reference"] = found
                    continue
                report = check_adapter(adapter)
                said = "all passed" if report.supported else report.reasons
                apart = f"{float((found - losses['reference']).abs().max()):.1e}"
            except Exception as error:  # a family that fails is a line, not the end
                said, apart = f"failed: {type(error).__name__}: {str(error).splitlines()[0][:80]}", "-"
            print(f"| {family} | {dtype} | {said} | {apart} |", flush=True)


def training(folder: Path, device: str, rows: int) -> None:
    """Train the demo's model under bfloat16 with two snapshots, and score with each."""
    from vlmsift.demo import START_PATH
    from vlmsift.demo.pool import make_pool
    from vlmsift.scoring.score import score
    from vlmsift.specs import EngineSpec
    from vlmsift.train import train

    where: Any = "cpu" if device == "cpu" else "cuda"
    pool, engine = make_pool(folder / "digits", rows, 0), EngineSpec(workers=0)
    start = ModelSpec(START_PATH, device=where, dtype="bfloat16")
    changes = {"batch_size": rows // 8, "learning_rate": 1e-3}
    trained = train(pool, start, folder / "trained", changes=changes, snapshots=2)
    print(f"\nTraining under bfloat16 on {device}: {rows} samples, {len(trained.snapshots)} snapshots")
    print("| model | mean answer loss of its pool, nats |\n|---|---|")
    for name, path in {"before": START_PATH, **{path.name: path for path in trained.snapshots}}.items():
        run = score(pool, ModelSpec(path, device=where), folder / name, signals=["answer_loss"], engine=engine)
        print(f"| {name} | {run.table()['answer_loss'].to_numpy().mean():.4f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, two families, few rounds")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    from tests.toys import FAMILIES

    shapes, families, rows = SHAPES, list(FAMILIES), 512
    if options.tiny:
        options.samples, options.rounds, families, rows = 1, 1, ["llava", "qwen2_5_vl"], 64
        shapes = (SHAPES[0], replace(SHAPES[1], length=200, image=60, answer=20))
    where = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(f"{where}, torch {torch.__version__}")
    stages: list[Callable[[], None]] = [partial(speeds, shape, options) for shape in shapes]
    with tempfile.TemporaryDirectory() as name:
        stages += [lambda: parity(Path(name) / "toys", families, options.device)]
        stages += [lambda: training(Path(name), options.device, rows)]
        for stage in stages:
            try:
                stage()
            except Exception:  # the next stage is told all the same
                traceback.print_exc(file=sys.stdout)
            if options.device == "cuda":
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
