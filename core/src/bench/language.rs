//! How fast a model reads and writes text, and how much of the device's memory
//! bandwidth that is: one token at a time, every weight is read once for each.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};

use super::{Plan, Row, row};
use crate::Result;
use crate::backend::{Backend, WeightData};
use crate::checkpoint::{Asked, Role, Source};
use crate::config::flamingo::FlamingoConfig;
use crate::config::language::LmConfig;
use crate::models::lm::{Decoder, Pass};
use crate::quant::{BLOCK, Quantization};
use crate::tasks::writer::Writer;
use crate::tensor::Tensor;

/// Kernels run and times that work was handed over so far; none where the
/// device does not count them.
pub type Counters<'a> = &'a dyn Fn() -> Option<[u64; 2]>;

/// What was measured of a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextTimes {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Reading the prompt, in milliseconds.
    pub prefill: Row,
    /// Writing one token after it, in milliseconds.
    pub token: Row,
    /// Kernels run for a token.
    pub dispatches: Option<u64>,
    /// Times that work was handed over for a token.
    pub submits: Option<u64>,
}

/// Measures a model. Without `logits` a token ends where the last block does:
/// for parts of models. `now` gives milliseconds.
///
/// # Errors
/// Where the prompt is longer than the context or the device fails.
pub async fn text_times<B: Backend, D: Decoder<B>>(
    decoder: &D,
    prompt: &[u32],
    logits: bool,
    plan: &Plan,
    (now, counters): (&dyn Fn() -> f64, Counters<'_>),
) -> Result<TextTimes> {
    let lm = decoder.lm();
    let cache = RefCell::new(lm.cache(prompt.len() + 1, &[0])?);
    let pass = |ids: &[u32], before: usize| -> Result<Tensor<B>> {
        let mut cache = cache.borrow_mut();
        cache.truncate(before);
        let pass = Pass::next(lm.backend(), &cache, ids.len())?;
        let x = decoder.forward(ids, &pass, Some(&mut cache))?;
        let last = x.narrow(ids.len() - 1, 1)?;
        if logits { lm.logits(&last) } else { Ok(last) }
    };
    let step = [prompt[prompt.len() - 1]];
    let read = async || pass(prompt, 0)?.read().await.map(|_| ());
    let prefill = row(1, plan, &[], now, read).await?;
    let write = async || pass(&step, prompt.len())?.read().await.map(|_| ());
    let token = row(1, plan, &[], now, &write).await?;
    let before = counters();
    write().await?;
    let spent = counters().zip(before);
    let spent = spent.map(|(after, before)| [after[0] - before[0], after[1] - before[1]]);
    let none = Row {
        batch: 1,
        least: 0.0,
        median: 0.0,
        most: 0.0,
    };
    Ok(TextTimes {
        prompt: prompt.len(),
        prefill: prefill.unwrap_or(none),
        token: token.unwrap_or(none),
        dispatches: spent.map(|spent| spent[0]),
        submits: spent.map(|spent| spent[1]),
    })
}

/// Tokens of a prompt, where a model reads as many.
pub const PROMPT: usize = 256;

/// Measures a whole model, without pictures, as [`text_times`] does.
///
/// # Errors
/// Where the device fails.
pub async fn writer_times<B: Backend>(
    writer: &Writer<B>,
    plan: &Plan,
    clock: (&dyn Fn() -> f64, Counters<'_>),
) -> Result<TextTimes> {
    let length = PROMPT.min(writer.lm().config().context / 2);
    // Any token but one that stands for a picture.
    let marks = |id: &u32| {
        let flamingo = writer.flamingo();
        flamingo.is_none_or(|flamingo| flamingo.image_numbers(&[*id]) == [0])
    };
    let prompt: Vec<u32> = (1..).filter(marks).take(1).cycle().take(length).collect();
    let plain = writer.prompt(&[], &[])?;
    let reading = writer.reading(&plain)?;
    text_times(&reading, &prompt, true, plan, clock).await
}

/// Bytes of weights that are read for a token: the language model's blocks and
/// head, and the layers between but for what makes keys and values of pictures.
/// `bytes` says what a tensor takes on the device.
pub fn bytes_read(lm: &LmConfig, asked: &[Asked], bytes: impl Fn(&Asked) -> u64) -> u64 {
    let head = if lm.tied {
        "lm.token_embedding"
    } else {
        "lm.head"
    };
    let reads = |asked: &&Asked| {
        let name = asked.name.as_str();
        name == head
            || name.starts_with("lm.blocks.")
            || name.starts_with("xattn.") && !name.contains(".to_kv.")
    };
    asked.iter().filter(reads).map(bytes).sum()
}

/// Thousand million bytes each second, read and written, of a copy of `len`
/// numbers.
///
/// # Errors
/// Where the device fails.
pub async fn copy_rate<B: Backend>(
    backend: &B,
    len: usize,
    plan: &Plan,
    now: &dyn Fn() -> f64,
) -> Result<f64> {
    let half = Tensor::upload(backend, &vec![0.5; len / 2], &[1, len / 2, 1])?;
    let measured = row(1, plan, &[], now, async || {
        let both = Tensor::concat(&half, &half)?;
        // One number is read back, which makes the device finish.
        both.reshape(&[len / 2 * 2, 1])?
            .gather(&[0])?
            .read()
            .await?;
        Ok(())
    });
    let bytes = 8.0 * (len / 2 * 2) as f64;
    Ok(measured.await?.map_or(0.0, |row| bytes / row.least / 1e6))
}

/// One gated layer and one block of a published OpenFlamingo, at full width:
/// what each of its layer pairs takes. Vision tower and vocabulary are as small
/// as can be.
pub fn layer_pair(name: &str) -> Option<FlamingoConfig> {
    let mut config = FlamingoConfig::open_flamingo(name)?;
    if let crate::config::VisionConfig::Vit(vit) = &mut config.vision {
        vit.image_size = 28;
        vit.transformer.layers = 1;
    }
    config.resampler.depth = 1;
    config.xattn.layers = vec![0];
    config.lm.layers = 1;
    config.lm.vocab_size = BLOCK;
    config.image_token = BLOCK as u32 - 1;
    config.end_of_chunk = BLOCK as u32 - 2;
    Some(config)
}

/// Weights of no meaning, in any precision, made quickly.
pub struct Noise(pub Option<Quantization>);

impl Source for Noise {
    fn read(&self, name: &str, shape: &[usize]) -> Result<WeightData> {
        let len: usize = shape.iter().product();
        let mut state = name
            .bytes()
            .fold(0x9e37_79b9_7f4a_7c15, |state: u64, byte| {
                (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let inner = shape.last().copied().unwrap_or(1).max(1);
        let scale = (inner as f32).sqrt().recip();
        if let (Some(kind), true) = (self.0, shape.len() == 2 && inner.is_multiple_of(BLOCK)) {
            // The codes reach as far as the numbers below.
            let steps = match kind {
                Quantization::Q8_0 => 128.0,
                Quantization::Q4_0 => 8.0,
            };
            let d = half::f16::from_f32(scale / steps).to_le_bytes();
            let mut bytes = Vec::with_capacity(len / BLOCK * kind.block_bytes());
            for _ in 0..len / BLOCK {
                bytes.extend(d);
                // 32 or 16 bytes of codes.
                for _ in 0..(kind.block_bytes() - d.len()) / 8 {
                    bytes.extend(next().to_le_bytes());
                }
            }
            return Ok(WeightData::Quantized(kind, bytes));
        }
        let number = |x: u64| scale * ((x >> 40) as f32 / (1 << 23) as f32 - 1.0);
        let numbers = (0..len).map(|_| number(next()));
        Ok(if shape.len() == 2 {
            WeightData::F16(numbers.map(half::f16::from_f32).collect())
        } else {
            WeightData::F32(numbers.collect())
        })
    }
}

/// Bytes of a matrix in a precision, of anything else in f32.
pub fn stored_bytes(asked: &Asked, kind: Option<Quantization>, half: u64) -> u64 {
    let len = asked.shape.iter().product::<usize>() as u64;
    let (rows, cols) = match asked.shape.as_slice() {
        &[rows, cols] => (rows, cols),
        _ => (1, len as usize),
    };
    match (asked.role, kind.and_then(|kind| kind.bytes_of(rows, cols))) {
        (Role::Parameter, _) => 4 * len,
        (_, Some(bytes)) => bytes as u64,
        (_, None) => half * len,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_small_and_whole() {
        for kind in [None, Some(Quantization::Q8_0), Some(Quantization::Q4_0)] {
            let data = Noise(kind).read("lm.head", &[8, 64]).unwrap();
            assert_eq!(data.len(), 8 * 64);
            let numbers = data.into_f32();
            let mean = numbers.iter().map(|x| x * x).sum::<f32>() / 512.0;
            assert!((0.003..0.01).contains(&mean), "{kind:?}: {mean}");
        }
    }

    #[test]
    fn a_token_reads_blocks_and_head() {
        let asked = |name: &str, shape: &[usize], role| Asked {
            name: name.into(),
            shape: shape.to_vec(),
            role,
        };
        let all = [
            asked("lm.token_embedding", &[10, 32], Role::Weight),
            asked("lm.head", &[10, 32], Role::Weight),
            asked("lm.blocks.0.ln_1.weight", &[32], Role::Parameter),
            asked("xattn.0.to_kv.weight", &[64, 32], Role::Weight),
            asked("xattn.0.to_q.weight", &[64, 32], Role::Weight),
            asked("vision.proj", &[64, 32], Role::Weight),
        ];
        let mut lm = LmConfig::chinchilla(32, 1, 1, 10);
        let bytes = |lm: &LmConfig| {
            bytes_read(lm, &all, |asked| {
                stored_bytes(asked, Some(Quantization::Q8_0), 2)
            })
        };
        lm.tied = false;
        assert_eq!(bytes(&lm), (10 + 64) * 34 + 128);
        lm.tied = true;
        assert_eq!(bytes(&lm), (10 + 64) * 34 + 128);
    }
}
