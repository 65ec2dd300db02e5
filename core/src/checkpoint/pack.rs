//! Packing: any source of weights → one GGUF file, one tensor at a time.

use std::io::Write;

use super::gguf::{Dtype, Plan, Writer};
use super::inventory::{Asked, Role};
use super::{ADDED, Packed, Source};
use crate::Result;
use crate::backend::WeightData;
use crate::quant::{BLOCK, Quantization};

/// What matrices are stored as. Biases, norms, positions and temperatures
/// stay in f32 whatever is chosen: they are few, and quantising them costs
/// more than it saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 4 bytes a weight.
    F32,
    /// 2 bytes a weight.
    F16,
    /// 34 bytes for 32 weights.
    Q8_0,
    /// 18 bytes for 32 weights.
    Q4_0,
}

/// The first map of the pixels and the last ones into the shared space: they
/// are small, and no later layer evens out what is lost in them. They stay in
/// f16 where others are quantised.
const ENDS: &[&str] = &["vision.stem.", "vision.proj", "text.projection"];

/// A convolution of a ResNet. Behind each stands a batch norm, folded into it,
/// that takes off what all places have in common: what is left is small beside
/// what was quantised. 8 bits cost as much here as 4 in a linear map.
fn convolution(name: &str) -> bool {
    let (layer, stem) = ("vision.layer", "vision.conv");
    (name.starts_with(layer) || name.starts_with(stem)) && name.ends_with(".weight")
}

/// What 4 bits would lose at the first step of a text, or with every block add
/// to what the text tower, the narrower of the two, carries on, or behind the
/// last block, where nothing evens it out, as in a language model's tables:
/// stored in 8.
fn eight_bits(name: &str) -> bool {
    let text = name.strip_prefix("text.").is_some_and(|name| {
        let writes = [".attn.out.weight", ".mlp.c_proj.weight"];
        name == "token_embedding" || writes.iter().any(|end| name.ends_with(end))
    });
    let pool = ["vision.map.", "vision.attnpool."];
    let tables = ["lm.token_embedding", "lm.head"];
    text || tables.contains(&name)
        || pool.iter().any(|start| name.starts_with(start))
        || convolution(name)
}

impl Precision {
    /// What a tensor is stored as. Rows that are no whole blocks stay in f16,
    /// and so do the ends.
    fn dtype(self, asked: &Asked) -> Dtype {
        let cols = asked.shape.last().copied().unwrap_or(1);
        let end = ENDS.iter().any(|end| asked.name.starts_with(end));
        let halves = end || (self == Self::Q8_0 && convolution(&asked.name));
        let blocks = cols.is_multiple_of(BLOCK) && !halves;
        match (asked.role, self) {
            (Role::Parameter, _) | (_, Self::F32) => Dtype::F32,
            (Role::Precise, _) => Dtype::F16,
            (_, Self::Q8_0) if blocks => Dtype::Quantized(Quantization::Q8_0),
            (_, Self::Q4_0) if blocks && eight_bits(&asked.name) => {
                Dtype::Quantized(Quantization::Q8_0)
            }
            (_, Self::Q4_0) if blocks => Dtype::Quantized(Quantization::Q4_0),
            (_, _) => Dtype::F16,
        }
    }

    /// How many rows of a table are stored by themselves.
    fn apart(self, asked: &Asked) -> Option<usize> {
        match (asked.role, asked.shape.as_slice()) {
            (Role::Table { added }, &[rows, _]) if self != Self::F32 => {
                (added > 0 && added < rows).then_some(added)
            }
            _ => None,
        }
    }

    /// GGML's number for a file that is mostly of this type (`general.file_type`).
    fn file_type(self) -> u64 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
        }
    }
}

/// What is stored: a tensor for each that is asked for, and one more of a table
/// whose last rows stand by themselves.
fn plans(asked: &[Asked], precision: Precision) -> impl Iterator<Item = Plan> {
    asked.iter().flat_map(move |asked| {
        let mut plan = Plan {
            name: asked.name.clone(),
            shape: asked.shape.clone(),
            dtype: precision.dtype(asked),
        };
        let added = precision.apart(asked).map(|added| {
            let (name, cols) = (format!("{}{ADDED}", plan.name), asked.shape[1]);
            plan.shape = vec![asked.shape[0] - added, cols];
            Plan {
                name,
                shape: vec![added, cols],
                dtype: Dtype::F32,
            }
        });
        std::iter::once(plan).chain(added)
    })
}

/// Bytes of the tensors that [`pack`] writes, without what a file says of itself.
pub fn packed_bytes(asked: &[Asked], precision: Precision) -> u64 {
    let plans = plans(asked, precision);
    // None is planned as what its shape does not allow.
    plans.filter_map(|plan| plan.dtype.bytes(&plan.shape)).sum()
}

/// Writes what a model asks for. `progress` is told the tensors written so
/// far, before each and at the end.
///
/// # Errors
/// Where the source lacks a tensor, a number cannot be stored, or writing
/// fails.
pub fn pack<W: Write>(
    out: W,
    packed: &Packed,
    asked: &[Asked],
    source: &dyn Source,
    precision: Precision,
    mut progress: impl FnMut(usize),
) -> Result<W> {
    let metadata = packed.metadata(precision.file_type())?;
    let mut writer = Writer::new(out, &metadata, plans(asked, precision).collect())?;
    for (done, asked) in asked.iter().enumerate() {
        progress(done);
        let Some(added) = precision.apart(asked) else {
            writer.write(source.read(&asked.name, &asked.shape)?)?;
            continue;
        };
        let mut parts = source.parts(&asked.name, &asked.shape)?;
        if parts.len() == 1
            && let Some(whole) = parts.pop()
        {
            parts.extend(split(whole, (asked.shape[0] - added) * asked.shape[1]));
        }
        for part in parts {
            writer.write(part)?;
        }
    }
    progress(asked.len());
    writer.finish()
}

/// The numbers before `at`, which begins a row, and the others.
fn split(data: WeightData, at: usize) -> [WeightData; 2] {
    match data {
        WeightData::F32(mut first) => {
            let rest = first.split_off(at);
            [WeightData::F32(first), WeightData::F32(rest)]
        }
        WeightData::F16(mut first) => {
            let rest = first.split_off(at);
            [WeightData::F16(first), WeightData::F16(rest)]
        }
        WeightData::Quantized(kind, mut first) => {
            let rest = first.split_off(at / BLOCK * kind.block_bytes());
            [first, rest].map(|blocks| WeightData::Quantized(kind, blocks))
        }
    }
}
