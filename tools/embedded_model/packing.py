"""In: scenes with several questions each. Out: one model call in which the questions about a scene share its image.

An image is 16 tokens and a question with its answer a dozen, so the beginning of the text, to the end of the image, is
written once. Each question follows as if it stood there alone: it sees the beginning and itself, and its positions
count on from the beginning. The model computes what it would compute for separate samples, from fewer tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils.rnn import pad_sequence

from tools.embedded_model.evaluate import IGNORE, messages
from vlmsift.demo.digits import Scene
from vlmsift.demo.questions import Question

if TYPE_CHECKING:
    from numpy.random import Generator
    from torch import Tensor

SHARED = 0
PADDING = -1


class Packer:
    """Packs scenes for one processor; remembers the tokens of every question and answer that it has met."""

    def __init__(self, processor: Any, image_tokens: int) -> None:
        self.processor = processor
        self.image_id = processor.image_token_id
        self.image_tokens = image_tokens
        self._known: dict[tuple[str, str], tuple[list[int], list[int], int]] = {}

    def __call__(
        self, scenes: Sequence[Scene], questions: Sequence[Sequence[Question]], jitter: Generator | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """B scenes with any number of questions each.

        Returns:
            What `model(**inputs)` takes, the attention mask being additive and (B, 1, T, T), and labels (B, T): the ids
            of the answers and their end tokens, -100 elsewhere.
        """
        packed = [self._row(scene, asked) for scene, asked in zip(scenes, questions, strict=True)]
        filler = (self.processor.tokenizer.pad_token_id, IGNORE, 0, PADDING)
        ids, labels, positions, parts = (
            pad_sequence([torch.tensor(row[field]) for row in packed], batch_first=True, padding_value=value)
            for field, value in enumerate(filler)
        )
        # (B, T, T): a position sees the beginning and the part that it belongs to, and nothing that comes later.
        seen = (parts[:, :, None] == parts[:, None, :]) | (parts[:, None, :] == SHARED)
        seen &= torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
        mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
        pictures = [scene.picture(jitter) for scene in scenes]
        pixels = self.processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
        inputs = {"input_ids": ids, "position_ids": positions, "attention_mask": mask[:, None], "pixel_values": pixels}
        return inputs, labels

    def _row(self, scene: Scene, questions: Sequence[Question]) -> tuple[list[int], list[int], list[int], list[int]]:
        """Token ids, labels, positions and part numbers of one scene."""
        ids: list[int] = []
        for part, question in enumerate(questions, start=1):
            shared, own, supervised = self._tokens(question.text, question.answer(scene.values))
            if not ids:
                ids, labels = list(shared), [IGNORE] * len(shared)
                positions, parts = list(range(len(shared))), [SHARED] * len(shared)
            ids += own
            labels += [IGNORE] * (len(own) - supervised) + own[-supervised:]
            positions += range(len(shared), len(shared) + len(own))
            parts += [part] * len(own)
        return ids, labels, positions, parts

    def _tokens(self, question: str, answer: str) -> tuple[list[int], list[int], int]:
        """Ids up to and with the image, ids after it, and how many of those, at the end, are supervised."""
        if (question, answer) not in self._known:
            tokenizer = self.processor.tokenizer
            text = self.processor.apply_chat_template(messages(question, answer), tokenize=False)
            ids = tokenizer(text)["input_ids"]
            image = ids.index(self.image_id)
            shared = [*ids[:image], *[self.image_id] * self.image_tokens]
            self._known[question, answer] = shared, ids[image + 1 :], len(tokenizer(answer)["input_ids"]) + 1
        return self._known[question, answer]
