"""In: a model, its processor and samples. Out: one model call per batch with its labels, and the accuracy per task.

For training and testing the embedded model, whose samples have one image and one question; scoring has no part in it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from vlmsift.types import IMAGE_MARK, ImageRef, Sample

if TYPE_CHECKING:
    from torch import Tensor

IGNORE = -100
"""The label of a position that is not supervised."""


def encode(processor: Any, samples: Sequence[Sample], images: Path | None = None) -> tuple[dict[str, Tensor], Tensor]:
    """Samples of one image and one question as inputs and labels.

    Args:
        processor: the embedded model's processor.
        samples: B samples; the last turn is the answer.
        images: folder of relative image paths; not needed where images are bytes.

    Returns:
        What `model(**inputs)` takes, padded on the right, and labels (B, T): the ids of the answer and of its end
        token, -100 elsewhere.
    """
    texts = [_text(processor, sample) for sample in samples]
    pictures = [_open(sample.images[0], images) for sample in samples]
    inputs = processor(images=pictures, text=texts, padding=True, padding_side="right", return_tensors="pt")
    supervised = [len(ids) + 1 for ids in processor.tokenizer([sample.answer for sample in samples])["input_ids"]]
    place = torch.arange(inputs["input_ids"].shape[1])[None]
    end = inputs["attention_mask"].sum(1, keepdim=True)
    answer = (place < end) & (place >= end - torch.tensor(supervised)[:, None])
    return dict(inputs), inputs["input_ids"].masked_fill(~answer, IGNORE)


@torch.no_grad()
def evaluate(
    model: Any, processor: Any, samples: Sequence[Sample], images: Path | None = None, batch_size: int = 128
) -> dict[str, float]:
    """Share of samples that greedy decoding answers exactly right, to the last token of the answer and its end.

    Greedy decoding gives the right answer where each of its tokens is the most likely one after the right tokens before
    it, and only there; so one forward per batch is enough.

    Returns:
        Task (`Sample.source`) -> accuracy in 0..1, in the order of the tasks' names.
    """
    was_training = model.training
    model.eval()
    right: dict[str, list[bool]] = {}
    # Answers of like length stand together, for less padding.
    for batch in _batches(sorted(samples, key=lambda sample: len(sample.answer)), batch_size):
        inputs, labels = encode(processor, batch, images)
        inputs = {name: value.to(model.device) for name, value in inputs.items()}
        # (B, T - 1): what follows each position, guessed and true.
        guess, truth = model(**inputs).logits[:, :-1].argmax(-1).cpu(), labels[:, 1:]
        for sample, exact in zip(batch, ((guess == truth) | (truth == IGNORE)).all(1).tolist(), strict=True):
            right.setdefault(str(sample.source), []).append(exact)
    model.train(was_training)
    return {task: sum(right[task]) / len(right[task]) for task in sorted(right)}


def messages(question: str, answer: str) -> list[dict[str, Any]]:
    """A question about an image, and its answer, as the chat template takes them."""
    return [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]},
        {"role": "assistant", "content": [{"type": "text", "text": answer}]},
    ]


def _text(processor: Any, sample: Sample) -> str:
    question = sample.turns[0].text.replace(IMAGE_MARK, "").strip()
    text: str = processor.apply_chat_template(messages(question, sample.answer), tokenize=False)
    return text


def _open(image: ImageRef, images: Path | None) -> Image.Image:
    return Image.open(io.BytesIO(image) if isinstance(image, bytes) else Path(images or ".") / image)


def _batches(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    return (samples[start : start + size] for start in range(0, len(samples), size))
