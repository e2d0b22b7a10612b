"""The small encoders of words and pictures that the families share, and the tokenizers before them."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import sentencepiece
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5Tokenizer,
)

#: What every part that speaks with the denoiser has as its width.
WIDTH = 32
#: Words for SentencePiece to find its pieces in.
_SENTENCES = (
    "a boat moves slowly over the water",
    "clouds drift above the temple while the leaves of the trees tremble",
    "blurry, static, low quality",
)
_T5_PIECES = 60
#: T5 puts these behind the pieces that SentencePiece found.
_T5_EXTRA = 100


def clip_text(vocabulary: int) -> Any:
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    return CLIPTextModel(config)


def clip_image() -> Any:
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=224,
        patch_size=32,
    )
    return CLIPVisionModelWithProjection(config)


def clip_tokenizer() -> Any:
    """CLIP's tokenizer without merges: a symbol for each byte, its word-ending form, and the two specials."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    symbols = [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]
    tokens = [*symbols, *(f"{symbol}</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def write_clip_tokenizer(directory: Path) -> None:
    """Writes CLIP's tokenizer as it was published before tokenizer.json, over what lies there."""
    tokenizer = clip_tokenizer()
    shutil.rmtree(directory)
    directory.mkdir()
    end = "<|endoftext|>"
    specials = {"bos_token": "<|startoftext|>", "eos_token": end, "pad_token": end, "unk_token": end}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True, "errors": "replace"}
    (directory / "vocab.json").write_text(json.dumps(tokenizer.get_vocab()), encoding="utf-8")
    (directory / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (directory / "special_tokens_map.json").write_text(json.dumps(specials), encoding="utf-8")
    (directory / "tokenizer_config.json").write_text(json.dumps({**specials, **config}), encoding="utf-8")


def t5_text(model: Any, config: Any, tokenizer: Any) -> Any:
    """A T5 or UMT5 encoder; as in the published ones, the file holds its embedding once."""
    return model(
        config(
            vocab_size=len(tokenizer),
            d_model=WIDTH,
            d_kv=8,
            d_ff=2 * WIDTH,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
        )
    )


def write_t5_tokenizer(directory: Path) -> Any:
    """Writes a T5 tokenizer as it was published before tokenizer.json: SentencePiece's own file. Returns it, loaded."""
    directory.mkdir(parents=True)
    pieces = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_SENTENCES),
        model_writer=pieces,
        vocab_size=_T5_PIECES,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (directory / "spiece.model").write_bytes(pieces.getvalue())
    found = sentencepiece.SentencePieceProcessor(model_proto=pieces.getvalue()).get_piece_size()
    extra = [f"<extra_id_{index}>" for index in range(_T5_EXTRA)]
    added = {token: found + _T5_EXTRA - 1 - index for index, token in enumerate(extra)}
    (directory / "added_tokens.json").write_text(json.dumps(added))
    specials = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "additional_special_tokens": extra}
    config = {"tokenizer_class": "T5Tokenizer", "extra_ids": _T5_EXTRA, "model_max_length": 226, "legacy": True}
    (directory / "special_tokens_map.json").write_text(json.dumps(specials))
    (directory / "tokenizer_config.json").write_text(json.dumps({**specials, **config}))
    return T5Tokenizer.from_pretrained(directory, local_files_only=True)
