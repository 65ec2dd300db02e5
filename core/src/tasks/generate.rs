//! Writing on: greedily, by chance, or by beam search.

use std::ops::ControlFlow;

use crate::backend::Backend;
use crate::models::lm::{Cache, Decoder, Pass};
use crate::tensor::Tensor;
use crate::{Error, Result};

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

fn penalize(logits: &mut [f32], text: &[u32], penalty: f32) {
    if penalty == 1.0 {
        return;
    }
    let mut seen = text.to_vec();
    seen.sort_unstable();
    seen.dedup();
    for id in seen {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = if *logit < 0.0 {
                *logit * penalty
            } else {
                *logit / penalty
            };
        }
    }
}

/// The likeliest tokens of a row of logits, likeliest first.
struct Best {
    tokens: Vec<(u32, f32)>,
    /// The logarithm of the sum of the exponentials of all.
    log_sum: f32,
}

/// The `count` likeliest of each row, found on the device: little is read.
async fn best<B: Backend>(logits: &Tensor<B>, count: usize) -> Result<Vec<Best>> {
    let count = count.min(logits.shape().last().copied().unwrap_or(1));
    let numbers = logits.top_k(count)?.read().await?;
    let rows = numbers.chunks_exact(2 * count + 1).map(|row| {
        let places = row[count..2 * count].iter().map(|&place| place as u32);
        Best {
            tokens: places.zip(row.iter().copied()).collect(),
            log_sum: row[2 * count],
        }
    });
    Ok(rows.collect())
}

/// All tokens, likeliest first; of equal ones the first first.
fn rank(logits: &[f32]) -> Vec<(u32, f32)> {
    let mut ranked: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked
}

/// One of the tokens, which are given likeliest first.
fn choose(ranked: &[(u32, f32)], method: Method, random: &mut Random) -> u32 {
    let first = ranked.first().map_or(0, |first| first.0);
    let Method::Sample {
        temperature,
        top_k,
        top_p,
        ..
    } = method
    else {
        return first;
    };
    let most = if top_k > 0 { top_k } else { ranked.len() };
    let ranked = &ranked[..most.min(ranked.len())];
    let top = ranked.first().map_or(0.0, |first| first.1);
    let weights: Vec<f64> = ranked
        .iter()
        .map(|(_, logit)| f64::from((logit - top) / temperature).exp())
        .collect();
    let whole: f64 = weights.iter().sum();
    // As many as make up top_p, the one that passes it included.
    let mut kept = 0.0;
    let mut count = 0;
    while count < weights.len() && kept < f64::from(top_p) * whole {
        kept += weights[count];
        count += 1;
    }
    let mut left = random.uniform() * kept;
    for ((id, _), weight) in ranked.iter().zip(&weights).take(count) {
        left -= weight;
        if left < 0.0 {
            return *id;
        }
    }
    first
}

/// SplitMix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to 1, without 1.
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Logits → logarithms of probabilities.
pub(super) fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - top).exp()).sum();
    let log = f64::from(top) + sum.ln();
    logits
        .iter()
        .map(|x| (f64::from(*x) - log) as f32)
        .collect()
}

/// A text that a beam search goes on with.
#[derive(Clone)]
struct Beam {
    ids: Vec<u32>,
    /// Log-likelihood.
    score: f32,
    /// For each step the beam that held its token then.
    ancestry: Vec<u32>,
}

/// A beam search, as `GenerationMixin._beam_search` of transformers has it. All
/// beams are queries of one sequence: they share the prompt's cache, and what
/// each has written is told apart by [`crate::backend::Mask::Beams`].
struct Search<'a> {
    width: usize,
    length_penalty: f32,
    options: &'a Options,
}

impl Search<'_> {
    async fn run<B: Backend, D: Decoder<B>>(
        &self,
        decoder: &D,
        cache: &mut Cache<B>,
        prompt: &[u32],
        mut each: impl AsyncFnMut(Option<u32>) -> ControlFlow<()>,
    ) -> Result<Written> {
        let lm = decoder.lm();
        let most = self.options.max_new_tokens;
        let (stops, vocab) = (self.options.stop_tokens.len(), lm.config().vocab_size);
        if self.width + stops > vocab {
            return Err(Error::Config(format!(
                "{} beams need more tokens than the {vocab} that the model has",
                self.width
            )));
        }
        let start = Beam {
            ids: Vec::new(),
            score: 0.0,
            ancestry: Vec::new(),
        };
        let mut beams = vec![start];
        let mut finished: Vec<(f32, Written)> = Vec::new();
        let mut told = false;
        for length in 1..=most {
            let logits = if length == 1 {
                next_row(decoder, prompt, cache, &mut each).await?
            } else if each(None).await.is_break() {
                None
            } else {
                let ancestry: Vec<_> = beams.iter().map(|beam| beam.ancestry.clone()).collect();
                let pass = Pass::beams(lm.backend(), cache, prompt.len(), &ancestry)?;
                let ids: Vec<u32> = beams.iter().filter_map(|b| b.ids.last().copied()).collect();
                let x = decoder.forward(&ids, &pass, Some(cache))?;
                Some(lm.logits(&x)?)
            };
            let Some(logits) = logits else {
                told = true;
                break;
            };
            let candidates = self.candidates(prompt, &beams, &logits).await?;
            beams = self.step(&beams, candidates, length, &mut finished);
            let worst = finished.iter().map(|f| f.0).fold(f32::INFINITY, f32::min);
            let hope = beams.first().map(|beam| self.rated(beam.score, length));
            if finished.len() == self.width && hope.is_none_or(|hope| hope <= worst) {
                break;
            }
        }
        cache.truncate(prompt.len());
        if told && let Some(best) = beams.into_iter().next() {
            let end = End::Told;
            finished = vec![(best.score, Written { ids: best.ids, end })];
        }
        let Some((_, best)) = finished.into_iter().next() else {
            return Ok(Written {
                ids: Vec::new(),
                end: End::Length,
            });
        };
        for &id in &best.ids {
            if each(Some(id)).await.is_break() {
                break;
            }
        }
        Ok(best)
    }

    fn rated(&self, score: f32, length: usize) -> f32 {
        score / (length as f32).powf(self.length_penalty)
    }

    /// What may follow each beam: the score with it, the beam, the token.
    async fn candidates<B: Backend>(
        &self,
        prompt: &[u32],
        beams: &[Beam],
        logits: &Tensor<B>,
    ) -> Result<Vec<(f32, usize, u32)>> {
        let mut candidates = Vec::new();
        if let Some(count) = self.options.deciding() {
            let rows = best(logits, count).await?;
            for (i, (beam, row)) in beams.iter().zip(rows).enumerate() {
                let scored = row
                    .tokens
                    .iter()
                    .map(|&(id, logit)| (beam.score + (logit - row.log_sum), i, id));
                candidates.extend(scored);
            }
            return Ok(candidates);
        }
        let logits = logits.read().await?;
        let rows = logits.chunks_exact(logits.len() / beams.len());
        for (i, (beam, logits)) in beams.iter().zip(rows).enumerate() {
            let mut scores = log_softmax(logits);
            let text = [prompt, &beam.ids].concat();
            penalize(&mut scores, &text, self.options.repetition_penalty);
            let scored = (0..).zip(scores);
            candidates.extend(scored.map(|(id, score)| (beam.score + score, i, id)));
        }
        Ok(candidates)
    }

    /// Goes on with the best; what has ended is put among the finished, which
    /// are kept sorted, best first, as many as there are beams.
    fn step(
        &self,
        beams: &[Beam],
        mut candidates: Vec<(f32, usize, u32)>,
        length: usize,
        finished: &mut Vec<(f32, Written)>,
    ) -> Vec<Beam> {
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
        let kept = self.width * (1 + self.options.stop_tokens.len()).max(2);
        candidates.truncate(kept);
        let mut next = Vec::with_capacity(self.width);
        for (rank, &(score, parent, id)) in candidates.iter().enumerate() {
            let stops = self.options.stop_tokens.contains(&id);
            let mut ids = beams[parent].ids.clone();
            if !stops {
                ids.push(id);
            }
            let over = stops || length == self.options.max_new_tokens;
            if over && rank < self.width {
                let end = if stops { End::Token } else { End::Length };
                let written = Written {
                    ids: ids.clone(),
                    end,
                };
                finished.push((self.rated(score, length), written));
            }
            if !stops && next.len() < self.width {
                let mut ancestry = beams[parent].ancestry.clone();
                ancestry.push(next.len() as u32);
                next.push(Beam {
                    ids,
                    score,
                    ancestry,
                });
            }
        }
        finished.sort_by(|a, b| b.0.total_cmp(&a.0));
        finished.truncate(self.width);
        next
    }
}

/// Turns tokens into text as they come, in whole characters, and watches for
/// strings that end it.
pub struct TextStream<'a> {
    decode: &'a dyn Fn(&[u32]) -> Result<String>,
    stops: &'a [String],
    ids: Vec<u32>,
    /// Bytes of the text that have been given out.
    given: usize,
    text: String,
    stopped: bool,
}

impl<'a> TextStream<'a> {
    /// `decode` makes the text of all tokens so far.
    pub fn new(decode: &'a dyn Fn(&[u32]) -> Result<String>, stops: &'a [String]) -> Self {
        Self {
            decode,
            stops,
            ids: Vec::new(),
            given: 0,
            text: String::new(),
            stopped: false,
        }
    }

    /// One more token → the text that is certain now, perhaps none: part of a
    /// character waits for the rest, and so does what may begin a stop string.
    ///
    /// # Errors
    /// Where the tokens have no text.
    pub fn push(&mut self, id: u32) -> Result<String> {
        if self.stopped {
            return Ok(String::new());
        }
        self.ids.push(id);
        self.text = (self.decode)(&self.ids)?;
        let ends = self.stops.iter().filter(|stop| !stop.is_empty());
        if let Some(at) = ends.filter_map(|stop| self.text.find(stop.as_str())).min() {
            self.text.truncate(at);
            self.stopped = true;
            return Ok(self.give(self.text.len()));
        }
        let whole = self.text.trim_end_matches('\u{fffd}');
        let held = self
            .stops
            .iter()
            .map(|stop| overlap(whole, stop))
            .max()
            .unwrap_or(0);
        Ok(self.give(whole.len() - held))
    }

    /// What has been held back.
    pub fn finish(&mut self) -> String {
        self.give(self.text.len())
    }

    /// Whether a stop string has come.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// The text so far, without the string that ended it.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn give(&mut self, end: usize) -> String {
        let from = self.given.min(end);
        self.given = self.given.max(end);
        self.text.get(from..end).unwrap_or_default().to_owned()
    }
}

/// Bytes at the end of `text` that begin `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = stop.len().saturating_sub(1).min(text.len());
    let fits = |&len: &usize| {
        text.is_char_boundary(text.len() - len) && stop.starts_with(&text[text.len() - len..])
    };
    (1..=longest).rev().find(fits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Method, Random, TextStream, choose, penalize, rank};

    #[test]
    fn characters_come_whole_and_stops_are_watched_for() {
        // A character in two tokens, and a stop string in two.
        let pieces: [&[u8]; 6] = [b"a", &[0xc3], &[0xa9], b"b\n", b"\n", b"never"];
        let decode = |ids: &[u32]| {
            let bytes: Vec<u8> = ids
                .iter()
                .flat_map(|&id| pieces[id as usize].to_vec())
                .collect();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let stops = ["\n\n".to_owned()];
        let mut stream = TextStream::new(&decode, &stops);
        let given: Vec<String> = (0..6).map(|id| stream.push(id).expect("text")).collect();
        assert_eq!(given, ["a", "", "é", "b", "", ""]);
        assert!(stream.stopped());
        assert_eq!(stream.text(), "aéb");
        let mut stream = TextStream::new(&decode, &stops);
        assert_eq!(stream.push(3).expect("text"), "b");
        assert_eq!(stream.finish(), "\n");
    }

    #[test]
    fn repeated_tokens_are_penalized_once() {
        let mut logits = [2.0, -2.0, 1.0];
        penalize(&mut logits, &[0, 1, 1, 0], 2.0);
        assert_eq!(logits, [1.0, -4.0, 1.0]);
        let ids: Vec<u32> = rank(&logits).iter().map(|token| token.0).collect();
        assert_eq!(ids, [0, 2, 1]);
    }

    #[test]
    fn chance_keeps_to_its_bounds_and_to_the_probabilities() {
        let logits = [0.0f32, 2.0f32.ln(), 1.0f32.ln(), 4.0f32.ln()];
        let draw = |top_k, top_p, n: u32| {
            let method = Method::Sample {
                temperature: 1.0,
                top_k,
                top_p,
                seed: 0,
            };
            let mut random = Random(5);
            let mut counts = [0u32; 4];
            (0..n).for_each(|_| counts[choose(&rank(&logits), method, &mut random) as usize] += 1);
            counts
        };
        assert_eq!(draw(1, 1.0, 100), [0, 0, 0, 100]);
        // Half and a quarter of the probability: the second passes 0.6.
        let [a, b, c, d] = draw(0, 0.6, 3000);
        assert_eq!((a, c), (0, 0));
        assert!((1850..2150).contains(&d), "{d} of {}", b + d);
        let [a, b, c, d] = draw(0, 1.0, 8000);
        let expected = [(a, 1000), (b, 2000), (c, 1000), (d, 4000)];
        assert!(expected.iter().all(|&(n, mean)| n.abs_diff(mean) < 150));
    }
}
