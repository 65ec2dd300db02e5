//! A small byte-pair vocabulary in the form of CLIP's own `tokenizer.json`.

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::tokenizer::Trainer;

/// Learns `merges` merges from the captions. As in CLIP every byte is a token,
/// alone and at the end of a word, so that no text is unknown; the two special
/// tokens come last.
///
/// # Errors
/// Where the trainer fails.
pub fn train(captions: impl Iterator<Item = String>, merges: usize) -> Result<String> {
    let captions: Vec<String> = captions.collect();
    let mut trainer = BpeTrainer::builder()
        .end_of_word_suffix("</w>".to_owned())
        .vocab_size(512 + merges)
        .show_progress(false)
        .build();
    let words = |text: &str| Ok(text.split_whitespace().map(str::to_owned).collect());
    let library = |error: tokenizers::Error| anyhow!("training the tokenizer: {error}");
    trainer.feed(captions.iter(), words).map_err(library)?;
    let mut model = BPE::default();
    trainer.train(&mut model).map_err(library)?;
    let model = serde_json::to_value(&model)?;
    let learned = model["merges"]
        .as_array()
        .context("the model has no merges")?;

    let mut tokens = Vec::new();
    for end in ["", "</w>"] {
        tokens.extend(bytes_as_characters().iter().map(|c| format!("{c}{end}")));
    }
    for pair in learned {
        let joined = match pair {
            Value::String(pair) => pair.replace(' ', ""),
            pair => format!(
                "{}{}",
                pair[0].as_str().unwrap_or_default(),
                pair[1].as_str().unwrap_or_default()
            ),
        };
        if !tokens.contains(&joined) {
            tokens.push(joined);
        }
    }
    let (sot, eot) = (tokens.len(), tokens.len() + 1);
    tokens.extend(["<|startoftext|>", "<|endoftext|>"].map(str::to_owned));
    let vocabulary: serde_json::Map<String, Value> = tokens
        .into_iter()
        .enumerate()
        .map(|(id, token)| (token, id.into()))
        .collect();
    Ok(serde_json::to_string(&file(
        &vocabulary,
        learned,
        sot,
        eot,
    ))?)
}

/// The parts around the model are those of the published tokenizer.
fn file(
    vocabulary: &serde_json::Map<String, Value>,
    merges: &[Value],
    sot: usize,
    eot: usize,
) -> Value {
    let special = |id: usize, content: &str| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true,
        })
    };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [special(sot, "<|startoftext|>"), special(eot, "<|endoftext|>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "behavior": "Removed", "invert": true, "pattern": {"Regex":
                "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"}},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "post_processor": {"type": "RobertaProcessing",
            "sep": ["<|endoftext|>", eot], "cls": ["<|startoftext|>", sot],
            "trim_offsets": false, "add_prefix_space": false},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<|endoftext|>",
            "continuing_subword_prefix": "", "end_of_word_suffix": "</w>",
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": merges,
        },
    })
}

/// GPT-2's stand-in character for each byte.
fn bytes_as_characters() -> Vec<char> {
    let mut next = 256u32;
    (0..=255u8)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
            _ => {
                next += 1;
                char::from_u32(next - 1).unwrap_or('?')
            }
        })
        .collect()
}
