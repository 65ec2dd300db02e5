//! Writing on: greedily, by chance, or by beam search.

mod beams;
mod choice;
mod stream;

use std::ops::ControlFlow;

use crate::backend::Backend;
use crate::models::lm::{Cache, Decoder, Pass};
use crate::tensor::Tensor;
use crate::{Error, Result};

use beams::Search;
pub(super) use choice::{Random, log_softmax};
use choice::{best, choose, penalize, rank};
pub use stream::TextStream;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// The likeliest.
    Greedy,
    /// By chance.
    Sample {
        /// Logits are divided by it: below 1 the likely become likelier.
        temperature: f32,
        /// Only so many of the likeliest, if above 0.
        top_k: usize,
        /// Only as many of the likeliest as make up this probability.
        top_p: f32,
        /// The same seed gives the same text.
        seed: u64,
    },
    /// The likeliest text that a search with so many beams finds; it is known
    /// only at the end.
    Beams {
        /// Beams.
        width: usize,
        /// The log-likelihood of a text is divided by its length to this power:
        /// above 0 long texts gain.
        length_penalty: f32,
    },
}

/// What is written, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most tokens that are written.
    pub max_new_tokens: usize,
    /// How the next token is chosen.
    pub method: Method,
    /// Logits of tokens that stand in the text already are divided by it where
    /// positive and multiplied where not (Keskar et al. 2019); 1 does nothing.
    pub repetition_penalty: f32,
    /// Tokens that end the text; they are not part of it.
    pub stop_tokens: Vec<u32>,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has as many tokens as were asked for.
    Length,
    /// The model wrote a token that ends a text.
    Token,
    /// It was told to stop.
    Told,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Without the token that ended it.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub end: End,
}

/// Rows of a prompt that go through the model at once: between them whoever
/// waits can say that it is enough.
const ROWS: usize = 256;

/// Most of the likeliest tokens that are looked for on the device.
const MOST: usize = 64;

impl Options {
    /// How many of the likeliest tokens decide what is written next; nothing
    /// where all of them may.
    fn deciding(&self) -> Option<usize> {
        let count = match self.method {
            Method::Greedy => 1,
            Method::Sample { top_k, .. } => top_k,
            // As many as go on whichever of them end.
            Method::Beams { width, .. } => width * (1 + self.stop_tokens.len()).max(2),
        };
        ((1..=MOST).contains(&count) && self.repetition_penalty == 1.0).then_some(count)
    }

    /// Rows of the cache for a prompt of so many tokens and what is written.
    fn rows(&self, prompt: usize) -> usize {
        let width = match self.method {
            Method::Beams { width, .. } => width,
            Method::Greedy | Method::Sample { .. } => 1,
        };
        prompt + width * self.max_new_tokens
    }

    fn check(&self) -> Result<()> {
        let fault = match self.method {
            Method::Sample {
                temperature, top_p, ..
            } if !(temperature > 0.0 && top_p > 0.0 && top_p <= 1.0) => {
                "a temperature above 0 and a top-p above 0 and up to 1"
            }
            Method::Beams { width: 0, .. } => "one beam or more",
            _ if self.repetition_penalty.is_nan() || self.repetition_penalty <= 0.0 => {
                "a repetition penalty above 0"
            }
            _ => return Ok(()),
        };
        Err(Error::Config(format!(
            "text is written with {fault}, got {self:?}"
        )))
    }
}

/// Writes on after a prompt. `each` is given every token as it is chosen, and
/// may say that it is enough; a beam search gives it the tokens at the end, but
/// asks it before every step with `None`.
///
/// # Errors
/// Where there is no room for the text, options make no sense or the device
/// fails.
pub async fn generate<B: Backend, D: Decoder<B>>(
    decoder: &D,
    prompt: &[u32],
    options: &Options,
    mut each: impl FnMut(Option<u32>) -> ControlFlow<()>,
) -> Result<Written> {
    check_room(decoder, prompt.len(), options.max_new_tokens)?;
    let mut cache = decoder.lm().cache(options.rows(prompt.len()), &[0])?;
    write_on(decoder, &mut cache, prompt, options, async |token| {
        each(token)
    })
    .await
}

/// As [`generate`], for a cache of one sequence that holds the beginning of the
/// prompt already, but not all of it. Afterwards it holds the prompt and what
/// [`Cache::len`] says of the text after it (nothing of what beams wrote).
/// `each` may wait, as for an inbox to be looked at.
///
/// # Errors
/// As [`generate`]; the cache is of no use then.
pub async fn write_on<B: Backend, D: Decoder<B>>(
    decoder: &D,
    cache: &mut Cache<B>,
    prompt: &[u32],
    options: &Options,
    mut each: impl AsyncFnMut(Option<u32>) -> ControlFlow<()>,
) -> Result<Written> {
    options.check()?;
    check_room(decoder, prompt.len(), options.max_new_tokens)?;
    let rows = options.rows(prompt.len());
    decoder.lm().reserve(cache, rows)?;
    if let Method::Beams {
        width,
        length_penalty,
    } = options.method
    {
        let search = Search {
            width,
            length_penalty,
            options,
        };
        return search.run(decoder, cache, prompt, each).await;
    }
    let mut random = match options.method {
        Method::Sample { seed, .. } => Random(seed),
        _ => Random(0),
    };
    let mut text = prompt.to_vec();
    let end = loop {
        if text.len() - prompt.len() == options.max_new_tokens {
            break End::Length;
        }
        let Some(logits) = next_row(decoder, &text, cache, &mut each).await? else {
            break End::Told;
        };
        let ranked = match options.deciding() {
            Some(count) => best(&logits, count).await?.swap_remove(0).tokens,
            None => {
                let mut logits = logits.read().await?;
                penalize(&mut logits, &text, options.repetition_penalty);
                rank(&logits)
            }
        };
        let token = choose(&ranked, options.method, &mut random);
        if options.stop_tokens.contains(&token) {
            break End::Token;
        }
        text.push(token);
        if each(Some(token)).await.is_break() {
            break End::Told;
        }
    };
    Ok(Written {
        ids: text.split_off(prompt.len()),
        end,
    })
}

/// Whether a prompt and `new` tokens are within what the model can read.
pub(super) fn check_room<B: Backend, D: Decoder<B>>(
    decoder: &D,
    prompt: usize,
    new: usize,
) -> Result<()> {
    let (context, needed) = (decoder.lm().config().context, prompt + new);
    if prompt == 0 || needed > context {
        return Err(Error::CacheFull {
            capacity: context,
            needed: needed.max(1),
        });
    }
    Ok(())
}

/// Reads what the cache does not hold of a text → the logits of what follows
/// it; none where `each`, asked before every pass, says that it is enough.
pub(super) async fn next_logits<B: Backend, D: Decoder<B>>(
    decoder: &D,
    text: &[u32],
    cache: &mut Cache<B>,
    each: impl AsyncFnMut(Option<u32>) -> ControlFlow<()>,
) -> Result<Option<Vec<f32>>> {
    Ok(match next_row(decoder, text, cache, each).await? {
        Some(logits) => Some(logits.read().await?),
        None => None,
    })
}

/// As [`next_logits`], which are left on the device.
async fn next_row<B: Backend, D: Decoder<B>>(
    decoder: &D,
    text: &[u32],
    cache: &mut Cache<B>,
    mut each: impl AsyncFnMut(Option<u32>) -> ControlFlow<()>,
) -> Result<Option<Tensor<B>>> {
    let lm = decoder.lm();
    loop {
        if each(None).await.is_break() {
            return Ok(None);
        }
        let ids = &text[cache.len()..];
        let ids = &ids[..ids.len().min(ROWS)];
        let pass = Pass::next(lm.backend(), cache, ids.len())?;
        let mut x: Tensor<B> = decoder.forward(ids, &pass, Some(cache))?;
        if ids.len() > 1 {
            x = x.narrow(ids.len() - 1, 1)?;
        }
        if cache.len() == text.len() {
            return Ok(Some(lm.logits(&x)?));
        }
        // Waits for the device.
        x.read().await?;
    }
}
