"""What the tests of models, passes and signals share.

In: a toy's folder, or a few words. Out: opened adapters, samples with pictures of noise, and batches written by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers.utils import logging

from vlmsift.models import Adapter, open_model
from vlmsift.specs import ModelSpec
from vlmsift.types import IMAGE_MARK, Batch, Sample, Turn

logging.disable_progress_bar()

END = {
    "llava": "</s>",
    "llava_next": "</s>",
    "llava_onevision": "<|im_end|>",
    "qwen2_vl": "<|im_end|>",
    "qwen2_5_vl": "<|im_end|>",
    "qwen3_vl": "<|im_end|>",
    "internvl": "<|im_end|>",
    "smolvlm": "<end_of_utterance>",
    "idefics3": "<end_of_utterance>",
    "gemma3": "<end_of_turn>",
    "paligemma": "<eos>",
    "mistral3": "</s>",
    "aya_vision": "<|END_RESPONSE|>",
    "cohere2_vision": "<|END_RESPONSE|>",
    "glm4v": "<|endoftext|>",
    "deepseek_vl": "<|end_of_sentence|>",
    "janus": "<|end_of_sentence|>",
    "aria": "<|im_end|>",
    "vipllava": "",
    "qwen3_vl_moe": "<|im_end|>",
    "gemma4": "<turn|>",
    "ovis2": "<|im_end|>",
    "llama4": "<|eot|>",
    "idefics2": "<end_of_utterance>",
    "got_ocr2": "<|im_end|>",
    "emu3": "<|extra_204|>",
    "granite4_vision": "<|end_of_text|>",
}
"""family -> what ends an assistant's turn."""


@cache
def opened(folder: Path) -> Adapter:
    """The toy of that folder in float32, opened once per worker. A test that changes it opens its own."""
    return open_model(ModelSpec(folder, device="cpu", dtype="float32"))


def picture(ref: object) -> Image.Image:
    """ "60x40#7" -> noise of that width, height and seed."""
    size, _, seed = str(ref).partition("#")
    width, height = map(int, size.split("x"))
    return Image.fromarray(np.random.default_rng(int(seed)).integers(0, 256, (height, width, 3), dtype=np.uint8))


def sample(name: str, *texts: str, images: Sequence[str] = (), system: str = "") -> Sample:
    """A conversation: user, assistant, user, ... in turn, after a system turn if there is one."""
    turns = [Turn("assistant" if number % 2 else "user", text) for number, text in enumerate(texts)]
    first = [Turn("system", system)] if system else []
    return Sample(name, 0, (*first, *turns), tuple(images), None, {})


def ask(name: str, question: str, answer: str, *images: str) -> Sample:
    """One question, its images first, and one answer: what every family takes."""
    return sample(name, IMAGE_MARK * len(images) + "\n" + question, answer, images=images)


def varied(family: str) -> list[Sample]:
    """Eight samples of different length: wide, tall and square images, several of them, several turns, text alone."""
    samples = [
        ask(f"one-{number}", "what is it? " + "so " * number, f"a thing, {number} of 5", f"{width}x{height}#{number}")
        for number, (width, height) in enumerate([(60, 60), (90, 50), (40, 100), (33, 35), (120, 64)])
    ]
    if family == "paligemma":
        return samples + [
            ask(f"more-{count}", "how many?", "one" * count, *[f"50x50#{n}" for n in range(count)])
            for count in (2, 1, 2)
        ]
    words = sample("words", "hello", "good day to you")
    if family == "got_ocr2":  # takes no text alone
        words = ask("words", "hello", "good day to you", "70x70#7")
    return [
        *samples,
        sample("turns", "<image>\nwhat?", "a dog", "and <image> here?", "no, two", images=("60x60#8", "110x50#9")),
        words,
        sample("told", "again", "yes", "why, with <image>?", "so it is", images=("50x120#3",), system="be short"),
    ]


def batch_of(adapter: Adapter, samples: Sequence[Sample], side: str = "right") -> Batch:
    """The samples encoded and padded."""
    encoder = adapter.encoder(picture)
    return encoder.collate([encoder.encode(one) for one in samples], side)


def hand_batch(*rows: str, ids: Sequence[str] = ()) -> Batch:
    """A batch from one letter per position: "." padding, "s" special, "i" image, "p" prompt, "a" answer.

    Token ids are the letters' codes. All rows have the same length.
    """
    letters = np.array([list(row) for row in rows])
    input_ids = torch.from_numpy(letters.view(np.uint32).reshape(letters.shape).astype(np.int64))

    def at(letter: str) -> torch.Tensor:
        return torch.from_numpy(letters == letter)

    labels = torch.where(at("a"), input_ids, -100)
    query_mask = torch.zeros_like(at("a"))
    query_mask[:, :-1] = at("a")[:, 1:]
    return Batch(
        ids=tuple(ids) or tuple(f"row-{number}" for number in range(len(rows))),
        inputs={"input_ids": input_ids},
        labels=labels,
        image_mask=at("i"),
        image_index=torch.where(at("i"), 0, -1),
        special_mask=at("s"),
        valid=~at("."),
        query_mask=query_mask & ~at("."),
    )
