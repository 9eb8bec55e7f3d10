"""Ovis2: an image's tokens are mixtures of a visual vocabulary; rows and columns of tiles are marked by tokens."""

from __future__ import annotations

from tests.toys import templates
from tests.toys.parts import Toy, byte_tokenizer, text_settings, vision_settings

SIDE = 32  # of a tile, in pixels: 4 x 4 patches, 2 x 2 tokens


def ovis2() -> Toy:
    """Up to 4 tiles after the whole image; the mark of an image is another token than those of its features."""
    from transformers import Ovis2Config, Ovis2ImageProcessorPil, Ovis2Processor, Ovis2VisionConfig, Qwen2Config

    marks = ["<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"]
    tokenizer = byte_tokenizer(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<IMG_ATOM>", *marks],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    text = text_settings(tokenizer)
    config = Ovis2Config(
        vision_config=Ovis2VisionConfig(**vision_settings(SIDE, vocab_size=40, hidden_stride=2)),
        text_config=Qwen2Config(**text),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_ATOM>"),
        visual_indicator_token_ids=tokenizer.convert_tokens_to_ids(marks),
        vocab_size=text["vocab_size"],
        hidden_size=text["hidden_size"],
        tie_word_embeddings=False,
    )
    images = Ovis2ImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, crop_to_patches=True, min_patches=1, max_patches=4
    )
    return Toy(config, Ovis2Processor(images, tokenizer, templates.OVIS2, image_seq_length=4))
