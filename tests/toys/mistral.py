"""Mistral3 (Pixtral's vision tower, 2 x 2 patches merged) and Pixtral itself (a LlavaConfig, no merging)."""

from __future__ import annotations

from tests.toys import templates
from tests.toys.parts import Toy, byte_tokenizer, text_settings, vision_settings


def _tokenizer():
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]"]
    special += ["[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"]
    roles = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return byte_tokenizer(special, adds_bos=True, padding_side="right", **roles)


def _processor(tokenizer, longest_edge: int, merge: int):
    from transformers import PixtralImageProcessor, PixtralProcessor

    return PixtralProcessor(
        PixtralImageProcessor(size={"longest_edge": longest_edge}, patch_size={"height": 8, "width": 8}),
        tokenizer,
        patch_size=8,
        spatial_merge_size=merge,
        chat_template=templates.MISTRAL3,
    )


def mistral3() -> Toy:
    """Up to 4 x 4 image tokens, a break after each line; heads wider in sum (64) than the hidden states (48)."""
    from transformers import Mistral3Config, MistralConfig, PixtralVisionConfig

    tokenizer = _tokenizer()
    text = text_settings(tokenizer, hidden_size=48, head_dim=16, sliding_window=None)
    config = Mistral3Config(
        vision_config=PixtralVisionConfig(**vision_settings(64)),
        text_config=MistralConfig(**text),
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
        tie_word_embeddings=False,
    )
    return Toy(config, _processor(tokenizer, longest_edge=64, merge=2))


def pixtral() -> Toy:
    """Up to 4 x 4 patches, each an image token, inside the LLaVA classes."""
    from transformers import LlavaConfig, MistralConfig, PixtralVisionConfig

    tokenizer = _tokenizer()
    config = LlavaConfig(
        vision_config=PixtralVisionConfig(**vision_settings(32)),
        text_config=MistralConfig(**text_settings(tokenizer, sliding_window=None)),
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_seq_length=1,
    )
    return Toy(config, _processor(tokenizer, longest_edge=32, merge=1))
