"""Probes for heads that look things up: a needle in text, or in one of several images.

In: a model's encoder and a random generator. Out: one encoded sample whose answer is the needle. Probes are written
with the model's own tokenizer and template, in words of its own vocabulary; no data set is needed.
"""

from __future__ import annotations

import json
import random
import re
import string
from bisect import bisect_right
from functools import lru_cache
from typing import Any

from PIL import Image

from vlmsift.errors import UsageError
from vlmsift.models import Encoded, Encoder
from vlmsift.types import IMAGE_MARK, Sample, Turn

VALUE_TOKENS = 30  # the longest value
KEY_LETTERS = 32  # letters and digits
FEWEST = 20  # words that a vocabulary must have to be drawn from
WORDS = "amber anchor basket beacon candle canyon cedar copper desert ember falcon fern garden glacier hazel island"
WORDS += " ivory jasmine kettle lantern linen marble meadow nickel oak orchard pebble pepper quartz raven river saddle"
WORDS += " silver timber tunnel umbrella valley velvet walnut willow winter yarn zephyr"
COLOURS = {  # red, green, blue
    "red": (220, 30, 30),
    "green": (30, 160, 60),
    "blue": (30, 60, 220),
    "yellow": (240, 220, 40),
    "purple": (130, 40, 160),
    "orange": (250, 140, 20),
    "black": (10, 10, 10),
    "white": (245, 245, 245),
}
BLANK, SIDE = "grey", 224  # pixels


def text_probe(encoder: Encoder, draw: random.Random, tokens: int, examples: int) -> Encoded:
    """A JSON object of as many pairs as `tokens` allow, `examples` answered queries, and one that the answer answers.

    Keys are random letters and digits, values different words of at most 30 tokens. The words of the value that is
    asked for stand in no other, so that a head which finds one has found its place; the others repeat words only where
    the vocabulary has too few. Where they do not fit, examples are left out, down to none. A model that takes no text
    without an image is shown a grey one.

    Raises UsageError where not even the pair that is asked for fits.
    """
    tokenizer = encoder.processor.tokenizer
    known = vocabulary_words(tokenizer)
    most = min(VALUE_TOKENS, len(known) // 2)  # words of a value
    deck = draw.sample(known, len(known))
    asked_words, others, left = deck[:most], deck[most:], deck[most:]
    pairs: list[tuple[str, str]] = []

    def add(words: list[str]) -> tuple[str, str]:
        counts = range(1, len(words) + 1)
        fit = bisect_right(counts, VALUE_TOKENS, key=lambda n: len(tokenizer.tokenize(" ".join(words[:n]))))
        key = "".join(draw.choices(string.ascii_letters + string.digits, k=KEY_LETTERS))
        pair = key, " ".join(words[: max(1, fit)])
        pairs.insert(draw.randint(0, len(pairs)), pair)  # so that needles lie anywhere
        return pair

    def add_other() -> tuple[str, str]:
        if len(left) < most:  # the vocabulary is used up: words are repeated
            left[:] = draw.sample(others, len(others))
        words, left[:most] = left[:most], []
        return add(words)

    needles = [add(asked_words)]  # the one that is asked for stays last
    needles[:0] = [add_other() for _ in range(examples)]

    def encoded() -> Encoded:
        *shown, (asked, answer) = needles
        lines = [f"Key: {key}\nValue: {value}\n" for key, value in shown]
        text = "\n".join([json.dumps(dict(pairs), indent=1), *lines, f"Key: {asked}\nValue:"])
        images = (BLANK,) if encoder.quirk.prefix_suffix else ()
        turns = (Turn("user", f"{IMAGE_MARK}\n{text}" if images else text), Turn("assistant", answer))
        return encoder.encode(Sample("probe", 0, turns, images, None, {}))

    item = encoded()
    while len(item) > tokens and len(needles) > 1:
        pairs.remove(needles.pop(0))  # an example
        item = encoded()
    if len(item) > tokens:
        raise UsageError(f"tokens={tokens} leaves no room for one pair, which takes {len(item)}; allow more tokens")
    while len(item) <= tokens:  # in strides of half of what is left, since writing a long text is slow
        for _ in range(max(1, (tokens - len(item)) * len(pairs) // (2 * len(item)))):
            add_other()
        item = encoded()
    while len(item) > tokens:
        pairs.remove(next(pair for pair in reversed(pairs) if pair not in needles))
        item = encoded()
    return item


@lru_cache(maxsize=1)
def vocabulary_words(tokenizer: Any) -> list[str]:
    """Words of at least 3 small letters that are one token inside a text, sorted; `WORDS` where they are too few."""
    texts = {tokenizer.convert_tokens_to_string([token]).strip() for token in tokenizer.get_vocab()}
    words = sorted(text for text in texts if re.fullmatch("[a-z]{3,}", text))
    words = [word for word in words if len(tokenizer.tokenize(f"a {word}")) == 2]
    return words if len(words) >= FEWEST else WORDS.split()


def image_probe(encoder: Encoder, draw: random.Random, count: int = 3) -> tuple[Encoded, int]:
    """Plain images of different colours, the question after the colour of one, and which one it is (ours)."""
    colours = draw.sample(sorted(COLOURS), count)
    image = draw.randrange(count)
    question = f"{IMAGE_MARK * count}\nWhich colour is image {image + 1}?"
    turns = (Turn("user", question), Turn("assistant", colours[image]))
    return encoder.encode(Sample("probe", 0, turns, tuple(colours), None, {})), image


def probe_picture(ref: Any) -> Image.Image:
    """A plain square of that colour, grey where it is unknown: what opens the probes' images."""
    return Image.new("RGB", (SIDE, SIDE), COLOURS.get(str(ref), (128, 128, 128)))
