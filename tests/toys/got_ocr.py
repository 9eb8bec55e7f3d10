"""GOT-OCR 2: a SAM vision tower; the processor takes a flat list of images, and always at least one."""

from __future__ import annotations

from tests.toys import templates
from tests.toys.parts import Toy, byte_tokenizer, text_settings, vision_settings

SIDE = 64  # of an image, in pixels: 8 x 8 patches


def got_ocr2() -> Toy:
    """4 tokens per image after two convolutions of stride 2; windows of 4 patches and one layer over everything."""
    from transformers import (
        GotOcr2Config,
        GotOcr2ImageProcessorPil,
        GotOcr2Processor,
        GotOcr2VisionConfig,
        Qwen2Config,
    )

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<imgpad>"]
    tokenizer = byte_tokenizer(special, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.init_kwargs["num_image_tokens"] = 4  # the one place where its processor lets a checkpoint say so
    vision = vision_settings(SIDE, output_channels=16, mlp_dim=48, window_size=4, global_attn_indexes=[1])
    vision.pop("intermediate_size")
    config = GotOcr2Config(
        vision_config=GotOcr2VisionConfig(**vision),
        text_config=Qwen2Config(**text_settings(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<imgpad>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    images = GotOcr2ImageProcessorPil(size={"height": SIDE, "width": SIDE})
    processor = GotOcr2Processor(images, tokenizer, templates.GOT_OCR2)
    return Toy(config, processor)
