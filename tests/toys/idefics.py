"""SmolVLM and Idefics3 (rows and columns of tiles named by tokens, then the whole image) and Idefics2 (a resampler)."""

from __future__ import annotations

from tests.toys import templates
from tests.toys.parts import Toy, byte_tokenizer, text_settings, vision_settings

SIDE = 32  # of a tile, in pixels: 4 x 4 patches, 2 x 2 tokens after pixel shuffling
PLACES = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]


def smolvlm() -> Toy:
    """At most 2 x 2 tiles of 4 tokens and the whole image."""
    from transformers import (
        LlamaConfig,
        SmolVLMConfig,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    names = {
        "fake_image_token": "<fake_token_around_image>",
        "image_token": "<image>",
        "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
    }
    tokenizer = byte_tokenizer(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *PLACES],
        names=names,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
    )
    config = SmolVLMConfig(
        vision_config=vision_settings(SIDE),
        text_config=LlamaConfig(**text_settings(tokenizer, hidden_size=48, head_dim=12, tie_word_embeddings=True)),
        image_token_id=tokenizer.image_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
        scale_factor=2,
    )
    sizes = {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}}
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(**sizes),
        tokenizer,
        SmolVLMVideoProcessor(**sizes),
        image_seq_len=4,
        chat_template=templates.SMOLVLM,
    )
    return Toy(config, processor)


def idefics3() -> Toy:
    """At most 3 x 3 tiles of 4 tokens and the whole image; the tokenizer puts a bos token before everything."""
    from transformers import Idefics3Config, Idefics3ImageProcessorPil, Idefics3Processor, LlamaConfig

    tokenizer = byte_tokenizer(
        [
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<fake_token_around_image>",
            "<image>",
            "<end_of_utterance>",
            "<global-img>",
            *PLACES,
        ],
        adds_bos=True,
        bos_token="<|begin_of_text|>",
        eos_token="<end_of_utterance>",
        pad_token="<|end_of_text|>",
    )
    config = Idefics3Config(
        vision_config=vision_settings(SIDE),
        text_config=LlamaConfig(**text_settings(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        scale_factor=2,
    )
    processor = Idefics3Processor(
        Idefics3ImageProcessorPil(size={"longest_edge": 3 * SIDE}, max_image_size={"longest_edge": SIDE}),
        tokenizer,
        image_seq_len=4,
        chat_template=templates.IDEFICS3,
    )
    return Toy(config, processor)


def idefics2() -> Toy:
    """3 tokens for each of four quarters and the whole image; its processor keeps no account of what it replaced."""
    from transformers import Idefics2Config, Idefics2ImageProcessorPil, Idefics2Processor, MistralConfig

    tokenizer = byte_tokenizer(
        ["<unk>", "<s>", "</s>", "<fake_token_around_image>", "<image>", "<end_of_utterance>"],
        adds_bos=True,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<unk>",
    )
    images = Idefics2ImageProcessorPil(size={"shortest_edge": SIDE, "longest_edge": 2 * SIDE}, do_image_splitting=True)
    processor = Idefics2Processor(images, tokenizer, image_seq_len=3, chat_template=templates.IDEFICS2)
    resampler = {"resampler_n_latents": 3, "resampler_depth": 1, "resampler_n_heads": 2, "resampler_head_dim": 16}
    config = Idefics2Config(
        vision_config=vision_settings(2 * SIDE),
        perceiver_config={**resampler, "num_key_value_heads": 1, "hidden_size": 64},
        text_config=MistralConfig(**text_settings(tokenizer, sliding_window=None)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    return Toy(config, processor)
