"""Llama 4: the whole model is its own base model, experts, attention in chunks, layers without rotary places."""

from __future__ import annotations

from tests.toys import templates
from tests.toys.parts import Toy, byte_tokenizer, text_settings, vision_settings

SIDE = 32  # of a tile, in pixels: 4 x 4 patches, 2 x 2 tokens


def llama4() -> Toy:
    """Up to 4 tiles in rows and columns, then the whole image; chunks of 64 positions."""
    from transformers import (
        Llama4Config,
        Llama4ImageProcessor,
        Llama4Processor,
        Llama4TextConfig,
        Llama4VisionConfig,
    )

    special = ["<|begin_of_text|>", "<|eot|>", "<|pad|>", "<|header_start|>", "<|header_end|>", "<|image|>"]
    special += ["<|image_start|>", "<|image_end|>", "<|patch|>", "<|tile_x_separator|>", "<|tile_y_separator|>"]
    roles = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot|>", "pad_token": "<|pad|>"}
    tokenizer = byte_tokenizer(special, adds_bos=True, **roles)
    sizes = {"vision_output_dim": 64, "projector_input_dim": 64, "projector_output_dim": 64}
    experts = {"num_local_experts": 4, "num_experts_per_tok": 1, "interleave_moe_layer_step": 2}
    config = Llama4Config(
        # the vision adapter works on four patches side by side
        vision_config=Llama4VisionConfig(**vision_settings(SIDE, intermediate_size=128, **sizes)),
        text_config=Llama4TextConfig(
            **text_settings(
                tokenizer,
                head_dim=16,
                intermediate_size_mlp=96,
                attention_chunk_size=64,
                no_rope_layers=[1, 0, 1],
                **experts,
            )
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<|patch|>"),
        boi_token_index=tokenizer.convert_tokens_to_ids("<|image_start|>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<|image_end|>"),
    )
    images = Llama4ImageProcessor(size={"height": SIDE, "width": SIDE}, max_patches=4)
    return Toy(config, Llama4Processor(images, tokenizer, patch_size=8, chat_template=templates.LLAMA4))
