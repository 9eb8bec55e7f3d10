"""Augmentation as a context manager that any trainer can run under.

In: a model that somebody trains, and a `Variant`. While open, each training forward is changed as the variant says; the
trainer needs no change and sees none. In evaluation mode, and after closing, the model computes what it always did.

How: hooks on the model and its base model see labels and inputs; a hook before the text decoder, inside whatever
autocast the trainer has set up and with the images encoded already, decides on this forward's intervention; a hook
before each text layer changes the states that enter it and passes the rest on as an argument of the layer. Layers that
are computed again in the backward pass (gradient checkpointing) get the same arguments, so they meet the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor

from vlmsift.augment.rankings import Rankings
from vlmsift.augment.variant import Shape, Variant, uniform
from vlmsift.errors import UnsupportedModel, UsageError
from vlmsift.models import Adapter, look_inside, special_ids
from vlmsift.passes.attention import Rows
from vlmsift.passes.attention_received import AttentionReceived
from vlmsift.passes.capture import Capture, set_text_attention
from vlmsift.passes.intervene import ARGUMENT, Interception, states_of, training_name, with_states
from vlmsift.types import Batch

RankingFrom = Literal["second", "one-pass", "cached"]
PART = -1
"""Seed of the draw of who takes part; variants have seeds from 0 on."""


class Step(Interception):
    """One training forward: its batch, who takes part, (B,) bool, and what attention and states meet in it."""

    def __init__(self, batch: Batch, taking_part: Tensor) -> None:
        super().__init__()
        self.batch, self.taking_part = batch, taking_part
        self.ranking: AttentionReceived | None = None  # set while tokens are ranked in this same forward


class MaskedStates:
    """The open augmentation; made by `vlmsift.masked_states`."""

    def __init__(
        self,
        model: Any,
        variant: Variant,
        probability: float,
        ranking_from: RankingFrom,
        rankings: Rankings | None,
        seed: int,
        processor: Any = None,
        special: Iterable[int] | None = None,
    ) -> None:
        self.variant, self.probability, self.ranking_from, self.seed = variant, probability, ranking_from, seed
        self.rankings = Rankings() if rankings is None else rankings
        self.model = unwrapped(model)
        self.adapter = look_inside(self.model, name=type(self.model).__name__)
        self.shape = Shape(self.adapter.depth, self.adapter.text_config.num_attention_heads)
        self.step: Step | None = None  # the last training forward, for a look from outside
        self.forwards = self.augmented = self.seen = 0  # training forwards, samples changed, and samples so far
        self._labels: Tensor | None = None  # (B, T)
        self._inputs: dict[str, Any] = {}  # of the base model, by name
        self._ranking_now = False  # the second forward meets nothing of its own
        self._undo: ExitStack | None = None
        self._installed: str | None = None  # our attention, by name
        self._special = torch.tensor(self._special_ids(processor or processor_of(model), special), dtype=torch.long)
        needs = variant.ranking(self.adapter.depth)
        if ranking_from == "one-pass" and needs is not None and needs.stop is None:
            raise UsageError(
                f"one-pass ranks by the layers below depth, but this variant ranks by layers {needs.start} to "
                f"{self.adapter.depth}; add layers='below'"
            )

    def __enter__(self) -> MaskedStates:
        if self._undo is not None:
            raise UsageError("this augmentation is open already; open another one for another training")
        if getattr(self.model, "_vlmsift_augmented", False):
            raise UsageError("the model is being augmented already; close that masked_states first")
        with ExitStack() as undo:
            self.model._vlmsift_augmented = True
            undo.callback(delattr, self.model, "_vlmsift_augmented")
            if self.variant.changes_attention or self.ranking_from == "one-pass":
                self._install_attention(undo)
            for module, hook in (
                (self.model, self._called),
                (self.model.base_model, self._base_called),
                (self.adapter.text, self._decoder_called),
                *((layer, self._entering(index)) for index, layer in enumerate(self.adapter.layers)),
            ):
                undo.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        assert self._undo is not None
        self._undo.close()
        self._undo = self.step = None

    def _install_attention(self, undo: ExitStack) -> None:
        before = self.adapter.text.config._attn_implementation
        name = training_name(before, self.adapter.name)
        set_text_attention(self.adapter, name)
        undo.callback(set_text_attention, self.adapter, before)
        if self.adapter.text.config._attn_implementation != name:
            raise UnsupportedModel(f"{self.adapter.name} does not let its text attention be replaced")
        self._installed = name

    def _special_ids(self, processor: Any, known: Iterable[int] | None) -> list[int]:
        """The special tokens by the one rule that scoring has: what the tokenizer calls special."""
        if not self.variant.asks_special:
            return []
        if (processor := processor or self.adapter.processor) is not None:
            return special_ids(getattr(processor, "tokenizer", processor), self.adapter.image_token_id)
        if known is None:
            raise UsageError(
                f"eligible={getattr(self.variant, 'eligible', None)!r} leaves special tokens out, and which those are "
                "a tokenizer or a run can say; give processor=..., or like=RUN, or the trainer in place of its model"
            )
        return list(known)

    def _called(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._labels = kwargs.get("labels")

    def _base_called(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._inputs = {**dict(zip(signature(module.forward).parameters, args, strict=False)), **kwargs}

    def _decoder_called(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Decide what this forward meets."""
        if self._ranking_now:
            return
        self.step = None
        inputs, self._inputs = self._inputs, {}
        if not self.model.training or not torch.is_grad_enabled():  # an evaluation
            return
        self._refuse(inputs)
        batch = self._batch(inputs)
        self.forwards += 1
        self.seen += len(batch)
        taking_part = uniform(batch, PART) < self.probability  # (B,)
        if not taking_part.any():
            return
        self.augmented += int(taking_part.sum())
        self.step = step = Step(batch, taking_part)
        ranking = self.variant.ranking(self.adapter.depth)
        if ranking is not None and self.ranking_from == "one-pass":
            step.ranking = ranking
            step.observers = [(Rows.where(ranking.rows(batch)), [ranking.observer(batch, self.adapter.depth)])]
            return
        self._decide(step, None if ranking is None else self._received(batch, ranking, args, kwargs))

    def _decide(self, step: Step, received: Tensor | None) -> None:
        step.batch, step.observers = replace(step.batch, inputs={}), []  # it may live until its backward pass
        with torch.no_grad():
            step.intervention = self.variant.intervene(step.batch, step.taking_part, received, self.shape)

    def _result(self, interception: Interception) -> Tensor:
        """(B, T) attention received, as seen by the interception's one observer."""
        ((_, (observer,)),) = interception.observers
        if missing := sorted(observer.layers - interception.layers_seen):
            raise UnsupportedModel(f"{self.adapter.name}: the attention of layers {missing} cannot be seen")
        return observer.result()

    def _received(
        self, batch: Batch, ranking: AttentionReceived, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        """(B, T) attention received, by running the decoder once more without gradients, or from memory."""
        if self.ranking_from == "cached" and (known := self.rankings.get(batch)) is not None:
            return known
        self._ranking_now = True
        try:
            with torch.no_grad(), Capture(self.adapter) as capture:
                capture.observers = [(Rows.where(ranking.rows(batch)), [ranking.observer(batch, self.adapter.depth)])]
                # some models make a cache even in training (Idefics3); filled here, it would double the keys there
                self.adapter.text(*args, **{**kwargs, "use_cache": False, "past_key_values": None})
                received = self._result(capture)  # (B, T)
        finally:
            self._ranking_now = False
        if self.ranking_from == "cached":
            self.rankings.put(batch, received)
        return received

    def _entering(self, index: int) -> Callable[..., Any]:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            step = self.step
            if step is None or self._ranking_now or not self.model.training:
                return None
            if step.ranking is not None and step.intervention is None and index == step.ranking.stop:
                self._decide(step, self._result(step))
                if step.intervention is not None and step.intervention.layer < index:
                    raise UsageError(
                        f"one-pass has ranked by the layers below {index}, but this variant masks at "
                        f"{step.intervention.layer}; rank by layers below its own"
                    )
            if step.intervention is not None:
                args, kwargs = with_states(args, kwargs, step.intervention.enter(index, states_of(args, kwargs)))
            return (args, {**kwargs, ARGUMENT: (step, index)}) if self._installed else (args, kwargs)

        return hook

    def _refuse(self, kwargs: dict[str, Any]) -> None:
        now = self.adapter.text.config._attn_implementation
        if self._installed and now != self._installed:
            raise UsageError(
                f"the trainer changed the model's attention to {now!r} while masked_states was open; set it before, or "
                "open masked_states after the trainer is made"
            )
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            raise UsageError(
                "the model has no parameter with requires_grad, so nothing is trained; vlmsift.open_model freezes: "
                "call model.requires_grad_(True) first, or load the model through transformers"
            )
        if kwargs.get("input_ids") is None:
            raise UsageError("masked_states finds the image tokens in `input_ids`; this trainer gives none")
        positions, mask = kwargs.get("position_ids"), kwargs.get("attention_mask")
        if mask is None and isinstance(positions, Tensor) and int((positions == 0).sum(-1).max()) > 1:
            raise UsageError("masked_states cannot tell packed samples apart; train with padding instead of packing")

    def _batch(self, kwargs: dict[str, Any]) -> Batch:
        """The forward's arguments as a batch. Samples have no ids here: the forward's number and the row stand in."""
        ids, mask = kwargs["input_ids"], kwargs.get("attention_mask")  # (B, T)
        valid = mask.bool() if isinstance(mask, Tensor) and mask.ndim == 2 else torch.ones_like(ids, dtype=torch.bool)
        labels = self._labels
        if labels is None:
            labels = torch.full_like(ids, -100)
            ranking = self.variant.ranking(self.adapter.depth)
            if ranking is not None and ranking.row_name != "all":
                raise UsageError(
                    "the trainer gives the model no `labels`, so the answer's rows are unknown; use rows='all', or "
                    "turn off what takes the labels away (label smoothing)"
                )
        labels = labels.to(ids.device)
        image = ids == self.adapter.image_token_id  # (B, T)
        query = torch.zeros_like(valid)
        query[:, :-1] = labels[:, 1:] != -100  # the row before a supervised token predicts it
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        return Batch(
            ids=tuple(f"{self.seed}:{rank}:{self.forwards}:{row}" for row in range(len(ids))),
            inputs={name: value for name, value in kwargs.items() if isinstance(value, Tensor)},
            labels=labels,
            image_mask=image & valid,
            image_index=torch.where(image & valid, 0, -1),  # several images count as one
            special_mask=torch.isin(ids, self._special.to(ids.device)) & ~image & valid,
            valid=valid,
            query_mask=query & valid,
        )


def unwrapped(model: Any) -> Any:
    """The transformers model inside an adapter, a trainer, DistributedDataParallel, or PEFT."""
    if isinstance(model, Adapter) or hasattr(model, "processing_class"):
        model = model.model
    while isinstance(getattr(model, "module", None), torch.nn.Module):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def processor_of(model: Any) -> Any:
    """The processor or tokenizer of an adapter or a trainer; None where it is neither, or has none."""
    return model.processor if isinstance(model, Adapter) else getattr(model, "processing_class", None)
