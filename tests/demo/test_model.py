"""The shipped model: loads like any other, is as small and as good as promised, and its card says what it is."""

import io
import re

import pytest
import torch
from PIL import Image
from tools.embedded_model.build import build_processor
from tools.embedded_model.evaluate import encode, evaluate, messages
from transformers import AutoModelForImageTextToText, AutoProcessor

from vlmsift.demo import MODEL_PATH
from vlmsift.demo.questions import TASKS, draw_samples


@pytest.fixture(scope="module")
def shipped():
    model = AutoModelForImageTextToText.from_pretrained(MODEL_PATH, local_files_only=True)
    return model.eval(), AutoProcessor.from_pretrained(MODEL_PATH, local_files_only=True)


def test_it_loads_by_the_auto_classes(shipped):
    assert type(shipped[0]).__name__ == "LlavaForConditionalGeneration"
    assert type(shipped[1]).__name__ == "LlavaProcessor"


def test_it_is_small(shipped):
    assert sum(weight.numel() for weight in shipped[0].parameters()) <= 1_500_000
    assert sum(file.stat().st_size for file in MODEL_PATH.rglob("*")) <= 6_000_000
    assert {file.suffix for file in MODEL_PATH.iterdir()} <= {".json", ".safetensors", ".md", ".jinja"}


def test_it_answers_held_out_questions(shipped):
    accuracy = evaluate(*shipped, draw_samples("test", 300, seed=11))
    assert set(accuracy) == set(TASKS)
    assert sum(accuracy.values()) / len(accuracy) >= 0.85, accuracy


def test_it_looks_at_the_image(shipped):
    # With its image dropped to black it must be much worse: otherwise no signal can tell a wrong image.
    samples = draw_samples("test", 200, seed=12)
    inputs, labels = encode(shipped[1], samples)
    with torch.no_grad():
        seeing = _loss(shipped[0](**inputs).logits, labels)
        blind = _loss(
            shipped[0](**inputs | {"pixel_values": torch.full_like(inputs["pixel_values"], -1)}).logits, labels
        )
    assert blind > 3 * seeing


def test_evaluate_counts_what_generate_gives(shipped):
    model, processor = shipped
    for sample in draw_samples("test", 40, seed=13):
        question = messages(sample.turns[0].text.split("\n")[1], "")[:1]
        text = processor.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
        inputs = processor(images=Image.open(io.BytesIO(sample.images[0])), text=text, return_tensors="pt")
        with torch.no_grad():
            ids = model.generate(**inputs, max_new_tokens=60, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        exact = processor.tokenizer.decode(ids) == sample.answer + "<|end|>"
        assert evaluate(model, processor, [sample])[sample.source] == exact


def test_its_processor_is_the_one_that_the_code_builds(shipped):
    samples = draw_samples("test", 20, seed=14)
    saved, built = encode(shipped[1], samples)[0], encode(build_processor(), samples)[0]
    assert saved.keys() == built.keys()
    assert all(torch.allclose(saved[name].float(), built[name].float(), atol=1e-6) for name in saved)


def test_the_card_tells_its_size_and_accuracy(shipped):
    card = (MODEL_PATH / "README.md").read_text()
    count = sum(weight.numel() for weight in shipped[0].parameters())
    assert f"{count:,} parameters" in card
    mean = float(re.search(r"mean of tasks\*\* \| \*\*([\d.]+)", card)[1])
    assert mean >= 0.85


def test_no_path_of_the_maker_is_left():
    for file in MODEL_PATH.glob("*.json"):
        assert "/work" not in file.read_text()
        assert "/tmp" not in file.read_text()


def _loss(logits, labels):
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()).item()
