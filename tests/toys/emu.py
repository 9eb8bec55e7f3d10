"""Emu3: an image is quantised to words of the model's own vocabulary; the processor types the opening token itself."""

from __future__ import annotations

from tests.toys import templates
from tests.toys.parts import Toy, byte_tokenizer, text_settings


def emu3() -> Toy:
    """8 pixels per word, an end of line after each row: 20 words for 32 x 32 pixels.

    Every image is brought to that size: where sizes differ, its own padding changes what an image is quantised to.
    """
    from transformers import Emu3Config, Emu3ImageProcessor, Emu3Processor, Emu3TextConfig, Emu3VQVAEConfig

    names = {
        "image_token": "<image>",
        "boi_token": "<|image start|>",
        "eoi_token": "<|image end|>",
        "image_wrapper_token": "<|image token|>",
        "eof_token": "<|extra_201|>",
    }
    words = [f"<|visual token {number:06}|>" for number in range(32)]
    tokenizer = byte_tokenizer(
        ["<|extra_203|>", "<|extra_204|>", "<|endoftext|>", "<|extra_200|>", *words],
        names=names,
        bos_token="<|extra_203|>",
        eos_token="<|extra_204|>",
        pad_token="<|endoftext|>",
    )
    picture = {"codebook_size": 32, "base_channels": 32, "channel_multiplier": [1, 1, 1, 1], "num_res_blocks": 1}
    config = Emu3Config(
        vq_config=Emu3VQVAEConfig(**picture, hidden_size=32, attn_resolutions=[]),
        text_config=Emu3TextConfig(**text_settings(tokenizer, attention_dropout=0.0)),
        vocabulary_map={
            token: tokenizer.convert_tokens_to_ids(token) for token in [*words, "<|extra_200|>", "<image>"]
        },
    )
    images = Emu3ImageProcessor(min_pixels=32 * 32, max_pixels=32 * 32, spatial_factor=32)
    return Toy(config, Emu3Processor(images, tokenizer, chat_template=templates.EMU3))
