"""GLM-4V: images of any shape, four norms per layer, half of each head rotated."""

from __future__ import annotations

from tests.toys import templates
from tests.toys.parts import Toy, byte_tokenizer, text_settings


def glm4v() -> Toy:
    """4 to 16 tokens per image; no pad token of its own kind, one key head for two query heads."""
    from transformers import (
        Glm4vConfig,
        Glm4vImageProcessorPil,
        Glm4vProcessor,
        Glm4vTextConfig,
        Glm4vVideoProcessor,
        Glm4vVisionConfig,
    )

    special = ["<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>"]
    marks = [f"<|{edge}_of_{kind}|>" for kind in ("image", "video") for edge in ("begin", "end")]
    tokenizer = byte_tokenizer(
        [*special, *marks, "<|image|>", "<|video|>"], eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    names = ("image_start", "image_end", "video_start", "video_end")
    ids = dict(zip((f"{name}_token_id" for name in names), tokenizer.convert_tokens_to_ids(marks), strict=True))
    vision = {"depth": 2, "hidden_size": 32, "num_heads": 2, "image_size": 64, "patch_size": 8}
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1], "partial_rotary_factor": 0.5}
    config = Glm4vConfig(
        vision_config=Glm4vVisionConfig(**vision, out_hidden_size=64, intermediate_size=48),
        text_config=Glm4vTextConfig(**text_settings(tokenizer, rope_parameters=rope)),
        image_token_id=tokenizer.convert_tokens_to_ids("<|image|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video|>"),
        **ids,
    )
    sizes = {"size": {"shortest_edge": 2 * 32 * 32, "longest_edge": 2 * 64 * 64}, "patch_size": 8, "merge_size": 2}
    processor = Glm4vProcessor(
        Glm4vImageProcessorPil(**sizes), tokenizer, Glm4vVideoProcessor(**sizes), chat_template=templates.GLM4V
    )
    return Toy(config, processor)
