//! Text to token ids, as CLIP's tokenizer makes them.

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

/// One text as ids: start, the text, end; no padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// At most `context` ids.
    pub ids: Vec<u32>,
    /// Place of the first end-of-text id, where the text tower is read.
    pub eot: usize,
    /// The text was longer than the context and was cut.
    pub truncated: bool,
}

/// CLIP's byte-pair encoder.
pub struct Tokenizer {
    inner: Inner,
    sot: u32,
    eot: u32,
    context: usize,
}

/// What CLIP calls the start and the end of a text.
const SPECIALS: [&str; 2] = ["<|startoftext|>", "<|endoftext|>"];

/// No token of a byte-pair vocabulary is made of more characters than this
/// (the longest of CLIP's is 31 long); a word is at least one character and a
/// blank. What lies beyond `context` times this many characters of a text
/// cannot reach the first `context` tokens.
const LONGEST_TOKEN: usize = 256;

impl Tokenizer {
    /// Reads a `tokenizer.json` for texts of up to `context` tokens.
    ///
    /// # Errors
    /// Where it is no tokenizer or lacks CLIP's two special tokens.
    pub fn from_json(json: &[u8], context: usize) -> Result<Self, TokenError> {
        let mut inner =
            Inner::from_bytes(json).map_err(|error| TokenError::File(error.to_string()))?;
        // Ours to do: the end is kept when a text is cut, and nothing is padded.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| TokenError::File(error.to_string()))?;
        let [sot, eot] = SPECIALS.map(|token| {
            inner.token_to_id(token).ok_or_else(|| {
                TokenError::File(format!("expected CLIP's token {token}, which is not there"))
            })
        });
        let (sot, eot) = (sot?, eot?);
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

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
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
        let text = self.head(text);
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| TokenError::Text(error.to_string()))?;
        let body = encoding.get_ids();
        let room = self.context - 2;
        let mut ids = Vec::with_capacity(body.len().min(room) + 2);
        ids.push(self.sot);
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
