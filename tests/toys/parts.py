"""What all toys share: a byte-level tokenizer, the size of the text model, and the pair that a builder returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast


class Toy(NamedTuple):
    """A builder's result: a PreTrainedConfig of the family, and its processor."""

    config: Any
    processor: Any


# "Ġ" is a space and "Ċ" a line feed in the byte alphabet. The merges make tokens that begin with a space and so can
# straddle the border between a template's "Assistant: " and the answer, as they do in the published tokenizers.
MERGES = [("Ċ", "Ċ"), ("t", "h"), ("Ġ", "th"), ("Ġth", "e"), ("Ġ", "a"), ("i", "n"), ("e", "r"), ("o", "n"), ("Ġ", "1")]


def byte_tokenizer(
    special: Sequence[str],
    *,
    names: Mapping[str, str] | None = None,
    adds_bos: bool = False,
    padding_side: str = "left",
    **roles: str | None,
) -> PreTrainedTokenizerFast:
    """A byte-level BPE over the 256 byte characters and `MERGES`, then the special tokens in the order given.

    Args:
        special: every special token; those in `names` and `roles` are added where they are missing here.
        names: attribute -> token, what a processor reads off its tokenizer, e.g. `image_token`.
        adds_bos: a call to the tokenizer puts the bos token first, as Llama's, Gemma's and Mistral's do.
        padding_side: as published with the family.
        roles: `bos_token`, `eos_token`, `pad_token`, `unk_token`.
    """
    names = dict(names or {})
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*letters, *(a + b for a, b in MERGES)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    roles = {role: token for role, token in roles.items() if token is not None}
    tokens = list(dict.fromkeys([*special, *names.values(), *roles.values()]))
    tokenizer.add_special_tokens(tokens)
    if adds_bos:
        bos = roles["bos_token"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos}:1 $B:1",
            special_tokens=[(bos, tokenizer.token_to_id(bos))],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        extra_special_tokens=names,
        additional_special_tokens=[token for token in tokens if token not in {*names.values(), *roles.values()}],
        model_input_names=["input_ids", "attention_mask"],
        padding_side=padding_side,
        clean_up_tokenization_spaces=False,
        **roles,
    )


def text_settings(tokenizer: PreTrainedTokenizerFast, **changes: Any) -> dict[str, Any]:
    """Keyword arguments of a small text config, asymmetric where a real one is: 3 layers, 4 query heads on 2 key heads.

    The vocabulary is padded to a multiple of 64, as published, so that the head has rows without a token.
    """
    settings = {
        "vocab_size": -(-len(tokenizer) // 64) * 64,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
    }
    return {**settings, **changes}


def vision_settings(image_size: int, **changes: Any) -> dict[str, Any]:
    """Keyword arguments of a small CLIP- or SigLIP-like vision config: patches of 8 pixels, 2 layers of 2 heads."""
    settings = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": image_size,
        "patch_size": 8,
    }
    return {**settings, **changes}
