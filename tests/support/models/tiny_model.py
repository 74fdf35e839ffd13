"""Write a language model that llama.cpp really runs: half a megabyte of random numbers that never ends its answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType

WORDS = 1000
# Enough layers for some hundred words a second, not thousands, so that there is time to stop an answer.
_LAYERS = 24
_WIDTH = 16
_CONTEXT = 4096


def write_tiny_model(file: Path) -> Path:
    """Write the model and return the file. It is always the same; its words are " w0" to " w999"."""
    random = np.random.default_rng(1)
    writer = GGUFWriter(file, "llama")
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(2 * _WIDTH)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    silent_tokens, tokens = _add_vocabulary(writer)
    _add(writer, "token_embd", random.normal(size=(tokens, _WIDTH)))
    output = random.normal(size=(tokens, _WIDTH))
    # Zero is never among the best of a thousand, so neither "end" nor half a character is chosen.
    output[:silent_tokens] = 0
    _add(writer, "output", output)
    _add(writer, "output_norm", np.ones(_WIDTH))
    for layer in range(_LAYERS):
        _add_layer(writer, f"blk.{layer}", random)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add_vocabulary(writer: GGUFWriter) -> tuple[int, int]:
    """Add the tokens; return how many precede the words, and how many there are."""
    special = [("<unk>", TokenType.UNKNOWN), ("<s>", TokenType.CONTROL), ("</s>", TokenType.CONTROL)]
    letters = [(f"<0x{byte:02X}>", TokenType.BYTE) for byte in range(256)]
    words = [(f"\u2581w{number}", TokenType.NORMAL) for number in range(WORDS)]
    tokens = [*special, *letters, *words]
    writer.add_tokenizer_model("llama")
    writer.add_vocab_size(len(tokens))
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    return len(special) + len(letters), len(tokens)


def _add_layer(writer: GGUFWriter, name: str, random: np.random.Generator) -> None:
    for norm in ("attn_norm", "ffn_norm"):
        _add(writer, f"{name}.{norm}", np.ones(_WIDTH))
    for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
        _add(writer, f"{name}.{part}", random.normal(scale=0.2, size=(_WIDTH, _WIDTH)))
    for part in ("ffn_gate", "ffn_up"):
        _add(writer, f"{name}.{part}", random.normal(scale=0.2, size=(2 * _WIDTH, _WIDTH)))
    _add(writer, f"{name}.ffn_down", random.normal(scale=0.2, size=(_WIDTH, 2 * _WIDTH)))


def _add(writer: GGUFWriter, name: str, numbers: np.ndarray) -> None:
    writer.add_tensor(f"{name}.weight", numbers.astype(np.float32))
