"""Gemma3 (images attend both ways, sliding windows), PaliGemma (so does the whole prompt), and Gemma4."""

from __future__ import annotations

from tests.toys import templates
from tests.toys.parts import Toy, byte_tokenizer, text_settings, vision_settings


def gemma3() -> Toy:
    """8 x 8 patches pooled to 16 image tokens; windows of 16 positions around one layer of full attention."""
    from transformers import (
        Gemma3Config,
        Gemma3ImageProcessorPil,
        Gemma3Processor,
        Gemma3TextConfig,
        SiglipVisionConfig,
    )

    side = 64
    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = byte_tokenizer(
        ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"],
        names=names,
        adds_bos=True,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    text = text_settings(
        tokenizer,
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=16,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        tie_word_embeddings=True,
    )
    config = Gemma3Config(
        vision_config=SiglipVisionConfig(**vision_settings(side, vision_use_head=False)),
        text_config=Gemma3TextConfig(**text),
        mm_tokens_per_image=16,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
    )
    processor = Gemma3Processor(
        Gemma3ImageProcessorPil(size={"height": side, "width": side}),
        tokenizer,
        image_seq_length=16,
        chat_template=templates.GEMMA3,
    )
    return Toy(config, processor)


def paligemma() -> Toy:
    """16 image tokens, one key head for four query heads, no chat template; as published."""
    from transformers import (
        GemmaConfig,
        PaliGemmaConfig,
        PaliGemmaProcessor,
        SiglipImageProcessorPil,
        SiglipVisionConfig,
    )

    side = 32
    tokenizer = byte_tokenizer(
        ["<pad>", "<eos>", "<bos>", "<unk>"],
        names={"image_token": "<image>"},
        padding_side="right",
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    image_processor = SiglipImageProcessorPil(size={"height": side, "width": side})
    image_processor.image_seq_length = (side // 8) ** 2
    # before the config: the processor adds 1,152 tokens for places and segments to its tokenizer
    processor = PaliGemmaProcessor(image_processor, tokenizer)
    text = text_settings(tokenizer, num_key_value_heads=1, head_dim=16, tie_word_embeddings=True)
    config = PaliGemmaConfig(
        vision_config=SiglipVisionConfig(**vision_settings(side, vision_use_head=False)),
        text_config=GemmaConfig(**text),
        image_token_index=tokenizer.image_token_id,
        projection_dim=text["hidden_size"],
        hidden_size=text["hidden_size"],
        vocab_size=text["vocab_size"],
    )
    return Toy(config, processor)


def gemma4() -> Toy:
    """About 70 tokens per image, the fewest there are; windows, a soft cap, embeddings given to each layer anew."""
    from transformers import (
        Gemma4AudioFeatureExtractor,
        Gemma4Config,
        Gemma4ImageProcessorPil,
        Gemma4Processor,
        Gemma4TextConfig,
        Gemma4VideoProcessor,
        Gemma4VisionConfig,
    )

    names = {"boi_token": "<|image>", "eoi_token": "<image|>", "image_token": "<|image|>"}
    names |= {"boa_token": "<|audio>", "eoa_token": "<audio|>", "audio_token": "<|audio|>"}
    tokenizer = byte_tokenizer(
        ["<pad>", "<eos>", "<bos>", "<unk>", "<|turn>", "<turn|>"],
        names=names,
        adds_bos=True,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    pixels = {"patch_size": 4, "max_soft_tokens": 70, "pooling_kernel_size": 2}
    processor = Gemma4Processor(
        Gemma4AudioFeatureExtractor(),
        Gemma4ImageProcessorPil(**pixels),
        tokenizer,
        Gemma4VideoProcessor(**pixels),
        chat_template=templates.GEMMA4,
        image_seq_length=70,
    )
    text = text_settings(
        tokenizer,
        head_dim=16,
        global_head_dim=32,
        sliding_window=16,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        tie_word_embeddings=True,
        final_logit_softcapping=3.0,
        hidden_size_per_layer_input=8,
        use_bidirectional_attention="vision",
    )
    text["vocab_size_per_layer_input"] = text["vocab_size"]
    vision = vision_settings(0, head_dim=16, num_key_value_heads=1, patch_size=4, pooling_kernel_size=2)
    vision.pop("image_size")
    config = Gemma4Config(
        vision_config=Gemma4VisionConfig(**vision, position_embedding_size=128),
        text_config=Gemma4TextConfig(**text),
        boi_token_id=tokenizer.boi_token_id,
        eoi_token_id=tokenizer.eoi_token_id,
        image_token_id=tokenizer.image_token_id,
        video_token_id=processor.video_token_id,
        audio_token_id=tokenizer.audio_token_id,
    )
    return Toy(config, processor)
