"""DeepSeek-VL, and Janus, whose processor types a system prompt of its own in front of every text."""

from __future__ import annotations

from tests.toys import templates
from tests.toys.parts import Toy, byte_tokenizer, text_settings, vision_settings

SIDE = 32  # of an image, in pixels: 4 x 4 patches, each a token


def _tokenizer(**names: str):
    return byte_tokenizer(
        ["<|begin_of_sentence|>", "<|end_of_sentence|>", "<pad>", "<|User|>", "<|Assistant|>"],
        names={"image_token": "<image_placeholder>", **names},
        adds_bos=True,
        bos_token="<|begin_of_sentence|>",
        eos_token="<|end_of_sentence|>",
        pad_token="<pad>",
    )


def deepseek_vl() -> Toy:
    """16 tokens per image, a Llama."""
    from transformers import (
        DeepseekVLConfig,
        DeepseekVLImageProcessorPil,
        DeepseekVLProcessor,
        LlamaConfig,
        SiglipVisionConfig,
    )

    tokenizer = _tokenizer()
    config = DeepseekVLConfig(
        vision_config=SiglipVisionConfig(**vision_settings(SIDE, vision_use_head=False)),
        text_config=LlamaConfig(**text_settings(tokenizer)),
        image_token_id=tokenizer.image_token_id,
        tie_word_embeddings=False,
    )
    images = DeepseekVLImageProcessorPil(size={"height": SIDE, "width": SIDE})
    return Toy(config, DeepseekVLProcessor(images, tokenizer, templates.DEEPSEEK_VL, num_image_tokens=16))


def janus() -> Toy:
    """As published: the default system prompt stands before the template's text, outside of it."""
    from transformers import (
        JanusConfig,
        JanusImageProcessorPil,
        JanusProcessor,
        JanusVisionConfig,
        JanusVQVAEConfig,
        LlamaConfig,
    )

    tokenizer = _tokenizer(boi_token="<begin_of_image>", eoi_token="<end_of_image>")
    vision = vision_settings(SIDE, projection_dim=64, mlp_ratio=2.0, num_image_tokens=16)
    vision.pop("intermediate_size")
    generator = {"base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1, "latent_channels": 32}
    config = JanusConfig(
        vision_config=JanusVisionConfig(**vision),
        text_config=LlamaConfig(**text_settings(tokenizer)),
        vq_config=JanusVQVAEConfig(num_embeddings=16, projection_dim=64, image_token_embed_dim=64, **generator),
        image_token_id=tokenizer.image_token_id,
        tie_word_embeddings=False,
    )
    images = JanusImageProcessorPil(size={"height": SIDE, "width": SIDE})
    processor = JanusProcessor(images, tokenizer, templates.JANUS, use_default_system_prompt=True, num_image_tokens=16)
    return Toy(config, processor)
