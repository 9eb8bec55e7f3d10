"""In: a seed and a size. Out: an embedded LLaVA with random weights, its processor with tokenizer and chat template.

A CLIP tower that gives 16 image tokens, a projector and a Llama of 3 to 5 layers. Every class is transformers' own, so
that the folder loads by the Auto classes like any published model. Nothing here knows how the model is trained.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vlmsift.demo.digits import IMAGE_PIXELS
from vlmsift.demo.questions import QUESTIONS

PATCH = 8
IMAGE_TOKENS = (IMAGE_PIXELS // PATCH) ** 2
LONGEST = 512
"""Tokens of the longest text; the demo's samples have about 50."""
SPECIAL = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "bos_token": "<s>",
    "eos_token": "<|end|>",
    "image_token": "<image>",
    "system_token": "<|system|>",
    "user_token": "<|user|>",
    "assistant_token": "<|assistant|>",
}


@dataclass(frozen=True, slots=True)
class Size:
    """Widths and depths of tower and text model."""

    vision_width: int = 96
    vision_inner: int = 256
    vision_layers: int = 4
    width: int = 128
    inner: int = 320
    layers: int = 5


SIZES = {
    "full": Size(),  # 1.3 million parameters: the embedded model
    "small": Size(64, 160, 3, 80, 184, 4),  # 0.4 million
    "tiny": Size(40, 96, 2, 48, 112, 3),  # 0.13 million
}
"""The small ones are proxies: what scores in the place of the embedded model, at a third and a tenth of its price."""

# Each turn is its role's token, its text and the end token. No blanks stand around the text, so that a question or an
# answer has the same tokens wherever it stands.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' }}"
    "{% if message['content'] is string %}{{ message['content'] | trim }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>\n' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] | trim }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{{ eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def build(
    seed: int = 0, pixels: int = IMAGE_PIXELS, texts: Iterable[str] | None = None, size: Size | None = None
) -> tuple[Any, Any]:
    """The untrained embedded model in evaluation mode, and its processor; the same weights for the same seed.

    Args:
        pixels: side of the square picture, a multiple of 8; (pixels / 8)^2 image tokens.
        texts: what the tokenizer's merges are learnt from; None = the demo's own questions and answers.
        size: widths and depths; None = the embedded model's.

    Returns:
        A `LlavaForConditionalGeneration` and a `LlavaProcessor`.
    """
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    processor, size = build_processor(pixels, texts), size or Size()
    tokenizer = processor.tokenizer
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    vision = CLIPVisionConfig(
        image_size=pixels,
        patch_size=PATCH,
        hidden_size=size.vision_width,
        intermediate_size=size.vision_inner,
        num_hidden_layers=size.vision_layers,
        num_attention_heads=4,
        projection_dim=size.vision_width,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.width,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=LONGEST,
        # The usual 0.02 is meant for far wider models; this narrow one learns faster from larger weights.
        initializer_range=0.05,
        tie_word_embeddings=True,
        **ids,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(SPECIAL["image_token"]),
        image_seq_length=(pixels // PATCH) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
        **ids,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
    return model.eval(), processor


def build_processor(pixels: int = IMAGE_PIXELS, texts: Iterable[str] | None = None) -> Any:
    """The embedded model's `LlavaProcessor`: PIL image backend, byte-level tokenizer, chat template."""
    from transformers import CLIPImageProcessorPil, LlavaProcessor

    images = CLIPImageProcessorPil(
        size={"shortest_edge": pixels},
        crop_size={"height": pixels, "width": pixels},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return LlavaProcessor(
        images,
        build_tokenizer(texts),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        # CLIP's class token, which the "default" strategy drops again.
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def build_tokenizer(texts: Iterable[str] | None = None) -> Any:
    """Byte-level BPE, lossless on any text, with each word of the demo and each decimal digit as one token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    if texts is None:
        shown = ((1, None, 2, None), (None, None, 3, 4))
        answers = [question.answer(values) for question in QUESTIONS for values in shown]
        texts = [question.text for question in QUESTIONS] + answers
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    extra = {name: token for name, token in SPECIAL.items() if name[:3] not in ("pad", "unk", "bos", "eos")}
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        extra_special_tokens=extra,
        padding_side="right",
        model_max_length=LONGEST,
        clean_up_tokenization_spaces=False,
        **{name: token for name, token in SPECIAL.items() if name not in extra},
    )
