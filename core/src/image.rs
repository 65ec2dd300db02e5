//! Pictures and their preparation for a model.

/// A picture that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// No pixels, or not as many as the sides say.
    #[error("picture: {0}")]
    Size(String),
    /// A preprocessing configuration that cannot be followed.
    #[error("preprocessor_config.json: {0}")]
    Config(String),
}
