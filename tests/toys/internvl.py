"""InternVL (the native one): up to 4 tiles and a thumbnail, 4 image tokens each after pixel shuffling; a Qwen2."""

from __future__ import annotations

from tests.toys import templates
from tests.toys.parts import Toy, byte_tokenizer, text_settings, vision_settings

SIDE = 32  # of a tile, in pixels: 4 x 4 patches, 2 x 2 tokens


def internvl() -> Toy:
    """A vision tower with layer scales and a class token, embeddings tied to the head."""
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLProcessor,
        InternVLVideoProcessor,
        Qwen2Config,
    )

    names = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = byte_tokenizer(special, names=names, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    config = InternVLConfig(
        vision_config=vision_settings(SIDE, attention_bias=True),
        text_config=Qwen2Config(**text_settings(tokenizer, tie_word_embeddings=True)),
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=4,
        tie_word_embeddings=True,
    )
    size = {"height": SIDE, "width": SIDE}
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=size, crop_to_patches=True, min_patches=1, max_patches=4),
        tokenizer,
        InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=templates.INTERNVL,
    )
    return Toy(config, processor)
