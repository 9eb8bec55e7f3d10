"""Aria: experts in every layer, image tokens drawn from the patches by learned queries."""

from __future__ import annotations

from tests.toys import templates
from tests.toys.parts import Toy, byte_tokenizer, text_settings, vision_settings


def aria() -> Toy:
    """Its processor makes every image 980 pixels wide, so a patch is 140: 49 patches, 4 tokens per image."""
    from transformers import AriaConfig, AriaImageProcessorPil, AriaProcessor, AriaTextConfig, Idefics3VisionConfig

    tokenizer = byte_tokenizer(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<fim_prefix>", "<fim_suffix>", "<unk>", "<s>"],
        names={"image_token": "<|img|>"},
        bos_token="<s>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<unk>",
    )
    experts = {"moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1}
    config = AriaConfig(
        vision_config=Idefics3VisionConfig(**vision_settings(980, patch_size=140)),
        text_config=AriaTextConfig(**text_settings(tokenizer, **experts)),
        image_token_index=tokenizer.image_token_id,
        projector_patch_to_query_dict={49: 4},
    )
    images = AriaImageProcessorPil(max_image_size=980)
    processor = AriaProcessor(images, tokenizer, templates.ARIA, size_conversion={980: 4})
    return Toy(config, processor)
