"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: images of any shape, rotary positions in three rows (time, height, width)."""

from __future__ import annotations

from tests.toys import templates
from tests.toys.parts import Toy, byte_tokenizer, text_settings

# A patch is 8 pixels wide and 2 x 2 patches make a token, so these allow 4 to 16 tokens per image.
PIXELS = {"min_pixels": 32 * 32, "max_pixels": 64 * 64, "patch_size": 8, "merge_size": 2}


def _tokenizer():
    names = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_start_token": "<|vision_start|>",
        "vision_end_token": "<|vision_end|>",
    }
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return byte_tokenizer(special, names=names, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def _token_ids(tokenizer) -> dict[str, int]:
    return {
        "image_token_id": tokenizer.image_token_id,
        "video_token_id": tokenizer.video_token_id,
        "vision_start_token_id": tokenizer.vision_start_token_id,
        "vision_end_token_id": tokenizer.vision_end_token_id,
    }


def _rope(sections: list[int], **more: object) -> dict[str, object]:
    # the sections add up to half of the head's 16
    return {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections, **more}


def qwen2_vl() -> Toy:
    """Biases on queries, keys and values; a head of its own."""
    from transformers import (
        Qwen2VLConfig,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = _tokenizer()
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2, "num_heads": 2, "patch_size": 8}
    config = Qwen2VLConfig(
        vision_config=vision,
        text_config=text_settings(tokenizer, rope_parameters=_rope([2, 3, 3])),
        **_token_ids(tokenizer),
    )
    video = Qwen2VLVideoProcessor(**PIXELS)
    processor = Qwen2VLProcessor(Qwen2VLImageProcessor(**PIXELS), tokenizer, video, chat_template=templates.QWEN2_VL)
    return Toy(config, processor)


def qwen2_5_vl() -> Toy:
    """A vision tower with windows of 2 x 2 tokens and one layer over everything; embeddings tied to the head."""
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = _tokenizer()
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "patch_size": 8,
        "out_hidden_size": 64,
        "window_size": 32,
        "fullatt_block_indexes": [1],
    }
    config = Qwen2_5_VLConfig(
        vision_config=vision,
        text_config=text_settings(tokenizer, rope_parameters=_rope([2, 3, 3]), tie_word_embeddings=True),
        tie_word_embeddings=True,
        **_token_ids(tokenizer),
    )
    video = Qwen2VLVideoProcessor(**PIXELS)
    processor = Qwen2_5_VLProcessor(Qwen2VLImageProcessor(**PIXELS), tokenizer, video, chat_template=templates.QWEN2_VL)
    return Toy(config, processor)


def qwen3_vl() -> Toy:
    """Visual features enter again after text layers 0 and 1 of 5; rotary sections interleaved; norms on q and k."""
    from transformers import Qwen3VLConfig, Qwen3VLProcessor

    return _qwen3(Qwen3VLConfig, Qwen3VLProcessor)


def qwen3_vl_moe() -> Toy:
    """Two of four experts for each token, in every layer."""
    from transformers import Qwen3VLMoeConfig, Qwen3VLProcessor

    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    return _qwen3(Qwen3VLMoeConfig, Qwen3VLProcessor, **experts)


def _qwen3(config_class, processor_class, **more: object) -> Toy:
    from transformers import Qwen2VLImageProcessor, Qwen3VLVideoProcessor

    tokenizer = _tokenizer()
    vision = {
        "depth": 3,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "patch_size": 8,
        "out_hidden_size": 48,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0, 1],
    }
    text = text_settings(
        tokenizer,
        num_hidden_layers=5,
        hidden_size=48,
        head_dim=16,
        rope_parameters=_rope([4, 2, 2], mrope_interleaved=True),
        **more,
    )
    config = config_class(vision_config=vision, text_config=text, **_token_ids(tokenizer))
    images, video = Qwen2VLImageProcessor(**PIXELS), Qwen3VLVideoProcessor(**PIXELS)
    return Toy(config, processor_class(images, tokenizer, video, chat_template=templates.QWEN3_VL))
