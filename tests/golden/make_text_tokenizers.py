"""Small tokenizers of language models as they are published, and what
transformers makes of awkward texts with them.

usage: python tests/golden/make_text_tokenizers.py [OUT]   (OUT: tests/golden/text-tokenizers)

  opt/vocab.json, opt/merges.txt   byte-level BPE, as OPT has it: no tokenizer.json
  opt/ids.json                     [[text, [id, ...]], ...] of GPT2Tokenizer, with flamingo-mini's
                                   `<EOC>` added; without a start token
  llama/tokenizer.json             SentencePiece BPE with bytes for what it does not know, and
                                   IDEFICS's two tokens
  llama/ids.json                   the same of LlamaTokenizerFast
"""

import io
import json
import sys
import tempfile
from pathlib import Path

import sentencepiece
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Tokenizer, LlamaTokenizerFast

WORDS = """a photo of cat dog red house two trees and the fish blue bird on boat Output Question
Short answer how many are there what is this isn't User Assistant""".split()
LINES = [" ".join(WORDS[(i * k + j) % len(WORDS)] for j in range(9))
         for i in range(60) for k in (1, 7, 11)]

TEXTS = ["a photo of a cat", " a photo", "  two   dogs,\tand\n\nthe sea ", "isn't it?", "",
         "Output:two fish", "Question:how many? Short answer: 12345", "café naïve", "日本 🐱",
         "a\r\nb", "User:what is this?\nAssistant:"]


def write(path, reference, texts):
    rows = [[text, reference(text, add_special_tokens=False)["input_ids"]] for text in texts]
    path.write_text(
        "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n")


def opt(out):
    out.mkdir(parents=True, exist_ok=True)
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(LINES, vocab_size=330, show_progress=False,
                                special_tokens=["<s>", "<pad>", "</s>", "<unk>"])
    trained.save_model(str(out))
    reference = GPT2Tokenizer(str(out / "vocab.json"), str(out / "merges.txt"), bos_token="</s>",
                              eos_token="</s>", unk_token="</s>", pad_token="<pad>")
    reference.add_tokens("<EOC>", special_tokens=True)
    write(out / "ids.json", reference,
          TEXTS + ["</s><image>a cat<EOC></s>", "a <image> b", "Output: a dog<EOC><image>"])


def llama(out):
    out.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=model, vocab_size=400, model_type="bpe",
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, byte_fallback=True, split_digits=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, num_threads=1,
        hard_vocab_limit=False, minloglevel=2)
    with tempfile.NamedTemporaryFile(suffix=".model") as file:
        file.write(model.getvalue())
        file.flush()
        reference = LlamaTokenizerFast(vocab_file=file.name)
    picture = ["<fake_token_around_image>", "<image>"]
    reference.add_special_tokens({"additional_special_tokens": picture})
    reference.backend_tokenizer.save(str(out / "tokenizer.json"))
    around = picture[0] + picture[1] + picture[0]
    write(out / "ids.json", reference,
          TEXTS + [f"<s>{around}Output:a cat\n{around}Output:", f"<s>User:{around}what is this?"])


def main():
    here = Path(__file__).parent
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else here / "text-tokenizers"
    opt(out / "opt")
    llama(out / "llama")


if __name__ == "__main__":
    main()
