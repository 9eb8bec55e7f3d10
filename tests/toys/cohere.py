"""Aya Vision (tiles named by tokens) and Cohere2 Vision (tiles in lines): layers without a second norm, a LayerNorm."""

from __future__ import annotations

from typing import Any

from tests.toys import templates
from tests.toys.parts import Toy, byte_tokenizer, text_settings, vision_settings

SIDE = 32  # of a tile, in pixels: 4 x 4 patches, 2 x 2 tokens after pixel shuffling


def _tokenizer(**names: str):
    special = ["<PAD>", "<UNK>", "<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>"]
    special += ["<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>", "TILE_GLOBAL"]
    special += ["<|IMG_PATCH|>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", *(f"TILE_{tile}" for tile in range(1, 5))]
    roles = {"bos_token": "<BOS_TOKEN>", "eos_token": "<|END_OF_TURN_TOKEN|>", "pad_token": "<PAD>"}
    return byte_tokenizer(special, names=names, adds_bos=True, unk_token="<UNK>", **roles)


def _text(tokenizer) -> dict[str, Any]:
    """Windows of 16 positions with rotary places, between them a layer of full attention without."""
    layers = ["sliding_attention", "full_attention", "sliding_attention"]
    return text_settings(tokenizer, sliding_window=16, layer_types=layers, tie_word_embeddings=True, logit_scale=0.25)


def aya_vision() -> Toy:
    """Up to 4 tiles and the whole image. Its own class leaves `logit_scale` aside."""
    from transformers import (
        AyaVisionConfig,
        AyaVisionProcessor,
        Cohere2Config,
        GotOcr2ImageProcessor,
        SiglipVisionConfig,
    )

    tokenizer = _tokenizer(image_token="<image>")
    config = AyaVisionConfig(
        vision_config=SiglipVisionConfig(**vision_settings(SIDE, vision_use_head=False)),
        text_config=Cohere2Config(**_text(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"),
    )
    images = GotOcr2ImageProcessor(size={"height": SIDE, "width": SIDE}, crop_to_patches=True, max_patches=4)
    processor = AyaVisionProcessor(
        images, tokenizer, patch_size=8, img_size=SIDE, downsample_factor=2, chat_template=templates.AYA_VISION
    )
    return Toy(config, processor)


def cohere2_vision() -> Toy:
    """Up to 4 tiles, a line break after each."""
    from transformers import (
        Cohere2Config,
        Cohere2VisionConfig,
        Cohere2VisionImageProcessor,
        Cohere2VisionProcessor,
        SiglipVisionConfig,
    )

    tokenizer = _tokenizer(
        image_token="<|IMG_PATCH|>",
        boi_token="<|START_OF_IMG|>",
        eoi_token="<|END_OF_IMG|>",
        img_line_break_token="<|IMG_LINE_BREAK|>",
    )
    config = Cohere2VisionConfig(
        vision_config=SiglipVisionConfig(**vision_settings(SIDE, vision_use_head=False)),
        text_config=Cohere2Config(**_text(tokenizer)),
        image_token_id=tokenizer.image_token_id,
        alignment_intermediate_size=64,
    )
    # `patch_size` is the number of tokens along a tile's side
    images = Cohere2VisionImageProcessor(size={"height": SIDE, "width": SIDE}, max_patches=4, patch_size=2)
    return Toy(config, Cohere2VisionProcessor(images, tokenizer, chat_template=templates.COHERE2_VISION))
