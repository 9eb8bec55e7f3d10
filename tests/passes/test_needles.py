"""Probes with a needle: what they hold, how long they are, and that a seed makes them again."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.models.helpers import opened
from tests.toys import MECHANISMS as FAMILIES
from vlmsift.demo import START_PATH
from vlmsift.errors import UsageError
from vlmsift.models import Adapter, Encoder, open_model
from vlmsift.passes import needles
from vlmsift.passes.needles import (
    COLOURS,
    FEWEST,
    WORDS,
    image_probe,
    probe_picture,
    text_probe,
    vocabulary_words,
)


@pytest.fixture(params=FAMILIES)
def adapter(request: pytest.FixtureRequest, toy_path: Callable[[str], Path]) -> Adapter:
    return opened(toy_path(request.param))


def encoder_of(adapter: Adapter) -> Encoder:
    return replace(adapter.encoder(probe_picture), context=1 << 30)


def test_a_text_probe_holds_the_answer_and_fits(adapter):
    encoder = encoder_of(adapter)
    encoded = text_probe(encoder, random.Random(3), 700, 2)
    tokenizer = adapter.processor.tokenizer
    text = tokenizer.decode(encoded.input_ids)
    pairs = json.loads(re.search(r"\{.*?\}", text, re.DOTALL)[0])
    queries = re.findall(r"Key: (\w{32})\nValue:", text)
    assert len(queries) == len(set(queries)) == 3
    assert len(pairs) > 3, "as many as fit"
    assert tokenizer.decode(encoded.labels[encoded.labels != -100]).startswith(pairs[queries[-1]].strip())
    assert all(f"Key: {key}\nValue: {pairs[key]}\n" in text for key in queries[:-1])
    assert all(1 <= len(tokenizer.tokenize(value)) <= 30 for value in pairs.values())
    assert 550 < len(encoded) <= 700, "close to the length that is allowed"


def test_a_needle_s_tokens_stand_in_no_other_value():
    """In the embedded model's few words: a head that looks at an equal token has found the needle, not a likeness."""
    encoder = encoder_of(open_model(START_PATH))
    tokenizer = encoder.processor.tokenizer
    for seed in range(5):
        text = tokenizer.decode(text_probe(encoder, random.Random(seed), 1500, 2).input_ids)
        pairs = json.loads(re.search(r"\{.*?\}", text, re.DOTALL)[0])
        asked = re.findall(r"Key: (\w{32})\nValue:", text)[-1]
        needle = tokenizer.tokenize(f" {pairs.pop(asked)}")
        others = {token for value in pairs.values() for token in tokenizer.tokenize(f" {value}")}
        assert len(needle) > 10
        assert len(set(needle)) == len(needle)
        assert len(pairs) > 5
        assert others.isdisjoint(needle)


def test_words_are_of_the_vocabulary_or_of_a_list(toy_path):
    few = vocabulary_words(opened(toy_path("llava")).processor.tokenizer)
    assert few == WORDS.split(), "a byte-level vocabulary has no words"
    known = vocabulary_words(open_model(START_PATH).processor.tokenizer)
    assert {"digit", "each"} <= set(known)
    assert len(known) >= FEWEST


def test_a_large_vocabulary_repeats_no_word(toy_path, monkeypatch):
    known = [f"{one}{two}{word}" for one in "abc" for two in "defghij" for word in WORDS.split()]
    monkeypatch.setattr(needles, "vocabulary_words", lambda tokenizer: known)
    encoder = encoder_of(opened(toy_path("llava")))
    text = encoder.processor.tokenizer.decode(text_probe(encoder, random.Random(0), 2000, 0).input_ids)
    values = json.loads(re.search(r"\{.*?\}", text, re.DOTALL)[0]).values()
    words = [word for value in values for word in value.split()]
    assert len(words) > 50
    assert len(set(words)) == len(words)


def test_probes_are_drawn_from_their_generator(toy_path):
    encoder = encoder_of(opened(toy_path("llava")))
    one, again, other = (text_probe(encoder, random.Random(seed), 500, 1).input_ids.tolist() for seed in (1, 1, 2))
    assert one == again
    assert one != other
    places = set()
    for seed in range(8):
        text = encoder.processor.tokenizer.decode(text_probe(encoder, random.Random(seed), 700, 0).input_ids)
        keys = re.findall(r'"(\w{32})": ', text)
        places.add(keys.index(re.findall(r"Key: (\w{32})", text)[0]) / (len(keys) - 1))
    assert min(places) < 0.3
    assert max(places) > 0.7, "needles lie anywhere"
    images = [image_probe(encoder, random.Random(seed))[1] for seed in range(20)]
    assert set(images) == {0, 1, 2}
    assert probe_picture("red").getpixel((5, 5)) != probe_picture("blue").getpixel((5, 5))


def test_too_short_a_probe_is_refused(toy_path):
    encoder = encoder_of(opened(toy_path("llava")))
    with pytest.raises(UsageError, match=r"tokens=60 leaves no room for one pair, which takes \d+"):
        text_probe(encoder, random.Random(0), 60, 3)


def test_examples_are_left_out_where_they_do_not_fit(toy_path):
    encoder = encoder_of(opened(toy_path("llava")))
    shown = []
    for tokens in (200, 400, 1200):
        item = text_probe(encoder, random.Random(0), tokens, 3)
        assert len(item) <= tokens
        shown.append(encoder.processor.tokenizer.decode(item.input_ids).count("Value:") - 1)
    assert shown[0] < 3
    assert shown == sorted(shown)
    assert shown[-1] == 3


def test_an_image_probe_asks_for_the_colour_of_one_image(adapter):
    encoder, tokenizer = encoder_of(adapter), adapter.processor.tokenizer
    for seed in range(4):
        draw = random.Random(seed)
        colours, place = draw.sample(sorted(COLOURS), 3), draw.randrange(3)
        encoded, image = image_probe(encoder, random.Random(seed))
        assert image == place
        assert set(encoded.image_index.tolist()) == {-1, 0, 1, 2}
        assert f"Which colour is image {place + 1}?" in tokenizer.decode(encoded.input_ids)
        assert tokenizer.decode(encoded.labels[encoded.labels != -100]).startswith(colours[place])
