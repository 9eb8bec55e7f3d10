"""What is supervised and where the images are, for every family, against its own processor; and each refusal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from tokenizers import decoders, normalizers, pre_tokenizers

from tests.models.helpers import END, ask, batch_of, opened, picture, sample, varied
from tests.toys import FAMILIES
from vlmsift.errors import SampleError
from vlmsift.models import Adapter, open_model
from vlmsift.models.conversation import render, to_messages
from vlmsift.specs import ModelSpec
from vlmsift.types import IMAGE_MARK, Sample, Turn

SIZE = "60x60#1"
CHAT = [family for family in FAMILIES if family != "paligemma"]
SPACED = ("llava", "llava_next", "smolvlm", "idefics3", "deepseek_vl", "janus", "idefics2", "emu3")
"""Families whose template puts a space before the answer."""

ASKED = {
    "plain": ask("s", "what?", "Q of 3.", SIZE),
    "spaces around": ask("s", "what?", "  Q  and ", SIZE),
    "regular expression": ask("s", "what?", "Q(a|b)*[^c]$ \\1 {{x}} {% if %}", SIZE),
    "other alphabets": ask("s", "what?", "Qé 日本 🎉", SIZE),
    "part of the prompt": ask("s", "is it Yes?", "Yes", SIZE),
    "the whole prompt": ask("s", "Yes", "Yes", SIZE),
    "two images": ask("s", "what?", "Q", SIZE, "110x50#2"),
}
TALKED = {
    "turns": sample("s", "<image>\nwhat?", "Q", "and?", "Q", "so?", "No", images=[SIZE]),
    "system": sample("s", "<image>what?", "Q", images=[SIZE], system="Be Q."),
    "first answer empty": sample("s", "<image>what?", "", "and?", "Q", images=[SIZE]),
    "later image": sample("s", "what?", "Q", "here <image> it is", "Yes", images=[SIZE]),
    "no image": sample("s", "what?", "Q"),
}
EVERY_CASE = [(family, name) for family in FAMILIES for name in ASKED] + [(f, name) for f in CHAT for name in TALKED]
EVERY_CASE.remove(("got_ocr2", "no image"))  # which it refuses


@pytest.fixture(params=FAMILIES)
def adapter(request: pytest.FixtureRequest, toy_path: Callable[[str], Path]) -> Adapter:
    return opened(toy_path(request.param))


def supervised(adapter: Adapter, one: Sample) -> str:
    """The text of the supervised tokens."""
    encoded = adapter.encoder(picture).encode(one)
    return str(adapter.processor.tokenizer.decode(encoded.labels[encoded.labels != -100]))


def expected(family: str, one: Sample) -> str:
    answers = [turn.text for turn in one.turns if turn.role == "assistant"]
    return "".join((answer.strip() if family == "gemma3" else answer) + END[family] for answer in answers)


@pytest.mark.parametrize(("family", "case"), EVERY_CASE)
def test_supervised_are_the_answers_and_their_end_tokens(family, case, toy_path):
    one = {**ASKED, **TALKED}[case]
    assert supervised(opened(toy_path(family)), one) == expected(family, one)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_token_across_the_border_of_an_answer_is_supervised(family, toy_path):
    """ " the" is one token; where the template writes the space, it belongs to the answer's first token."""
    found = supervised(opened(toy_path(family)), ask("s", "what?", "the cat", SIZE))
    assert found == " " * (family in SPACED) + "the cat" + END[family]


@pytest.mark.parametrize("family", ["llava", "llava_next", "llava_onevision"])
def test_agrees_with_the_template_s_own_generation_marks(family, toy_path):
    adapter = opened(toy_path(family))
    one = TALKED["turns"]
    messages = to_messages(one.turns)
    messages[0]["content"][0]["image"] = picture(SIZE)
    told = adapter.processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, return_tensors="pt"
    )
    encoded = adapter.encoder(picture).encode(one)
    assert torch.equal(encoded.input_ids, told["input_ids"][0])
    ours = encoded.labels != -100
    theirs = told["assistant_masks"][0].bool()

    def texts(mask: torch.Tensor) -> set[str]:
        return {adapter.processor.tokenizer.decode(int(token)) for token in encoded.input_ids[mask]}

    # two templates mark the white space before an answer too, one leaves its end token out
    assert texts(theirs & ~ours) == {"llava": set(), "llava_next": {" "}, "llava_onevision": {"\n"}}[family]
    assert texts(ours & ~theirs) == ({END[family]} if family == "llava_onevision" else set())


def test_each_image_has_as_many_tokens_as_its_processor_makes(adapter):
    images = ["60x60#1", "110x50#2"]
    encoded = adapter.encoder(picture).encode(ask("s", "what?", "Q", *images))
    for number, image in enumerate(images):
        # twice the same image: several images are cut otherwise than a single one (LLaVA-OneVision)
        pair = adapter.encoder(picture).encode(ask("s", "what?", "Q", image, image))
        own = int((pair.input_ids == adapter.image_token_id).sum())
        assert int((encoded.image_index == number).sum()) == own / 2
    at_image = encoded.image_index >= 0
    assert torch.equal(at_image, encoded.input_ids == adapter.image_token_id)
    assert torch.equal(encoded.image_index[at_image], encoded.image_index[at_image].sort().values)


@pytest.mark.parametrize("family", CHAT)
def test_image_index_follows_the_turns(family, toy_path):
    adapter = opened(toy_path(family))
    one = sample("s", "<image>\nwhat?", "Q", "and <image>?", "No", images=["60x60#1", "110x50#2"])
    encoded = adapter.encoder(picture).encode(one)
    first_answer = int((encoded.labels != -100).int().argmax())
    at_image = encoded.input_ids == adapter.image_token_id
    before = torch.arange(len(encoded)) < first_answer
    assert (encoded.image_index[at_image & before] == 0).all()
    assert (encoded.image_index[at_image & ~before] == 1).all()
    assert (at_image & before).any()
    assert (at_image & ~before).any()


def own_batch(adapter: Adapter, samples: list[Sample]) -> dict[str, Any]:
    """What the processor itself makes of the samples, all at once."""
    processor = adapter.processor
    images: list[Any] = [[*map(picture, one.images)] for one in samples]
    if adapter.model.config.model_type == "got_ocr2":
        images = [image for pictures in images for image in pictures]
    how: dict[str, Any] = {"padding": True, "return_tensors": "pt", "images": images}
    if adapter.quirk.prefix_suffix:
        questions = [one.turns[0].text.replace(IMAGE_MARK, "").strip() for one in samples]
        texts = [processor.image_token * len(one.images) + text for one, text in zip(samples, questions, strict=True)]
        made = processor(text=texts, suffix=[one.answer for one in samples], **how)
    else:
        texts = [render(processor, one.turns).text for one in samples]
        has_bos = texts[0].startswith(processor.tokenizer.bos_token or "\0")
        made = processor(text=texts, add_special_tokens=not has_bos, **how)
    return {name: value for name, value in made.items() if name != "labels"}


@pytest.mark.parametrize("first", [0, 6])
def test_a_batch_equals_the_processor_s_own(adapter, first):
    samples = varied(adapter.model.config.model_type)
    samples = samples[first:] + samples[:first]  # the seventh has no image
    ours = batch_of(adapter, samples, adapter.processor.tokenizer.padding_side).inputs
    theirs = own_batch(adapter, samples)
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
        assert ours[name].dtype == value.dtype


@pytest.mark.parametrize("side", ["left", "right"])
def test_masks_of_a_batch(adapter, side):
    samples = varied(adapter.model.config.model_type)
    batch = batch_of(adapter, samples, side)
    tokenizer = adapter.processor.tokenizer
    special = {token for token, content in tokenizer.added_tokens_decoder.items() if content.special}
    input_ids = batch.inputs["input_ids"]
    assert batch.ids == tuple(one.id for one in samples)
    for row, one in enumerate(adapter.encoder(picture).encode(s) for s in samples):
        length, longest = len(one), input_ids.shape[1]
        places = range(longest - length, longest) if side == "left" else range(length)
        assert batch.valid[row].nonzero()[:, 0].tolist() == list(places)
        assert torch.equal(input_ids[row, places], one.input_ids)
        assert torch.equal(batch.labels[row, places], one.labels)
        assert torch.equal(batch.image_index[row, places], one.image_index)
    assert torch.equal(batch.image_mask, (input_ids == adapter.image_token_id) & batch.valid)
    assert torch.equal(batch.image_mask, batch.image_index >= 0)
    named = torch.tensor([[int(token) in special for token in row] for row in input_ids])
    assert torch.equal(batch.special_mask, named & batch.valid & ~batch.image_mask)
    supervised_next = torch.cat([batch.labels[:, 1:] != -100, torch.zeros(len(samples), 1, dtype=torch.bool)], 1)
    assert torch.equal(batch.query_mask, supervised_next)
    assert (batch.labels[~batch.valid] == -100).all()


REFUSED = {
    "wrong image count: 1 images, 2": ask("s", "what <image>?", "Q", SIZE),
    "wrong image count: 2 images, 1": sample("s", "<image>what?", "Q", images=[SIZE, SIZE]),
    "wrong image count: 1 images, 0": sample("s", "what?", "Q", images=[SIZE]),
    "image in an answer: ": sample("s", "<image>what?", "Q <image>", images=[SIZE, SIZE]),
    "too long: 3": ask("s", "so " * 1000, "Q", SIZE),
    "empty answer: every": ask("s", "what?", " \n", SIZE),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_faulty_sample_is_refused_with_its_kind_first(adapter, reason):
    with pytest.raises(SampleError, match=f"^{reason}"):
        adapter.encoder(picture).encode(REFUSED[reason])


def test_a_text_that_writes_the_image_token_is_refused(adapter):
    token = adapter.processor.tokenizer.convert_ids_to_tokens(adapter.image_token_id)
    with pytest.raises(SampleError, match=r"^(wrong image count|images not located): "):
        adapter.encoder(picture).encode(ask("s", f"what is {token}?", "Q", SIZE))


def test_no_assistant_turn_is_an_empty_answer(adapter):
    one = Sample("s", 0, (Turn("user", "<image>what?"),), (SIZE,), None, {})
    with pytest.raises(SampleError, match=r"^empty answer: "):
        adapter.encoder(picture).encode(one)


def test_the_longest_sample_that_fits_is_taken(adapter):
    encoder = adapter.encoder(picture)
    length = len(encoder.encode(ASKED["plain"]))
    assert len(replace(encoder, context=length).encode(ASKED["plain"])) == length
    with pytest.raises(SampleError, match=rf"^too long: {length} tokens, the model's context is {length - 1}$"):
        replace(encoder, context=length - 1).encode(ASKED["plain"])


@pytest.mark.parametrize("one", [TALKED["turns"], TALKED["no image"]], ids=["turns", "no image"])
def test_a_model_of_one_question_and_answer_refuses_others(one, toy_path):
    with pytest.raises(SampleError, match=r"^not for this model: "):
        opened(toy_path("paligemma")).encoder(picture).encode(one)


def test_tensors_that_a_processor_cannot_join_are_not_left_out(toy_path):
    """Without its pixels a model would read the image's tokens as text, and score that."""
    encoder = opened(toy_path("llava")).encoder(picture)

    class Ragged:
        tokenizer, chat_template = encoder.processor.tokenizer, encoder.processor.chat_template
        apply_chat_template = encoder.processor.apply_chat_template

        def __call__(self, **arguments: Any) -> dict[str, Any]:
            return {**encoder.processor(**arguments), "pixel_values": [torch.zeros(3, 8, 8), torch.zeros(3, 9, 9)]}

    with pytest.raises(SampleError, match=r"^refused by the processor: "):
        replace(encoder, processor=Ragged()).encode(ASKED["two images"])


class Shifting:
    """A processor whose account of its images is wrong by some characters."""

    def __init__(self, processor: Any, by: int) -> None:
        self.inner, self.by = processor, by
        self.tokenizer, self.chat_template = processor.tokenizer, processor.chat_template
        self.apply_chat_template = processor.apply_chat_template

    def __call__(self, **arguments: Any) -> dict[str, Any]:
        output = dict(self.inner(**arguments))
        for part in output["text_replacement_offsets"][0]:
            part["new_span"] = tuple(place + self.by for place in part["new_span"])
        return output


@pytest.mark.parametrize("by", [-9, 1, 9])
def test_a_span_that_does_not_hold_the_answer_is_refused(by, toy_path):
    encoder = opened(toy_path("llava")).encoder(picture)
    encoder = replace(encoder, processor=Shifting(encoder.processor, by))
    with pytest.raises(
        SampleError, match=r"^answer not located: the supervised tokens read .*, the answer 'two dogs</s>'"
    ):
        encoder.encode(sample("s", "what?", "two dogs", "<image>and?", "no", images=[SIZE]))


@pytest.mark.parametrize("answer", ["A Cat", "\ufb01ne", "two  words", "Ａ ｃat", "日本 🎉"])
@pytest.mark.parametrize(
    "normalizer",
    [
        normalizers.Lowercase(),
        normalizers.NFKC(),
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        normalizers.Replace(tokenizers.Regex(" {2,}"), " "),
    ],
    ids=["lowercase", "compatible forms", "sentence piece", "single spaces"],
)
def test_a_tokenizer_that_normalises_makes_no_good_sample_an_error(normalizer, answer, toy_path):
    adapter = open_model(ModelSpec(toy_path("llava"), device="cpu"))
    adapter.processor.tokenizer.backend_tokenizer.normalizer = normalizer
    assert supervised(adapter, ask("s", "what?", answer, SIZE))


def test_a_letter_that_a_tokenizer_does_not_know_makes_no_good_sample_an_error(toy_path):
    adapter = open_model(ModelSpec(toy_path("llava"), device="cpu"))
    tokenizer = adapter.processor.tokenizer
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")  # letters, no longer bytes
    tokenizer.backend_tokenizer.decoder = decoders.Fuse()
    tokenizer.backend_tokenizer.model.unk_token = tokenizer.unk_token = "~"
    assert "~b" in supervised(adapter, ask("s", "what?", "éa日b", SIZE))


@pytest.mark.parametrize("family", ["llava", "idefics2", "janus"])
def test_images_and_answers_side_by_side(family, toy_path):
    """Nothing but a mark in a turn, two marks without a space, an answer between two images."""
    one = sample("s", "<image>", "a", "<image><image>", "b", images=[SIZE, "90x50#2", "40x80#3"])
    adapter = opened(toy_path(family))
    assert supervised(adapter, one).replace(" ", "") == f"a{END[family]}b{END[family]}"
    encoded = adapter.encoder(picture).encode(one)
    counts = [int((encoded.image_index == number).sum()) for number in range(3)]
    assert len(set(counts)) == 1
    assert sum(counts) == int((encoded.input_ids == adapter.image_token_id).sum())


def test_a_processor_s_complaint_is_its_last(toy_path):
    """Nested images are offered first, flat ones then; what the second is refused for is told."""
    encoder = opened(toy_path("llava")).encoder(picture)
    offered: list[Any] = []

    class Refusing(Shifting):
        def __call__(self, **arguments: Any) -> dict[str, Any]:
            offered.append(arguments["images"])
            raise ValueError(f"attempt {len(offered)}")

    with pytest.raises(SampleError, match=r"^refused by the processor: attempt 2$"):
        replace(encoder, processor=Refusing(encoder.processor, 0)).encode(ASKED["two images"])
    assert [isinstance(images[0], list) for images in offered] == [True, False]
