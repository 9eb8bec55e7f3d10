"""Samples -> batches. One sample is encoded by the model's own processor; encoded samples are then collated.

In: `Sample`. Out: `Encoded` (one sample, no batch dimension) and `Batch`. Runs in worker processes, so it holds the
processor and a few numbers, never the model. Image positions and supervised positions come from the processor's own
account of what it replaced, never from constants.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vlmsift.errors import SampleError
from vlmsift.models.conversation import render
from vlmsift.models.quirks import Quirk
from vlmsift.types import IMAGE_MARK, Batch, ImageRef, Sample

IGNORED = -100
"""Label of a position that is not supervised."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One sample ready for a model. T is its own length; `images` holds the processor's tensors untouched."""

    id: str
    input_ids: Tensor  # (T,)
    labels: Tensor  # (T,), IGNORED where unsupervised
    image_index: Tensor  # (T,), -1 for text
    rows: dict[str, Tensor] = field(default_factory=dict)  # other (T,) or (3, T) inputs, e.g. token_type_ids
    images: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])

    @property
    def nbytes(self) -> int:
        """Of all its tensors."""
        tensors = (self.input_ids, self.labels, self.image_index, *self.rows.values(), *self.images.values())
        return sum(tensor.nbytes for tensor in tensors)


@dataclass
class Encoder:
    """Turns samples into model inputs."""

    processor: Any
    image_token_id: int
    quirk: Quirk
    context: int  # longest sequence the model takes, in tokens
    open_image: Callable[[ImageRef], Any]  # from under the pool's image root

    def __post_init__(self) -> None:
        tokenizer = self.processor.tokenizer
        self.special_ids = torch.tensor(special_ids(tokenizer, self.image_token_id))  # (special tokens,)
        self.image_token = tokenizer.convert_ids_to_tokens(self.image_token_id) or IMAGE_MARK
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (tokenizer.eos_token_id or 0)

    def encode(self, sample: Sample) -> Encoded:
        """One sample as tensors.

        Raises SampleError: broken image, empty answer, an image in an answer, wrong number of marks, or too long.
        """
        self._refuse(sample)
        images = [self.open_image(ref) for ref in sample.images]
        encoded = self._prefix_suffix(sample, images) if self.quirk.prefix_suffix else self._chat(sample, images)
        if len(encoded) > self.context:
            raise SampleError("too long", f"{len(encoded)} tokens, the model's context is {self.context}")
        if not (encoded.labels[1:] != IGNORED).any():
            raise SampleError("empty answer", "no token of it is supervised")
        if (found := int(encoded.image_index.max()) + 1) != len(images):
            raise SampleError("images not located", f"{len(images)} given, {found} found in the text")
        if ((encoded.input_ids == self.image_token_id) & (encoded.image_index < 0)).any():
            raise SampleError("images not located", f"{self.image_token} stands where no image was put")
        return encoded

    def _refuse(self, sample: Sample) -> None:
        """Faults that show before anything is opened. Some processors and templates would let them pass."""
        answers = [turn.text for turn in sample.turns if turn.role == "assistant"]
        if not any(answer.strip() for answer in answers):
            raise SampleError("empty answer", "every assistant turn is empty or missing")
        if any(IMAGE_MARK in answer for answer in answers):  # its tokens would be supervised
            raise SampleError(
                "image in an answer", f"an assistant turn holds {IMAGE_MARK}; only prompts can show images"
            )
        text = " ".join(turn.text for turn in sample.turns)
        if (marks := text.count(IMAGE_MARK)) != len(sample.images):
            raise SampleError(
                "wrong image count", f"{len(sample.images)} images, {marks} {IMAGE_MARK} marks in the text"
            )
        if self.image_token in text.replace(IMAGE_MARK, ""):
            raise SampleError("images not located", f"the text writes the model's image token {self.image_token}")

    def _chat(self, sample: Sample, images: list[Any]) -> Encoded:
        rendered = render(self.processor, sample.turns)
        bos = self.processor.tokenizer.bos_token
        output = self._process(
            images,
            text=[rendered.text],
            return_offsets_mapping=True,
            return_text_replacement_offsets=True,
            add_special_tokens=not (bos and rendered.text.startswith(bos)),
        )
        input_ids = torch.as_tensor(output.pop("input_ids"))[0]  # (T,)
        offsets = torch.as_tensor(output.pop("offset_mapping"))[0]  # (T, 2), characters of the processor's text
        account = list(output.pop("text_replacement_offsets", [[]])[0])  # an empty one may have become a tensor
        replaced, length = (
            self._read_account(rendered.text, offsets, account)
            if account or not images
            else self._find_runs(rendered.text, offsets, input_ids, len(images))
        )
        # a place moves with the nearest thing behind it whose place is known: an image, or the end of the text
        behind = [*replaced, (len(rendered.text), length, length)]
        starts_at, ends_at = offsets.unbind(1)  # (T,) each, in characters
        labels = torch.full_like(input_ids, IGNORED)  # (T,)
        for first, last in rendered.spans:
            start, end = (_move(place, behind) for place in (first, last))
            inside = (starts_at < end) & (ends_at > start)  # (T,) bool: tokens that overlap the answer
            self._prove(rendered.text[first:last], input_ids[inside])
            labels[inside] = input_ids[inside]
        image_index = torch.full_like(input_ids, -1)  # (T,)
        for number, (_, start, end) in enumerate(replaced):
            image_index[(starts_at >= start) & (ends_at <= end) & (input_ids == self.image_token_id)] = number
        return self._sorted(sample, input_ids, labels, image_index, output)

    def _read_account(self, text: str, offsets: Tensor, account: list[Any]) -> tuple[list[tuple[int, int, int]], int]:
        """The images by the processor's own account: (place in our text, start and end in its text); its length.

        What it types in front of our text (a bos token, a system prompt) moves everything.
        """
        grown = sum(part["new_span"][1] - part["new_span"][0] - part["span"][1] + part["span"][0] for part in account)
        typed = max(0, int(offsets.max()) - len(text) - grown)  # characters in front of our text
        parts = [(part["span"][0] - typed, *part["new_span"]) for part in account if part["type"] == "image"]
        return parts, typed + len(text) + grown

    def _find_runs(
        self, text: str, offsets: Tensor, input_ids: Tensor, count: int
    ) -> tuple[list[tuple[int, int, int]], int]:
        """The same for a processor that keeps no account: an image is a row of as many runs of image tokens as others.

        What it types before an image is as long as before the first one.
        """
        at_image = input_ids == self.image_token_id  # (T,)
        starts = offsets[at_image & ~at_image.roll(1), 0].tolist()  # one per run; the last token is never an image's
        ends = offsets[at_image & ~at_image.roll(-1), 1].tolist()
        places = [mark.start() for mark in re.finditer(re.escape(self.processor.image_token), text)]
        share, rest = divmod(len(starts), count)
        if rest or not share or len(places) != count:
            raise SampleError(
                "wrong image count",
                f"{count} given, {len(places)} in the text, {len(starts)} runs of {self.image_token}",
            )
        opening = starts[0] - places[0]
        images = zip(places, [start - opening for start in starts[::share]], ends[share - 1 :: share], strict=True)
        return list(images), int(offsets.max())

    def _prove(self, answer: str, token_ids: Tensor) -> None:
        """Raise SampleError unless these supervised tokens read as the answer with its end token.

        A token that also holds a bit of the text beside the answer may stand at either end.
        """
        tokenizer = self.processor.tokenizer
        decoded = tokenizer.decode(token_ids, clean_up_tokenization_spaces=False)
        if answer in decoded:
            return
        normalizer = tokenizer.backend_tokenizer.normalizer
        shown = _bare(normalizer.normalize_str(answer) if normalizer else answer)
        known = [re.escape(_bare(piece)) for piece in decoded.split(tokenizer.unk_token or "\0")]
        if shown not in _bare(decoded) and not (len(known) > 1 and re.fullmatch(".+".join(known), shown)):
            raise SampleError(
                "answer not located", f"the supervised tokens read {decoded[:60]!r}, the answer {answer[:60]!r}"
            )

    def _prefix_suffix(self, sample: Sample, images: list[Any]) -> Encoded:
        """One question and one answer; supervised is what the processor types as suffix.

        Images come first, wherever they stood, and a system turn is left out: the model was trained on neither.
        """
        roles = [turn.role for turn in sample.turns if turn.role != "system"]
        if roles != ["user", "assistant"] or not images:
            raise SampleError("not for this model", "it takes one image prompt and one answer")
        question = next(turn.text for turn in sample.turns if turn.role == "user")
        prompt = self.processor.image_token * len(images) + question.replace(IMAGE_MARK, "").strip()
        output = self._process(images, text=[prompt], suffix=[sample.answer], return_text_replacement_offsets=False)
        output.pop("labels", None)
        input_ids = torch.as_tensor(output.pop("input_ids"))[0]  # (T,)
        supervised = torch.as_tensor(output["token_type_ids"])[0] == 1  # (T,) bool: the suffix
        self._prove(sample.answer, input_ids[supervised])
        at_image = input_ids == self.image_token_id  # (T,)
        per_image = max(1, int(at_image.sum()) // len(images))  # tokens; all images take equally many
        image_index = torch.where(at_image, (at_image.cumsum(0) - 1) // per_image, -1)
        return self._sorted(sample, input_ids, input_ids.where(supervised, IGNORED), image_index, output)

    def _process(self, images: list[Any], **arguments: Any) -> dict[str, Any]:
        """The processor's output for one sample; images as one sample's list, or flat where it takes them so."""
        how = {"padding": False, "truncation": False, "return_tensors": "pt", **arguments}
        refusal = ""
        for form in ([images], images) if images else (None,):
            try:
                return dict(self.processor(images=form, **how))
            except ValueError as error:
                refusal = f"{error}"
            except Exception as error:  # processors raise many kinds; the sample, not the run, is at fault
                raise SampleError("refused by the processor", f"{error}") from error
        raise SampleError("refused by the processor", refusal)

    def _sorted(
        self, sample: Sample, input_ids: Tensor, labels: Tensor, image_index: Tensor, output: dict[str, Any]
    ) -> Encoded:
        """Split the processor's remaining outputs into per-token rows and image tensors."""
        output.pop("attention_mask", None)  # made anew when samples are padded to a batch
        rows, images = {}, {}
        for name, value in output.items():
            tensor = _tensor(value)
            if tensor is not None and tensor.shape == (1, len(input_ids)):
                rows[name] = tensor[0]  # (T,)
            elif tensor is not None:
                images[name] = tensor  # (images or patches, ...)
        if sample.images and not images:
            raise SampleError("refused by the processor", "its image tensors cannot be put together")
        return Encoded(sample.id, input_ids, labels, image_index, rows, images)

    def collate(self, samples: Sequence[Encoded], padding_side: str = "right", pinned: bool = False) -> Batch:
        """Encoded samples as one batch, padded to the longest. A sample's numbers do not depend on the others.

        `pinned`: image tensors in memory that a device can copy from by itself.
        """
        longest = max(len(sample) for sample in samples)

        def padded(values: Sequence[Tensor], fill: int) -> Tensor:
            out = values[0].new_full((*values[0].shape[:-1], len(values), longest), fill)  # (B, T) or (3, B, T)
            for row, value in enumerate(values):
                length = value.shape[-1]
                place = slice(0, length) if padding_side == "right" else slice(longest - length, longest)
                out[..., row, place] = value
            return out

        input_ids = padded([sample.input_ids for sample in samples], self.pad_id)  # (B, T)
        valid = padded([torch.ones_like(sample.input_ids) for sample in samples], 0).bool()
        labels = padded([sample.labels for sample in samples], IGNORED)
        image_index = padded([sample.image_index for sample in samples], -1)
        inputs = {"input_ids": input_ids, "attention_mask": valid.long()}
        for name in samples[0].rows:
            inputs[name] = padded([sample.rows[name] for sample in samples], 0)
        inputs |= _join_images(samples, self.quirk, pinned)
        query_mask = torch.zeros_like(valid)
        query_mask[:, :-1] = labels[:, 1:] != IGNORED  # the row before a supervised token predicts it
        return Batch(
            ids=tuple(sample.id for sample in samples),
            inputs=inputs,
            labels=labels,
            image_mask=(image_index >= 0) & valid,
            image_index=image_index,
            special_mask=torch.isin(input_ids, self.special_ids) & valid,
            valid=valid,
            query_mask=query_mask & valid,
        )


def _move(place: int, behind: list[tuple[int, int, int]]) -> int:
    """A place in our text -> in the processor's, as far from the first thing that is not before it."""
    ours, theirs = next((ours, theirs) for ours, theirs, _ in behind if ours >= place)
    return theirs - (ours - place)


def _bare(text: str) -> str:
    """A text without what tokenizers and their decoders add, take or change: white space, case, forms of letters."""
    return "".join(unicodedata.normalize("NFKC", text.replace("\u2581", " ")).casefold().split())


def special_ids(tokenizer: Any, image_token_id: int) -> list[int]:
    """The ids of a tokenizer's special tokens (bos, end of turn, ...), the image token excluded, ascending."""
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    return sorted((special | set(tokenizer.all_special_ids)) - {image_token_id})


def _tensor(value: Any) -> Tensor | None:
    """What a processor returned, as one tensor; None for values that no model takes."""
    try:
        if isinstance(value, list):
            return torch.stack([torch.as_tensor(item) for item in value])
        return torch.as_tensor(value)  # a tensor is returned as it is
    except (TypeError, ValueError, RuntimeError):
        return None


def _join_images(samples: Sequence[Encoded], quirk: Quirk, pinned: bool = False) -> dict[str, Tensor]:
    """Image tensors of a batch: trailing sizes padded with zeros to the largest, then joined image by image.

    The padding is what every processor itself does for a batch (tiles, rows of images, canvases), and what models undo
    by their size arguments.
    """
    joined: dict[str, Tensor] = {}
    for name in dict.fromkeys(name for sample in samples for name in sample.images):
        found = [sample.images[name] for sample in samples if name in sample.images]
        size = [max(tensor.shape[axis] for tensor in found) for axis in range(1, found[0].ndim)]
        if quirk.images_per_row:  # a sample without images is a row of zeros
            empty = found[0].new_zeros((1, *size))
            found = [sample.images.get(name, empty) for sample in samples]
        joined[name] = concatenate(found, size, pinned)
    return joined


def concatenate(tensors: Sequence[Tensor], size: list[int], pinned: bool) -> Tensor:
    """(images or patches, *size) from several: each copied once, padded at the end of every axis but the first."""
    even = all(list(tensor.shape[1:]) == size for tensor in tensors)
    make = torch.empty if even else torch.zeros
    count = sum(len(tensor) for tensor in tensors)
    out = make((count, *size), dtype=tensors[0].dtype, pin_memory=pinned)
    start = 0
    for tensor in tensors:
        end = start + len(tensor)
        out[start:end][tuple(slice(edge) for edge in tensor.shape)].copy_(tensor)
        start = end
    return out
