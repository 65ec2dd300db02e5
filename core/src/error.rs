//! What can go wrong in the core, each said once: what was expected, what
//! came, and what to do.

/// The result of anything in the core that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a device cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// There is no adapter that fits.
    #[error("no WebGPU adapter: {0}; compute on the CPU instead")]
    NoAdapter(String),
    /// The device was there and is gone.
    #[error("the GPU was lost ({0}); load the model again, or compute on the CPU")]
    Lost(String),
    /// An allocation failed.
    #[error(
        "the GPU ran out of memory ({0}); take fewer pictures, a shorter text or a smaller model, or compute on the CPU"
    )]
    OutOfMemory(String),
    /// One buffer is larger than the adapter binds.
    #[error(
        "{name} needs {bytes} bytes in one binding and this GPU offers {limit}; compute on the CPU"
    )]
    TooLarge {
        /// What was to be allocated.
        name: String,
        /// Bytes asked for.
        bytes: u64,
        /// Bytes that the adapter offers.
        limit: u64,
    },
    /// The browser or driver refused a command: a mistake of ours, told in full.
    #[error("the GPU refused a command: {0}; please report this, and compute on the CPU meanwhile")]
    Validation(String),
}

/// Anything that goes wrong in the core.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two shapes do not go together.
    #[error("{operation}: expected {expected}, got {found}")]
    Shape {
        /// The operation that was asked for.
        operation: &'static str,
        /// The shape it needs.
        expected: String,
        /// The shape it was given.
        found: String,
    },
    /// More tokens than a cache has room for.
    #[error(
        "the text has {needed} tokens with what is to be written, and there is room for {capacity}: \
         take a shorter prompt or fewer new tokens"
    )]
    CacheFull {
        /// Tokens that there is room for.
        capacity: usize,
        /// Tokens that there would be.
        needed: usize,
    },
    /// A prompt that does not go with its pictures.
    #[error(
        "the prompt has {marks} marks for pictures and there are {pictures}: each picture has one \
         mark, in the same order"
    )]
    Pictures {
        /// `<image>` marks in the prompt.
        marks: usize,
        /// Pictures that were given.
        pictures: usize,
    },
    /// A picture that a prompt shows and the model has not been shown.
    #[error("the prompt shows the picture `{0}`, which has not been looked at: show it first")]
    Unseen(String),
    /// A picture for a language model.
    #[error("this is a language model, which does not see pictures: take a Flamingo")]
    Blind,
    /// A configuration that cannot be run.
    #[error("configuration: {0}")]
    Config(String),
    /// A tower that is not there.
    #[error(
        "this model has no {0} tower: its files hold the other one alone; take a checkpoint with both"
    )]
    NoTower(&'static str),
    /// An embedding of a tower that has no last layer.
    #[error(
        "this image tower was read for its features alone: load it with the width of its embeddings"
    )]
    FeaturesAlone,
    /// A checkpoint file that cannot be read.
    #[error("checkpoint: {0}")]
    Checkpoint(String),
    /// A checkpoint that lacks a tensor.
    #[error(
        "checkpoint: tensor `{name}` is missing; is this file whole, and does config.json belong to it?"
    )]
    MissingTensor {
        /// The name in the checkpoint's own layout.
        name: String,
    },
    /// A checkpoint's tensor of another shape than its configuration says.
    #[error(
        "checkpoint: tensor `{name}` should be {expected:?} by config.json and is {found:?}; do the two files belong together?"
    )]
    TensorShape {
        /// The name in the checkpoint's own layout.
        name: String,
        /// By the configuration.
        expected: Vec<usize>,
        /// In the file.
        found: Vec<usize>,
    },
    /// A picture that cannot be used.
    #[error(transparent)]
    Image(#[from] crate::image::ImageError),
    /// A text or a tokenizer that cannot be used.
    #[error(transparent)]
    Tokens(#[from] crate::tokens::TokenError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Reading a file or a download failed.
    #[error("{0}")]
    Read(String),
    /// The CPU computation failed.
    #[error("cpu: {0}")]
    Candle(#[from] candle_core::Error),
}
