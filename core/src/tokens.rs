//! Text to token ids.

/// A text or a tokenizer that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// A tokenizer that cannot be read.
    #[error("tokenizer.json: {0}")]
    File(String),
}
