"""The untrained model: seeded, small, with a lossless tokenizer and a template that is plain about its turns."""

import pytest
import torch
from tools.embedded_model.build import IMAGE_TOKENS, SIZES, SPECIAL, build
from tools.embedded_model.evaluate import messages

from vlmsift.demo.digits import BLANK
from vlmsift.demo.questions import QUESTIONS


@pytest.fixture(scope="module")
def built():
    return build(0)


def test_the_same_seed_gives_the_same_weights(built):
    torch.manual_seed(99)
    again, other = build(0)[0], build(1)[0]
    for name, weight in built[0].state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    name = "lm_head.weight"
    assert not torch.equal(built[0].state_dict()[name], other.state_dict()[name])


def test_building_leaves_the_random_state_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    build(0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("text", ["Überall 42 Ziffern?", "a\nb  c", *[question.text for question in QUESTIONS[:5]]])
def test_the_tokenizer_is_lossless(built, text):
    tokenizer = built[1].tokenizer
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_digits_are_single_tokens_everywhere(built):
    tokenizer = built[1].tokenizer
    for digit in "0123456789":
        ids = tokenizer(f"{digit}{digit} a {digit}s, {digit}.")["input_ids"]
        assert ids.count(tokenizer.convert_tokens_to_ids(digit)) == 4


def test_words_of_the_demo_are_single_tokens(built):
    for question in QUESTIONS:
        words = sum(not character.isalnum() for character in question.text) + 3
        assert len(built[1].tokenizer(question.text)["input_ids"]) <= words


def test_special_tokens_are_known_as_such(built):
    tokenizer = built[1].tokenizer
    assert set(tokenizer.all_special_tokens) == set(SPECIAL.values())
    assert tokenizer("<|end|>")["input_ids"] == [tokenizer.eos_token_id]


def test_the_template_ends_each_turn(built):
    text = built[1].apply_chat_template(messages("Is there a 7?", "yes"), tokenize=False)
    assert text == "<s><|user|><image>\nIs there a 7?<|end|><|assistant|>yes<|end|>"
    prompt = built[1].apply_chat_template(messages("Is there a 7?", "")[:1], tokenize=False, add_generation_prompt=True)
    assert text.startswith(prompt)
    plain = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello"}]
    assert built[1].apply_chat_template(plain, tokenize=False) == "<s><|system|>Be short.<|end|><|user|>Hello<|end|>"


def test_an_image_is_sixteen_tokens(built):
    model, processor = built
    text = processor.apply_chat_template(messages("Count the digits.", "0"), tokenize=False)
    inputs = processor(images=BLANK.picture(), text=text, return_tensors="pt")
    assert (inputs["input_ids"] == model.config.image_token_id).sum() == IMAGE_TOKENS == 16
    assert model(**inputs).logits.shape[:2] == inputs["input_ids"].shape


@pytest.mark.parametrize(
    ("name", "least", "most"), [("full", 1.3e6, 1.31e6), ("small", 4e5, 4.3e5), ("tiny", 1.2e5, 1.3e5)]
)
def test_sizes_are_what_they_are_called(name, least, most):
    assert least < sum(weight.numel() for weight in build(0, size=SIZES[name])[0].parameters()) < most


def test_query_and_key_heads_differ(built):
    text = built[0].config.text_config
    assert text.num_attention_heads != text.num_key_value_heads
