//! What passes between page and worker about the chat: a Flamingo that reads
//! pictures and words in turn and goes on in kind.

pub use plume_core::prompts::{PromptStyle, Said, Segment, Task};
pub use plume_core::tasks::score::orders;
use serde::{Deserialize, Serialize};

use super::{Device, PictureId, RequestId, Which};

/// Why a wish [failed](News::Failed) that the person had stopped.
pub const STOPPED: &str = "stopped";

/// A piece of a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Piece {
    /// A picture, or the frames of a clip, that was given by [`Wish::See`] or
    /// [`Wish::Keep`].
    Media(PictureId),
    /// Text, special tokens included.
    Text(String),
}

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum How {
    /// The likeliest.
    Greedy,
    /// By chance.
    Sample {
        /// Below 1 the likely become likelier.
        temperature: f32,
        /// Among so many of the likeliest; 0 is all.
        top_k: usize,
        /// Among as many of the likeliest as make up this probability.
        top_p: f32,
        /// The same seed gives the same text.
        seed: u64,
    },
    /// Beam search.
    Beams {
        /// Texts that are followed at once.
        width: usize,
        /// Above 0 long texts are preferred.
        length_penalty: f32,
    },
}

/// From the page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Wish {
    /// Load a model that writes.
    Load {
        /// Told back with the answer.
        request: RequestId,
        /// What computes.
        device: Device,
        /// Which one.
        which: Which,
    },
    /// Look at what is in the payload: a `Blob` (a picture), or a list of
    /// `Blob`s (the frames of a clip). It is kept until `Forget`, also when
    /// another model is loaded; where there is none yet, as `Keep`.
    See {
        /// Who it is.
        id: PictureId,
    },
    /// Keep what is in the payload, as for `See`, but look at it only once a
    /// prompt needs it: for large support sets.
    Keep {
        /// Who it is.
        id: PictureId,
    },
    /// Drop what is known of a picture.
    Forget {
        /// Who it is.
        id: PictureId,
    },
    /// Say what a prompt becomes, without running it; also while an answer is
    /// written.
    Plan {
        /// Told back with the answer.
        request: RequestId,
        /// The prompt.
        prompt: Vec<Piece>,
    },
    /// Go on with a prompt.
    Write {
        /// Told back with every piece of the answer.
        request: RequestId,
        /// The prompt.
        prompt: Vec<Piece>,
        /// How tokens are chosen.
        how: How,
        /// Most tokens to write.
        max_new_tokens: usize,
        /// Above 1, tokens that stand in the text already become less likely.
        repetition_penalty: f32,
        /// Text that ends the answer.
        stop: Vec<String>,
    },
    /// End what is being done and leave what waits to be: answers, comparisons,
    /// choices and looks. What was written stays.
    Stop,
    /// Say how likely given answers are after each of several prompts (orders
    /// of the shots); the answer is their mean.
    Score {
        /// Told back with the answer.
        request: RequestId,
        /// The prompts.
        prompts: Vec<Vec<Piece>>,
        /// The answers.
        answers: Vec<String>,
    },
    /// Choose the pictures of a support set that are most like a picture
    /// (RICES), by the CLIP that is loaded.
    Choose {
        /// Told back with the answer.
        request: RequestId,
        /// The picture that is asked about.
        query: PictureId,
        /// Those to choose from.
        support: Vec<PictureId>,
        /// How many.
        count: usize,
    },
    /// Say where the words of an answer looked.
    Look {
        /// Told back with the answer.
        request: RequestId,
        /// The prompt.
        prompt: Vec<Piece>,
        /// What was written after it.
        answer: String,
        /// In which of the gated layers ([`Writer::gates`]), by their places;
        /// none is all. Each counts as far as its gate is open.
        layers: Vec<usize>,
    },
}

/// What a loaded model is and runs on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Writer {
    /// Its name for a person.
    pub name: String,
    /// It is the one that is served with the page.
    pub demo: bool,
    /// WebGPU computes, not the CPU.
    pub gpu: bool,
    /// What computes, for a person.
    pub device: String,
    /// Why the CPU computes where WebGPU was asked for.
    pub note: Option<String>,
    /// Its own prompt conventions.
    pub style: PromptStyle,
    /// Longest text in tokens.
    pub context: usize,
    /// Visual tokens of a picture.
    pub tokens_per_image: usize,
    /// Most frames of a clip that it tells apart; 1 where it takes none.
    pub frames: usize,
    /// Every picture before a word can be seen by it, not only the last.
    pub all_previous: bool,
    /// Bytes of its weights on the device.
    pub weights: f64,
    /// Bytes that a token of the prompt keeps (keys and values).
    pub bytes_per_token: f64,
    /// Bytes that a picture keeps.
    pub bytes_per_image: f64,
    /// `tanh α` of each gated layer: its place in the language model, the gate
    /// of the attention and that of the MLP (means of vectors' magnitudes).
    pub gates: Vec<(usize, f32, f32)>,
    /// Milliseconds it took.
    pub milliseconds: f64,
    /// Bytes of WebAssembly memory after it.
    pub memory: f64,
}

/// What a prompt becomes.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Planned {
    /// The exact text that the tokenizer is given.
    pub text: String,
    /// Tokens of each piece.
    pub tokens: Vec<usize>,
    /// Tokens in all, the marks of the start included.
    pub total: usize,
    /// Longest text in tokens, with what is to be written; of what is longer
    /// the page leaves out whole shots, the first ones first.
    pub context: usize,
}

/// How an answer came about.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Pace {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens written.
    pub written: usize,
    /// Milliseconds until the first of them; of beams, until the last.
    pub first: f64,
    /// Milliseconds in all.
    pub total: f64,
    /// Bytes of WebAssembly memory after it.
    #[serde(default)]
    pub memory: f64,
    /// Bytes of its buffers on the graphics processor after it.
    #[serde(default)]
    pub gpu: f64,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// The model said so, or a stop string came.
    Itself,
    /// It is as long as was allowed.
    Length,
    /// The person stopped it.
    Stopped,
}

/// How likely an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Likely {
    /// Log-likelihood of the whole answer.
    pub sum: f32,
    /// Of one token of it, on average.
    pub mean: f32,
}

/// What a word saw of a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// The picture.
    pub picture: PictureId,
    /// How much of its attention it gave to this picture; these sum to one.
    pub share: f32,
    /// How much of that it gave to each cell, row by row, frame by frame; sums
    /// to one.
    pub cells: Vec<f32>,
    /// Cells in a row.
    pub columns: usize,
    /// Rows of a frame.
    pub rows: usize,
    /// The part of the picture that the cells are of, as parts of its sides:
    /// left, top, width and height. The model sees no more of it; where a margin
    /// was added, they reach beyond it.
    pub area: [f32; 4],
}

/// Where a word of an answer looked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gaze {
    /// The word, with the blank before it.
    pub word: String,
    /// The pictures that it may see: none, or the last one before it, or all
    /// before it where [`Writer::all_previous`].
    pub seen: Vec<Seen>,
}

/// From the worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum News {
    /// A model's weights are being read.
    Loading {
        /// Bytes so far.
        done: f64,
        /// Bytes of the file.
        total: f64,
    },
    /// A model can be used.
    Loaded {
        /// The wish that this answers.
        request: RequestId,
        /// What it is.
        writer: Box<Writer>,
    },
    /// A model cannot be used.
    LoadFailed {
        /// The wish that this answers.
        request: RequestId,
        /// Why, and what to do.
        message: String,
    },
    /// A picture was looked at, by itself or for a prompt that needed it.
    Seen {
        /// Who it is.
        id: PictureId,
        /// Milliseconds it took.
        milliseconds: f64,
    },
    /// A picture could not be used.
    SeeFailed {
        /// Who it is.
        id: PictureId,
        /// Why, and what to do.
        message: String,
    },
    /// What a prompt becomes.
    Planned {
        /// The wish that this answers.
        request: RequestId,
        /// That.
        planned: Planned,
    },
    /// More of an answer.
    Text {
        /// The wish that this answers.
        request: RequestId,
        /// Whole characters.
        text: String,
    },
    /// An answer is done.
    Written {
        /// The wish that this answers.
        request: RequestId,
        /// All of it.
        text: String,
        /// Why it ended.
        ended: Ended,
        /// How it came about.
        pace: Pace,
    },
    /// How likely the answers are, in their order.
    Scored {
        /// The wish that this answers.
        request: RequestId,
        /// That.
        likely: Vec<Likely>,
        /// Milliseconds it took.
        milliseconds: f64,
    },
    /// The most similar pictures, the most similar last, with their cosines.
    Chosen {
        /// The wish that this answers.
        request: RequestId,
        /// That.
        chosen: Vec<(PictureId, f32)>,
    },
    /// Where each word of an answer looked.
    Looked {
        /// The wish that this answers.
        request: RequestId,
        /// That.
        gazes: Vec<Gaze>,
    },
    /// A wish cannot be met; what was written stays.
    Failed {
        /// The wish.
        request: RequestId,
        /// Why, and what to do.
        message: String,
    },
    /// The graphics processor is gone; the model has to be loaded again.
    DeviceLost {
        /// Why, and what to do.
        message: String,
    },
}
