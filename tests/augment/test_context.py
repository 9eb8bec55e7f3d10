"""masked_states as a trainer meets it: what is changed, what is not, and what is left behind."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

import vlmsift
from tests.augment.helpers import entering, gradients, trainable, training_batch, weights_equal
from tests.models.helpers import batch_of, opened, picture, varied
from tests.toys import MECHANISMS as FAMILIES
from vlmsift.augment import VARIANTS, Rankings, context_of, masked_states
from vlmsift.demo import START_PATH
from vlmsift.demo.pool import make_pool
from vlmsift.errors import UnsupportedModel, UsageError
from vlmsift.models import open_model
from vlmsift.passes.attention_received import AttentionReceived
from vlmsift.passes.capture import Capture
from vlmsift.passes.interventions import MaskedLoss
from vlmsift.passes.masking import Masking, choose_tokens
from vlmsift.passes.measure import measure
from vlmsift.specs import EngineSpec

STATES = ["top", "stkim", "hints", "random"]
SETTING = {"depth": 0.5, "ratio": 0.5}
FIELDS = {
    **dict.fromkeys(STATES, SETTING),
    "tlm": {"ratio": 0.3},
    "headmask": {"ratio": 0.3},
    "meap": {"ratio": 0.5},
    "neftune": {},
}


def test_the_fields_above_name_every_variant():
    assert FIELDS.keys() == VARIANTS.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_top_masks_the_choice_of_delta_attnmask_and_nothing_else(toy_path, family):
    folder = toy_path(family)
    adapter = trainable(folder)
    batch, inputs = training_batch(adapter, folder, family)
    masking = Masking(**SETTING)
    layer = masking.layer(adapter.depth)
    ranking = masking.ranking(adapter.depth)
    with Capture(adapter) as capture:
        wanted = choose_tokens(masking, batch, measure(capture, batch, [ranking])[ranking])
    plain = entering(adapter, inputs)
    with masked_states(adapter, "top", probability=1.0, **SETTING) as augmented:
        changed = entering(adapter, inputs)
        chosen = augmented.step.intervention.chosen
    assert torch.equal(chosen, wanted)
    assert chosen.any(1).tolist() == batch.image_mask.any(1).tolist()
    differs = (plain[layer] != changed[layer]).any(-1)
    assert torch.equal(differs, chosen)
    assert (changed[layer][chosen] == 0).all()
    for earlier in range(layer):
        assert torch.equal(plain[earlier], changed[earlier])


@pytest.mark.parametrize("rows", ["answer", "all", "last"])
@pytest.mark.parametrize("family", FAMILIES)
def test_training_masks_the_tokens_that_scoring_masks(toy_path, family, rows):
    """Special tokens among the eligible ones too: by the tokenizer's word, not by the configurations'."""
    folder = toy_path(family)
    adapter = trainable(folder)
    batch, inputs = training_batch(adapter, folder, family)
    for eligible in ("context", "all"):
        fields = {"eligible": eligible, "rows": rows, "ratio": 1.0, "depth": 0.5, "sinks": "keep"}
        need = MaskedLoss(Masking(**fields))
        ranking = need.ranking(adapter.depth)
        with Capture(adapter) as capture:
            wanted = need.intervene(adapter, batch, measure(capture, batch, [ranking])[ranking]).chosen
        with masked_states(adapter.model, "top", probability=1.0, **fields) as augmented:
            adapter.model(**inputs)
            assert torch.equal(augmented.step.intervention.chosen, wanted)
        assert not (wanted & batch.special_mask).any()
        assert (batch.special_mask & ~batch.image_mask).any()


def test_who_knows_the_special_tokens(toy_path):
    folder = toy_path("qwen2_vl")
    model, processor = trainable(folder).model, AutoProcessor.from_pretrained(folder)
    unknown = AutoModelForImageTextToText.from_pretrained(folder)  # not opened by vlmsift: its tokenizer is not known
    wanted = masked_states(model, eligible="context")._special
    with pytest.raises(UsageError, match=r"give processor=\.\.\., or like=RUN, or the trainer"):
        masked_states(unknown, eligible="all")
    assert len(masked_states(unknown)._special) == 0, "image tokens are none"
    trainer = SimpleNamespace(model=unknown, processing_class=processor)
    for made in (
        masked_states(unknown, eligible="context", processor=processor),
        masked_states(unknown, eligible="context", processor=processor.tokenizer),
        masked_states(trainer, eligible="context"),
    ):
        assert made.model is unknown
        assert torch.equal(made._special, wanted)


def test_a_training_masks_like_a_run(toy_path, tmp_path):
    pool = make_pool(tmp_path / "pool", 20, 0)
    setting = "depth=0.5,ratio=0.4,eligible=context,rows=all,sinks=keep,heads=max,where=every"
    words = [f"delta_attnmask:{setting},relative=true,seed=3", "other=delta_attnmask", "random"]
    run = vlmsift.score(pool, START_PATH, tmp_path / "run", signals=words, engine=EngineSpec(workers=0))
    unknown = AutoModelForImageTextToText.from_pretrained(START_PATH)
    for like in (run, tmp_path / "run", str(tmp_path / "run")):
        made = masked_states(unknown, like=like, ratio=0.3)
        assert made.variant == VARIANTS["top"](
            depth=0.5, ratio=0.3, eligible="context", rows="all", sinks="keep", heads="max", where="every"
        )
        encoder = open_model(START_PATH).encoder(picture)
        assert torch.equal(made._special, encoder.special_ids)
    for words, told in [
        (["random"], "holds no delta_attnmask"),
        (["a=delta_attnmask", "b=delta_attnmask:depth=0"], "several columns of it \\(a, b\\)"),
    ]:
        vlmsift.score(pool, START_PATH, tmp_path / told[:5], signals=words, engine=EngineSpec(workers=0))
        with pytest.raises(UsageError, match=told):
            masked_states(unknown, like=tmp_path / told[:5])


def test_what_its_source_does_always_is_done_always(toy_path):
    model = trainable(toy_path("llava")).model
    found = {name: masked_states(model, name).probability for name in VARIANTS}
    assert found == {**dict.fromkeys(STATES, 0.5), "tlm": 1, "headmask": 1, "meap": 1, "neftune": 1}
    assert context_of("tlm").keywords["probability"] == 1
    assert masked_states(model, "tlm", probability=0.25).probability == 0.25


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", ["llava", "qwen3_vl", "gemma3", "smolvlm"])
def test_a_variant_changes_training_and_nothing_else(toy_path, family, variant):
    folder = toy_path(family)
    adapter = trainable(folder)
    model, before = adapter.model, adapter.text.config._attn_implementation
    batch, inputs = training_batch(adapter, folder, family)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    plain = model(**inputs)
    plain_gradients = gradients(adapter, inputs)
    model.eval()
    with torch.no_grad():
        calm = model(**inputs).logits
    model.train()
    with masked_states(model, variant, probability=1.0, **FIELDS[variant]) as augmented:
        found = gradients(adapter, inputs)
        assert augmented.augmented == len(batch)
        model.eval()
        with torch.no_grad():
            assert torch.equal(model(**inputs).logits, calm)
        model.train()
    assert found.keys() == plain_gradients.keys()
    assert all(value.isfinite().all() for value in found.values())
    assert not weights_equal(found, plain_gradients)
    assert sum(float(value.abs().sum()) for value in found.values()) > 0
    after = model(**inputs)
    assert torch.equal(after.logits, plain.logits)
    assert torch.equal(after.loss, plain.loss)
    assert adapter.text.config._attn_implementation == before
    assert model.training
    assert not hasattr(model, "_vlmsift_augmented")
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_gradient_checkpointing_gives_the_same_gradients(toy_path, family, variant):
    folder = toy_path(family)
    adapter = trainable(folder)
    _, inputs = training_batch(adapter, folder, family)
    with masked_states(adapter, variant, probability=0.7, **FIELDS[variant]):
        plain = gradients(adapter, inputs)
    for reentrant in (False, True):
        adapter.model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        if reentrant:
            adapter.model.enable_input_require_grads()
        with masked_states(adapter, variant, probability=0.7, **FIELDS[variant]):
            again = gradients(adapter, inputs)
        assert again.keys() == plain.keys()
        for name, value in plain.items():
            torch.testing.assert_close(again[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_two_forwards_before_their_backwards_keep_their_own_plans(toy_path):
    folder = toy_path("llava")
    adapter = trainable(folder)
    _, inputs = training_batch(adapter, folder, "llava")
    expected = []
    with masked_states(adapter, "tlm", probability=1.0, ratio=0.4):
        for _ in range(2):
            expected.append(gradients(adapter, inputs))
    adapter.model.gradient_checkpointing_enable({"use_reentrant": False})
    with masked_states(adapter, "tlm", probability=1.0, ratio=0.4):
        first, second = adapter.model(**inputs).loss, adapter.model(**inputs).loss
        for loss, wanted in ((first, expected[0]), (second, expected[1])):
            adapter.model.zero_grad()
            loss.backward()
            for name, parameter in adapter.model.named_parameters():
                if name in wanted:
                    torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-4, atol=1e-6, msg=name)
    assert not weights_equal(*expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_pass_chooses_what_a_second_forward_over_the_same_layers_chooses(toy_path, family):
    folder = toy_path(family)
    adapter = trainable(folder)
    _, inputs = training_batch(adapter, folder, family)
    chosen, losses = [], []
    for source in ("second", "one-pass"):
        with masked_states(
            adapter, "top", probability=1.0, ranking_from=source, layers="below", **SETTING
        ) as augmented:
            losses.append(adapter.model(**inputs).loss)
            chosen.append(augmented.step.intervention.chosen)
    assert torch.equal(*chosen)
    torch.testing.assert_close(*losses)


def test_only_the_drawn_samples_are_changed_and_the_seed_decides(toy_path):
    folder = toy_path("llava")
    adapter = trainable(folder)
    _, inputs = training_batch(adapter, folder, "llava")
    drawn = []
    for seed in (0, 0, 1):
        with masked_states(adapter, probability=0.5, seed=seed, **SETTING) as augmented:
            rows = []
            for _ in range(6):
                adapter.model(**inputs)
                step = augmented.step
                rows.append([False] * 4 if step is None else step.taking_part.tolist())
                if step is not None:
                    assert torch.equal(step.intervention.chosen.any(1), step.taking_part)
            assert augmented.seen == 24
            assert augmented.augmented == sum(map(sum, rows))
            drawn.append(rows)
    assert drawn[0] == drawn[1] != drawn[2]
    assert 4 < sum(map(sum, drawn[0])) < 20
    assert len(set(map(tuple, drawn[0]))) > 1


def test_at_probability_zero_nothing_happens(toy_path):
    folder = toy_path("llava")
    adapter = trainable(folder)
    _, inputs = training_batch(adapter, folder, "llava")
    plain = adapter.model(**inputs).loss
    with masked_states(adapter, probability=0.0) as augmented:
        assert torch.equal(adapter.model(**inputs).loss, plain)
    assert augmented.augmented == 0


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_cached_rankings_are_made_once_and_choose_the_same(toy_path, family, monkeypatch):
    folder = toy_path(family)
    adapter = trainable(folder)
    batch, inputs = training_batch(adapter, folder, family)
    decoded = []
    rankings = Rankings()
    monkeypatch.setattr(adapter.text, "forward", _counted(adapter.text.forward, decoded))
    with masked_states(adapter, probability=1.0, ranking_from="cached", rankings=rankings, **SETTING) as augmented:
        adapter.model(**inputs)
        first = augmented.step.intervention.chosen
        adapter.model(**inputs)
        assert torch.equal(augmented.step.intervention.chosen, first)
    assert len(decoded) == 3  # two steps, one ranking
    with masked_states(adapter, probability=1.0, **SETTING) as augmented:
        adapter.model(**inputs)
        assert torch.equal(augmented.step.intervention.chosen, first)
    assert len(rankings.known) == len(batch)


def _counted(method, calls):
    def counting(*args, **kwargs):
        calls.append(1)
        return method(*args, **kwargs)

    return counting


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("variant", ["tlm", "headmask"])
def test_attention_variants_agree_over_attention_implementations(toy_path, implementation, variant):
    folder = toy_path("llava")
    adapter = trainable(folder)
    _, inputs = training_batch(adapter, folder, "llava")
    with masked_states(adapter, variant, probability=1.0, ratio=0.3):
        expected = adapter.model(**inputs).loss
    adapter.model.set_attn_implementation(implementation)
    adapter.model.eval()
    calm = adapter.model(**inputs).logits
    adapter.model.train()
    with masked_states(adapter, variant, probability=1.0, ratio=0.3):
        torch.testing.assert_close(adapter.model(**inputs).loss, expected)
        adapter.model.eval()
        assert torch.equal(adapter.model(**inputs).logits, calm)


def test_a_left_padded_batch_is_masked_alike(toy_path):
    folder = toy_path("llava")
    adapter = trainable(folder)
    sides = []
    for side in ("right", "left"):
        batch = batch_of(opened(folder), varied("llava")[:3], side)
        with masked_states(adapter, probability=1.0, **SETTING) as augmented:
            loss = adapter.model(**batch.inputs, labels=batch.labels).loss
            chosen = augmented.step.intervention.chosen
        sides.append((loss, [chosen[row][batch.valid[row]].tolist() for row in range(3)]))
    torch.testing.assert_close(sides[0][0], sides[1][0])
    assert sides[0][1] == sides[1][1]


def test_bad_use_is_told(toy_path):
    folder = toy_path("llava")
    adapter = trainable(folder)
    _, inputs = training_batch(adapter, folder, "llava")
    model = adapter.model
    for arguments, words in [
        ({"probability": 1.5}, "probability=1.5 cannot be meant; give a number at least 0 and at most 1"),
        ({"variant": "tlm", "like": "run"}, "like='run' says how states are masked, which tlm does not do"),
        ({"variant": "topp"}, "no augmentation 'topp'; choose among top"),
        ({"ranking_from": "twice"}, "masked_states: ranking_from='twice' cannot be meant; give one of second"),
        ({"ratio": 0.0}, "ratio=0.0"),
        ({"share": 0.0}, "share=0.0"),
        ({"hints": 1.5}, "hints=1.5"),
        ({"alpha": 3}, "unexpected keyword argument 'alpha'"),
        ({"variant": "tlm", "ratio": 1.0}, "ratio=1.0"),
        ({"variant": "headmask", "ratio": 0.0}, "ratio=0.0"),
        ({"variant": "meap", "ratio": 2.0}, "ratio=2.0"),
        ({"variant": "neftune", "alpha": 0}, "alpha=0"),
        ({"ranking_from": "one-pass", "layers": "all"}, "add layers='below'"),
    ]:
        with pytest.raises(UsageError, match=words.replace("(", r"\(")):
            masked_states(model, **arguments)
    variant = VARIANTS["top"]()
    with pytest.raises(UsageError, match="give depth to the variant itself"):
        masked_states(model, variant, depth=0.5)
    with masked_states(model), pytest.raises(UsageError, match="being augmented already"), masked_states(model):
        pass
    unlabelled = {name: value for name, value in inputs.items() if name != "labels"}
    with masked_states(model), pytest.raises(UsageError, match="gives the model no `labels`"):
        model(**unlabelled)
    with masked_states(model, "tlm", probability=1.0):
        model.set_attn_implementation("sdpa")
        with pytest.raises(UsageError, match="the trainer changed the model's attention to 'sdpa'"):
            model(**inputs)
    model.requires_grad_(False)
    with masked_states(model), pytest.raises(UsageError, match="no parameter with requires_grad"):
        model(**inputs)
    model.requires_grad_(True)
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    rest = {name: value for name, value in inputs.items() if name not in ("input_ids", "pixel_values")}
    with masked_states(model), pytest.raises(UsageError, match="`input_ids`; this trainer gives none"):
        model(inputs_embeds=embeds, **rest)
    packed = {name: value for name, value in inputs.items() if name != "attention_mask"}
    places = torch.arange(inputs["input_ids"].shape[1]) % 20
    with masked_states(model), pytest.raises(UsageError, match="packed samples"):
        model(**packed, position_ids=places.expand(4, -1))
    assert model.training
    assert not hasattr(model, "_vlmsift_augmented")


def test_attention_that_cannot_be_watched_is_refused(toy_path):
    adapter = trainable(toy_path("llava"))
    adapter.text.config._attn_implementation_internal = "somebody's own"
    with pytest.raises(UnsupportedModel, match='attention "somebody\'s own", which cannot be watched'):
        masked_states(adapter, "tlm").__enter__()
    assert not hasattr(adapter.model, "_vlmsift_augmented")


def test_ranking_by_all_rows_needs_no_labels(toy_path):
    folder = toy_path("llava")
    adapter = trainable(folder)
    _, inputs = training_batch(adapter, folder, "llava")
    inputs.pop("labels")
    with masked_states(adapter, probability=1.0, rows="all", **SETTING) as augmented:
        adapter.model(**inputs)
        assert augmented.step.intervention.chosen.any()
    assert AttentionReceived("all") != AttentionReceived("answer")


def test_a_word_makes_a_context(toy_path):
    folder = toy_path("llava")
    adapter = trainable(folder)
    _, inputs = training_batch(adapter, folder, "llava")
    assert context_of(None) is None
    with context_of("top:depth=0.5,ratio=0.25", 1.0, seed=3)(adapter.model) as augmented:
        adapter.model(**inputs)
        assert augmented.variant == VARIANTS["top"](depth=0.5, ratio=0.25)
        assert (augmented.probability, augmented.seed) == (1.0, 3)
        found = augmented.step.intervention.chosen
    with masked_states(adapter, probability=1.0, depth=0.5, ratio=0.25) as augmented:
        adapter.model(**inputs)
        assert torch.equal(augmented.step.intervention.chosen, found)
    for word, told in [
        ("topp", "no augmentation 'topp'"),
        ("top:deep=1", "no field 'deep'"),
        ("tlm:ratio=2.0", "ratio"),
    ]:
        with pytest.raises(UsageError, match=told):
            context_of(word)
    with pytest.raises(UsageError, match="probability=2"):
        context_of("top", 2)
