//! Text to token ids, as the tokenizers of CLIP and SigLIP make them.

mod language;

use std::borrow::Cow;

pub use language::TextTokenizer;
use tokenizers::Tokenizer as Inner;

/// A text or a tokenizer that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// A tokenizer that cannot be read.
    #[error("tokenizer.json: {0}")]
    File(String),
    /// A text that cannot be encoded.
    #[error("the text could not be encoded: {0}")]
    Text(String),
}

/// One text as ids: start (CLIP has one, SigLIP none), the text, end; no
/// padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// At most `context` ids.
    pub ids: Vec<u32>,
    /// Place of the first end-of-text id, where the text tower is read.
    pub eot: usize,
    /// The text was longer than the context and was cut.
    pub truncated: bool,
}

/// CLIP's byte-pair encoder or SigLIP's SentencePiece.
pub struct Tokenizer {
    inner: Inner,
    sot: Option<u32>,
    eot: u32,
    context: usize,
}

/// What CLIP calls the start and the end of a text.
const SPECIALS: [&str; 2] = ["<|startoftext|>", "<|endoftext|>"];
/// What SigLIP calls the end of a text.
const END: &str = "</s>";

/// T5's tokenizer, which SigLIP's was published as, has such tokens beyond the
/// vocabulary of its model; no text without punctuation is made of them.
const SPARE: &str = "<extra_id_";

/// No token of a byte-pair vocabulary is made of more characters than this
/// (the longest of CLIP's is 31 long); a word is at least one character and a
/// blank. What lies beyond `context` times this many characters of a text
/// cannot reach the first `context` tokens.
const LONGEST_TOKEN: usize = 256;

impl Tokenizer {
    /// Reads a `tokenizer.json` for texts of up to `context` tokens.
    ///
    /// # Errors
    /// Where it is no tokenizer or has the special tokens of neither family.
    pub fn from_json(json: &[u8], context: usize) -> Result<Self, TokenError> {
        let mut inner =
            Inner::from_bytes(json).map_err(|error| TokenError::File(error.to_string()))?;
        // Ours to do: the end is kept when a text is cut, and nothing is padded.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| TokenError::File(error.to_string()))?;
        let [sot, eot] = SPECIALS.map(|token| inner.token_to_id(token));
        let (sot, eot) = match (sot, eot, inner.token_to_id(END)) {
            (Some(sot), Some(eot), _) => (Some(sot), eot),
            (_, _, Some(eot)) => (None, eot),
            _ => {
                return Err(TokenError::File(format!(
                    "expected CLIP's tokens {} or SigLIP's {END}, which are not there",
                    SPECIALS.join(" and ")
                )));
            }
        };
        if context < 2 {
            return Err(TokenError::File(format!(
                "a context of {context} has no room for start and end"
            )));
        }
        Ok(Self {
            inner,
            sot,
            eot,
            context,
        })
    }

    /// Number of tokens that a text can be made of.
    pub fn vocab_size(&self) -> usize {
        let all = self.inner.get_vocab_size(true);
        let added = self.inner.get_added_tokens_decoder();
        let spare = added.values().filter(|t| t.content.starts_with(SPARE));
        all - spare.count()
    }

    /// Longest text in tokens, start and end included.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Encodes a text. One that is too long is cut and keeps its end token,
    /// as open_clip and OpenAI's `truncate=True` do.
    ///
    /// # Errors
    /// Where the tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Tokens, TokenError> {
        let mut text = Cow::Borrowed(self.head(text));
        if self.sot.is_none() {
            text = Cow::Owned(canonicalize(&text));
        }
        let encoding = self
            .inner
            .encode_fast(text.as_ref(), false)
            .map_err(|error| TokenError::Text(error.to_string()))?;
        let body = encoding.get_ids();
        let room = self.context - 1 - usize::from(self.sot.is_some());
        let mut ids = Vec::with_capacity(body.len().min(room) + 2);
        ids.extend(self.sot);
        ids.extend(body.iter().take(room));
        ids.push(self.eot);
        let eot = ids.iter().position(|&id| id == self.eot);
        Ok(Tokens {
            eot: eot.unwrap_or(ids.len() - 1),
            ids,
            truncated: body.len() > room,
        })
    }

    /// As much of the text as can matter, cut between words where there are
    /// any: encoding is then bounded whatever is pasted.
    fn head<'a>(&self, text: &'a str) -> &'a str {
        let text = text.trim_start();
        let limit = self.context * LONGEST_TOKEN;
        match text.char_indices().nth(limit) {
            None => text,
            Some((end, _)) => {
                let head = &text[..end];
                head.rfind(char::is_whitespace)
                    .map_or(head, |cut| &head[..cut])
            }
        }
    }
}

/// What SigLIP's texts were put through before they were tokenised: lower
/// case, no punctuation, single blanks (`canonicalize_text` of big_vision and
/// open_clip).
fn canonicalize(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c == '_' { ' ' } else { c })
        .filter(|c| !c.is_ascii_punctuation())
        .collect();
    let words: Vec<String> = plain.split_whitespace().map(str::to_lowercase).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::canonicalize;

    #[test]
    fn siglip_reads_words_alone() {
        let text = "  A photo_of\ta \"Cat\", isn't it?! \u{c9}t\u{e9}\n";
        assert_eq!(canonicalize(text), "a photo of a cat isnt it \u{e9}t\u{e9}");
        assert_eq!(canonicalize("?!"), "");
    }
}
