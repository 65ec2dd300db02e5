//! The tokenizer of a language model: text to ids and back.

use std::collections::BTreeMap;

use serde_json::json;
use tokenizers::{AddedToken, Tokenizer as Inner};

use super::TokenError;

/// Tokens of GPT-2's and OPT's vocabularies that stand for nothing in a text.
const SPECIAL: [&str; 3] = ["<pad>", "</s>", "<|endoftext|>"];

/// A language model's tokenizer, added tokens included.
pub struct TextTokenizer {
    inner: Inner,
}

impl TextTokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// Where it is no tokenizer.
    pub fn from_json(json: &[u8]) -> Result<Self, TokenError> {
        let file = |error: tokenizers::Error| TokenError::File(error.to_string());
        let mut inner = Inner::from_bytes(json).map_err(file)?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(file)?;
        Ok(Self { inner })
    }

    /// A `tokenizer.json` with further special tokens, which those that are
    /// there already are not, at the end of its vocabulary.
    ///
    /// # Errors
    /// Where it is no tokenizer.
    pub fn with_special(json: &[u8], tokens: &[&str]) -> Result<String, TokenError> {
        let file = |error: tokenizers::Error| TokenError::File(error.to_string());
        let mut inner = Inner::from_bytes(json).map_err(file)?;
        let token = |token: &&str| AddedToken::from(token.to_string(), true);
        let added = inner.add_special_tokens(tokens.iter().map(token).collect::<Vec<_>>());
        added.map_err(file)?;
        inner.to_string(false).map_err(file)
    }

    /// The `tokenizer.json` of a byte-level BPE that was published as
    /// `vocab.json` and `merges.txt`, as GPT-2's and OPT's are
    /// (`tokenization_gpt2.py`). It puts no token before a text.
    ///
    /// # Errors
    /// Where the vocabulary is no JSON, or CLIP's, which ends its words otherwise.
    pub fn json_of_bpe(vocab: &str, merges: &str) -> Result<String, TokenError> {
        let vocab: BTreeMap<String, u32> = serde_json::from_str(vocab)
            .map_err(|error| TokenError::File(format!("vocab.json: {error}")))?;
        if vocab.keys().any(|token| token.ends_with("</w>")) {
            return Err(TokenError::File(
                "vocab.json is that of a CLIP: take the tokenizer.json published with it".into(),
            ));
        }
        let merges: Vec<&str> = merges
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with("#version"))
            .collect();
        let special = |&token: &&str| {
            let id = vocab.get(token)?;
            Some(json!({
                "id": id, "content": token, "special": true, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false,
            }))
        };
        let bytes = || {
            json!({
                "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                "use_regex": true,
            })
        };
        let tokenizer = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": SPECIAL.iter().filter_map(special).collect::<Vec<_>>(),
            "normalizer": null,
            "pre_tokenizer": bytes(),
            "post_processor": null,
            "decoder": bytes(),
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null,
                "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": false,
                "byte_fallback": false, "ignore_merges": false,
                "vocab": vocab, "merges": merges,
            },
        });
        Ok(tokenizer.to_string())
    }

    /// The ids of a text. `whole`: with what the tokenizer puts before a text,
    /// such as a start token; not so for what goes on from another.
    ///
    /// # Errors
    /// Where the tokenizer fails.
    pub fn encode(&self, text: &str, whole: bool) -> Result<Vec<u32>, TokenError> {
        let encoding = self.inner.encode_fast(text, whole);
        let encoding = encoding.map_err(|error| TokenError::Text(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// As [`TextTokenizer::encode`]: each id, and the byte of the text at which
    /// it begins; none where it stands for nothing of the text.
    ///
    /// # Errors
    /// Where the tokenizer fails.
    pub fn places(&self, text: &str, whole: bool) -> Result<Vec<(u32, Option<usize>)>, TokenError> {
        let encoding = self.inner.encode(text, whole);
        let encoding = encoding.map_err(|error| TokenError::Text(error.to_string()))?;
        let places = encoding.get_offsets().iter();
        let places = places.map(|&(start, end)| (start < end).then_some(start));
        Ok(encoding.get_ids().iter().copied().zip(places).collect())
    }

    /// The text of ids, without special tokens. A character that is not whole
    /// yet shows as U+FFFD at the end.
    ///
    /// # Errors
    /// Where the tokenizer fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenError> {
        let text = self.inner.decode(ids, true);
        text.map_err(|error| TokenError::Text(error.to_string()))
    }

    /// How many tokens there are, added ones included.
    pub fn size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id of a token, if there is such a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }
}
