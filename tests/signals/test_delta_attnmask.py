"""Delta-AttnMask from given losses: a difference, or a share of the loss."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from tests.forwards import counted_forwards
from tests.models.helpers import hand_batch
from tests.sample_pools import llava_rows, write_pool
from vlmsift.augment import masked_states
from vlmsift.errors import UsageError
from vlmsift.models import open_model
from vlmsift.passes.interventions import MaskedLoss
from vlmsift.passes.loss import Head
from vlmsift.passes.masking import Masking, decode_state
from vlmsift.pools import open_image, open_pool
from vlmsift.scoring.score import score
from vlmsift.signals.delta_attnmask import DeltaAttnMask
from vlmsift.specs import EngineSpec

BATCH = hand_batch("siipa", "siipa", "spppa")
LOSS = torch.tensor([2.0, 0.5, 1.0])
MASKED = torch.tensor([3.0, 0.25, math.nan])
MASKING = {"depth": 0.25, "ratio": 0.3, "eligible": "context", "rows": "all", "layers": "above", "replace": "noise"}
MASKING |= {"sinks": "keep", "choose": "bottom", "seed": 4, "heads": "max", "where": "every", "state": "AAAA"}


def value(signal: DeltaAttnMask, loss: torch.Tensor = LOSS) -> list[float]:
    head, masked = signal.needs
    return signal(BATCH, {head: loss, masked: MASKED}).tolist()


def test_is_the_masked_loss_minus_the_loss():
    assert value(DeltaAttnMask()) == [1.0, -0.25, pytest.approx(math.nan, nan_ok=True)]


def test_relative_is_a_share_of_the_loss():
    assert value(DeltaAttnMask(relative=True)) == [0.5, -0.5, pytest.approx(math.nan, nan_ok=True)]
    assert (DeltaAttnMask().unit, DeltaAttnMask(relative=True).unit) == ("nats", "share of the loss")


def test_a_loss_of_zero_does_not_make_infinity():
    assert math.isfinite(value(DeltaAttnMask(relative=True), torch.zeros(3))[0])


def test_every_field_of_the_masking_reaches_the_pass():
    signal = DeltaAttnMask(**MASKING, relative=True)
    assert signal.needs == (Head(), MaskedLoss(Masking(**MASKING)))
    assert {field.name for field in dataclasses.fields(Masking)} == set(MASKING)


def test_relative_and_absolute_share_their_pass():
    assert DeltaAttnMask().needs == DeltaAttnMask(relative=True).needs


@pytest.mark.parametrize("field", ["eligible", "rows", "layers", "replace", "sinks", "choose", "heads", "where"])
def test_a_word_that_is_unknown(field):
    with pytest.raises(UsageError, match=f"delta_attnmask: {field}='some' cannot be meant"):
        DeltaAttnMask(**{field: "some"})
    with pytest.raises(UsageError, match="ratio=0 cannot be meant"):
        DeltaAttnMask(ratio=0)


def test_the_pool_s_mean_state_is_found_recorded_and_taken_over(toy_path, tmp_path):
    rows = llava_rows(12, text_only=(2,))
    rows[3]["image"] = "gone.png"
    pool = open_pool(write_pool(tmp_path / "data", rows))
    model = open_model(toy_path("llava"))
    words, engine = ["delta_attnmask:replace=pool,depth=1"], EngineSpec(workers=0)
    run = score(pool, model, tmp_path / "run", signals=words, engine=engine)
    found = run.settings["identity"]["signals"]["delta_attnmask"]["parameters"]["state"]
    state = decode_state(found, model.text_config.hidden_size)

    entered: list[torch.Tensor] = []  # the slow way: a hook on the layer, sample by sample
    hook = model.layers[1].register_forward_pre_hook(
        lambda module, args, kwargs: entered.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    encoder = model.encoder(lambda ref: open_image(ref, pool.image_root))
    means = []
    for index in range(len(pool)):
        if index != 3:
            batch = encoder.collate([encoder.encode(pool[index])])
            with torch.no_grad():
                model.backbone(batch, model.inputs(batch))
            means.append(entered[-1][0][batch.labels[0] == -100].mean(0))
    hook.remove()
    torch.testing.assert_close(state, torch.stack(means).mean(0), atol=1e-6, rtol=1e-5)

    with counted_forwards() as called:
        again = score(pool, model, tmp_path / "run", signals=words, engine=engine)
    assert called == [], "a finished run finds its state again"
    assert again.table().equals(run.table())
    zero = score(pool, model, tmp_path / "zero", signals=["delta_attnmask:depth=1"], engine=engine)
    assert not again.table(["delta_attnmask"]).equals(zero.table(["delta_attnmask"]))
    assert masked_states(model.model, like=run).variant.state == found
    with pytest.raises(UsageError, match="take that of a run by like=RUN"):
        masked_states(model.model, replace="pool")
    with pytest.raises(UsageError, match="needs a pool"):
        DeltaAttnMask(replace="pool").bind(model, [])
    with pytest.raises(UsageError, match="not one sample can be encoded"):
        DeltaAttnMask(replace="pool").bind(model, [], lambda count: [])
