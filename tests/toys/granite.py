"""Granite 4 Vision: logits divided by a number, features of several vision layers added between the text layers."""

from __future__ import annotations

from tests.toys import templates
from tests.toys.parts import Toy, byte_tokenizer, text_settings, vision_settings

SIDE = 32  # of a tile, in pixels: 4 x 4 patches, 2 x 2 tokens


def granite4_vision() -> Toy:
    """One overview and 2 to 4 tiles; Granite's four multipliers, none of them 1."""
    from transformers import (
        Granite4VisionConfig,
        Granite4VisionProcessor,
        Granite4VisionTextConfig,
        LlavaNextImageProcessorPil,
        SiglipVisionConfig,
    )

    special = ["<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>", "<|pad|>"]
    roles = {"bos_token": "<|end_of_text|>", "eos_token": "<|end_of_text|>", "pad_token": "<|pad|>"}
    tokenizer = byte_tokenizer(special, names={"image_token": "<image>"}, **roles)
    grids = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    multipliers = {"embedding_multiplier": 2.0, "residual_multiplier": 0.5, "attention_multiplier": 0.2}
    config = Granite4VisionConfig(
        vision_config=SiglipVisionConfig(**vision_settings(SIDE, hidden_size=64, vision_use_head=False)),
        text_config=Granite4VisionTextConfig(**text_settings(tokenizer, logits_scaling=4.0, **multipliers)),
        qformer_config={
            "model_type": "blip_2_qformer",
            "num_hidden_layers": 1,
            "intermediate_size": 48,
            "cross_attention_frequency": 1,
            "use_qformer_text_input": False,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
        image_token_index=tokenizer.image_token_id,
        image_grid_pinpoints=grids,
        image_seq_length=4,
        downsample_rate="1/2",
        deepstack_layer_map=[[-1, 0], [-2, 1]],
        spatial_target_layers=[0, 1, 2, 2],
        vision_feature_select_strategy="full",
        projector_dropout=0.0,
    )
    size = {"height": SIDE, "width": SIDE}
    processor = Granite4VisionProcessor(
        LlavaNextImageProcessorPil(size=size, crop_size=size, image_grid_pinpoints=grids),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="full",
        downsample_rate="1/2",
        chat_template=templates.GRANITE4_VISION,
    )
    return Toy(config, processor)
