"""A small SentencePiece vocabulary of SigLIP's kind, as tokenizer.json, and what
transformers' SiglipTokenizer makes of awkward texts with it.

usage: python tests/golden/make_siglip_tokenizer.py [OUT]   (OUT: tests/golden/siglip-tokenizer)

  tokenizer.json   what is published beside a SigLIP
  ids.json         [[text, [id, …]], …]: whole, with the end token and no padding
"""

import io
import json
import sys
import tempfile
from pathlib import Path

import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import SiglipTokenizer

WORDS = """a photo of cat dog red house two trees and the fish blue bird on boat small large
picture drawing black white green car mushroom key apple star umbrella chair butterfly rocket
it is isnt in by this that sea sky café""".split()

TEXTS = ["a photo of a cat", "A Photo of a CAT!", "  two   dogs,\tand\nthe sea ", "isn't it?", "",
         "?!", "café by the sea", "xylophone quartz", "a " * 80, "1 2 33", "the star* (blue)",
         "naïve façade", "house-boat", "日本"]


def main():
    here = Path(__file__).parent
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else here / "siglip-tokenizer"
    out.mkdir(parents=True, exist_ok=True)
    lines = [" ".join(WORDS[(i * k + j) % len(WORDS)] for j in range(7))
             for i in range(60) for k in (1, 7, 11)]
    model = io.BytesIO()
    # The ids of C4's vocabulary: 0 pads, 1 ends, 2 is what is not known.
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=150, model_type="unigram",
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, character_coverage=1.0, num_threads=1,
        hard_vocab_limit=False, minloglevel=2)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    vocab = [(processor.id_to_piece(i), processor.get_score(i))
             for i in range(processor.vocab_size())]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=2, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.save(str(out / "tokenizer.json"))

    with tempfile.NamedTemporaryFile(suffix=".model") as file:
        file.write(model.getvalue())
        file.flush()
        reference = SiglipTokenizer(file.name)
    rows = [[text, reference(text)["input_ids"]] for text in TEXTS]
    (out / "ids.json").write_text(
        "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
