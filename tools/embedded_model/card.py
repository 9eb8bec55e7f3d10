"""In: a trained model and what was measured. Out: the model folder's card, README.md, and its table as text.

Every number of the card is handed in or counted here; the prose says only what the code fixes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.embedded_model.build import IMAGE_TOKENS
from vlmsift.demo.digits import SPLIT_SIZES

CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---

# The embedded model of vlmsift

A `LlavaForConditionalGeneration` of {parameters:,} parameters that answers questions about four cells of handwritten
digits. It is small enough to be shipped, and real enough to try data selection on: it can see, it can read, and it
errs. It is good for nothing else.

* **Shape**: {vision} CLIP layers, {tokens} image tokens, {text} Llama layers with {heads} query and {shared} key/value
  heads, {dtype}, {size:.1f} MB in all.
* **Data**: scenes composed from the 1,797 digits in scikit-learn's `load_digits` (the test set of "Optical Recognition
  of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI, CC BY 4.0). {train} digit images are for training, {pool} for
  demo pools, {test} for testing; none is in two of them. They are split by image: the same hand may have written digits
  on both sides.
* **Training**: seed {seed}: {vision_stage}, then {text_steps:,} steps for
  projector and text model from scratch. Made by `python -m tools.embedded_model.train_model{options}`.

Measured by the training script, on {samples:,} questions about scenes of held-out digits. An answer counts where greedy
decoding gives it exactly, to its end token; a description counts where the whole sentence is right.

{table}
"""


def write_card(
    folder: Path,
    model: Any,
    accuracy: Mapping[str, float],
    samples: int,
    plan: Any,
    seed: int,
    threads: int,
    seconds: Mapping[str, float],
    vision_from: Path | None = None,
    size: str = "full",
) -> str:
    """Write README.md into a model's folder.

    Args:
        folder: where model and processor were saved.
        model: the trained model.
        accuracy: task -> share of right answers.
        samples: number of test samples behind `accuracy`.
        plan: the training plan, for its counts of steps.
        seed: the training's seed.
        threads: CPU threads that trained.
        seconds: "wall" and "cpu" seconds of the training.
        vision_from: the model whose vision tower was taken over, if one was.
        size: a name in `build.SIZES`.

    Returns:
        The card's table in Markdown.
    """
    parameters = sum(weight.numel() for weight in model.parameters())
    megabytes = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    rows = [("task", "accuracy"), ("---", "---"), *((task, f"{share:.3f}") for task, share in accuracy.items())]
    rows += [
        ("**mean of tasks**", f"**{sum(accuracy.values()) / len(accuracy):.3f}**"),
        ("parameters", f"{parameters:,}"),
        ("size of the folder", f"{megabytes:.2f} MB"),
        ("training", f"{seconds['wall']:.0f} s ({seconds['cpu']:.0f} s of CPU time, {threads} threads)"),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    text = model.config.text_config
    vision_stage = (
        f"{plan.vision_steps} steps for the vision tower (place and digit at each patch, by a throw-away head)"
    )
    options = "" if size == "full" else f" --size {size} --learning-rate {plan.learning_rate:g}"
    if vision_from is None:
        options += f" --vision-steps {plan.vision_steps}"
    options += " --half" if str(model.dtype) == "torch.float16" else ""
    options += f" --look-up-steps {plan.look_up_steps} --steps {plan.steps} --threads {threads}"
    if vision_from is not None:
        vision_stage = f"the vision tower of `{vision_from.name}`"
        options += f" --vision-from {vision_from.as_posix()}"
    card = CARD.format(
        vision_stage=vision_stage,
        options=options,
        parameters=parameters,
        vision=model.config.vision_config.num_hidden_layers,
        tokens=IMAGE_TOKENS,
        text=text.num_hidden_layers,
        heads=text.num_attention_heads,
        shared=text.num_key_value_heads,
        size=megabytes,
        dtype=str(model.dtype).removeprefix("torch."),
        seed=seed,
        plan=plan,
        text_steps=plan.look_up_steps + plan.steps,
        samples=samples,
        table=table,
        **SPLIT_SIZES,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    return table
