"""LLaVA and ViP-LLaVA (one square image), LLaVA-NeXT and LLaVA-OneVision (tiles chosen by the image's shape)."""

from __future__ import annotations

from tests.toys import templates
from tests.toys.parts import Toy, byte_tokenizer, text_settings, vision_settings

SIDE = 32  # of one tile, in pixels: 4 x 4 patches


def _llama_tokenizer():
    names = {"image_token": "<image>"}
    roles = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return byte_tokenizer(["<unk>", "<s>", "</s>"], names=names, adds_bos=True, **roles)


def _square_processor(chat_template):
    """Of one square image, as LLaVA-1.5's."""
    from transformers import CLIPImageProcessorPil, LlavaProcessor

    return LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}),
        _llama_tokenizer(),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template,
    )


def llava() -> Toy:
    """CLIP without its class token, 16 image tokens, a Llama; as LLaVA-1.5."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    processor = _square_processor(templates.LLAVA)
    tokenizer = processor.tokenizer
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**vision_settings(SIDE, num_hidden_layers=3, projection_dim=32)),
        text_config=LlamaConfig(**text_settings(tokenizer)),
        image_token_index=tokenizer.image_token_id,
        image_seq_length=(SIDE // 8) ** 2,
    )
    return Toy(config, processor)


def vipllava() -> Toy:
    """Features of two vision layers side by side, class token dropped; nothing special ends a turn."""
    from transformers import CLIPVisionConfig, LlamaConfig, VipLlavaConfig

    processor = _square_processor(templates.VIPLLAVA)
    tokenizer = processor.tokenizer
    config = VipLlavaConfig(
        vision_config=CLIPVisionConfig(**vision_settings(SIDE, num_hidden_layers=3, projection_dim=32)),
        text_config=LlamaConfig(**text_settings(tokenizer)),
        image_token_index=tokenizer.image_token_id,
        vision_feature_layers=[-2, 1],
        image_seq_length=(SIDE // 8) ** 2,
    )
    return Toy(config, processor)


def llava_next() -> Toy:
    """One overview and 2 to 4 tiles, unpadded, with a learned vector at each line's end; a Mistral as in v1.6."""
    from transformers import (
        CLIPVisionConfig,
        LlavaNextConfig,
        LlavaNextImageProcessorPil,
        LlavaNextProcessor,
        MistralConfig,
    )

    tokenizer = _llama_tokenizer()
    grids = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE], [3 * SIDE, SIDE], [SIDE, 3 * SIDE]]
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**vision_settings(SIDE, num_hidden_layers=3, projection_dim=32)),
        text_config=MistralConfig(**text_settings(tokenizer, sliding_window=None)),
        image_token_index=tokenizer.image_token_id,
        image_grid_pinpoints=grids,
        image_seq_length=(SIDE // 8) ** 2,
    )
    processor = LlavaNextProcessor(
        LlavaNextImageProcessorPil(
            size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=grids
        ),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=templates.LLAVA_NEXT,
    )
    return Toy(config, processor)


def llava_onevision() -> Toy:
    """SigLIP, up to 3 x 3 tiles shrunk to the area of 4, whole images where a sample has several; a Qwen2."""
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionImageProcessor,
        LlavaOnevisionProcessor,
        LlavaOnevisionVideoProcessor,
        Qwen2Config,
        SiglipVisionConfig,
    )

    tokenizer = byte_tokenizer(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        names={"image_token": "<image>", "video_token": "<video>"},
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    grids = [[SIDE * rows, SIDE * columns] for rows in (1, 2, 3) for columns in (1, 2, 3)]
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**vision_settings(SIDE, vision_use_head=False)),
        text_config=Qwen2Config(**text_settings(tokenizer)),
        image_token_index=tokenizer.image_token_id,
        video_token_index=tokenizer.video_token_id,
        image_grid_pinpoints=grids,
        vision_aspect_ratio="anyres_max_4",
    )
    size = {"height": SIDE, "width": SIDE}
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=grids),
        tokenizer,
        LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=(SIDE // 8) ** 2,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_4",
        chat_template=templates.LLAVA_ONEVISION,
    )
    return Toy(config, processor)
