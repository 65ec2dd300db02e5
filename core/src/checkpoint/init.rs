//! Random weights to start training from, drawn as OpenAI's `model.py` does
//! (`initialize_parameters`). The same seed gives the same weights everywhere.

use crate::Result;
use crate::backend::WeightData;
use crate::checkpoint::Source;
use crate::config::{ClipConfig, TransformerConfig, VisionConfig, VisionPool};

/// Random weights for a configuration.
pub struct Init {
    config: ClipConfig,
    seed: u64,
}

impl Init {
    /// Weights for `config`, drawn from `seed`.
    pub fn new(config: ClipConfig, seed: u64) -> Self {
        Self { config, seed }
    }

    /// Width and layers of the tower that a tensor belongs to.
    fn tower(&self, name: &str) -> (usize, usize) {
        let of = |t: &TransformerConfig| (t.width, t.layers);
        match (&self.config.vision, &self.config.text) {
            (Some(VisionConfig::Vit(vit)), _) if name.starts_with("vision.") => {
                of(&vit.transformer)
            }
            (Some(VisionConfig::ResNet(resnet)), _) if name.starts_with("vision.") => {
                (resnet.features(), resnet.layers.iter().sum())
            }
            (Some(VisionConfig::Nfnet(nfnet)), _) if name.starts_with("vision.") => {
                (nfnet.features(), nfnet.depths.iter().sum())
            }
            (_, text) => text.as_ref().map_or((1, 1), |text| of(&text.transformer)),
        }
    }

    /// What a tensor is filled with.
    fn fill(&self, name: &str, shape: &[usize]) -> Fill {
        let (width, layers) = self.tower(name);
        let (width, layers) = (width as f32, layers as f32);
        let leaf = name.rsplit('.').next().unwrap_or(name);
        let inner = *shape.last().unwrap_or(&1) as f32;
        if let Some(VisionConfig::Vit(vit)) = &self.config.vision
            && let (VisionPool::Cells { side }, "vision.proj") = (vit.pool, name)
        {
            // Every cell alike: the embedding begins as that of the mean.
            let cells = side * side;
            return Fill::Tiled(cells, width.sqrt().recip() / cells as f32);
        }
        let deviation = match (leaf, shape.len()) {
            // ln(1 / 0.07), CLIP §2.5.
            ("logit_scale", _) => return Fill::Constant(2.659_26),
            // SigLIP §3.2.
            ("logit_bias", _) => return Fill::Constant(-10.0),
            // A block of an NFNet begins as its shortcut (De and Smith 2020).
            ("bias" | "skip_gain", _) => return Fill::Constant(0.0),
            ("weight", 1) => return Fill::Constant(1.0),
            ("token_embedding", _) => 0.02,
            ("positional_embedding", _) if name.starts_with("text.") => 0.01,
            ("weight", _) if name.contains(".qkv.") => width.sqrt().recip(),
            ("weight", _) if name.contains(".attn.out.") || name.contains(".c_proj.") => {
                (width * 2.0 * layers).sqrt().recip()
            }
            ("weight", _) if name.contains(".c_fc.") => (2.0 * width).sqrt().recip(),
            // He et al. 2015, for layers followed by a rectifier of sorts.
            ("weight", _) if name.contains("conv") => (2.0 / inner).sqrt(),
            ("weight", _) => inner.sqrt().recip(),
            _ => width.sqrt().recip(),
        };
        Fill::Normal(deviation)
    }
}

/// Random weights for a language model, and for what lets it see.
pub struct LmInit {
    /// Blocks and heads of the language model.
    sizes: (usize, usize),
    seed: u64,
}

impl LmInit {
    /// Weights beside those of a language model of `layers` blocks with `heads`
    /// heads, or of such a model, drawn from `seed`.
    pub fn new(layers: usize, heads: usize, seed: u64) -> Self {
        Self {
            sizes: (layers, heads),
            seed,
        }
    }
}

impl Source for LmInit {
    fn read(&self, name: &str, shape: &[usize]) -> Result<WeightData> {
        let (layers, heads) = self.sizes;
        let len: usize = shape.iter().product();
        let leaf = name.rsplit('.').next().unwrap_or(name);
        let inner = *shape.last().unwrap_or(&1) as f32;
        let back = [".attn.out.", ".c_proj.", ".to_out."];
        let deviation = match (leaf, shape.len()) {
            // Every second head begins with its gates well open.
            ("k_smear", _) => {
                let open = |i: usize| {
                    if (i * heads / len).is_multiple_of(2) {
                        1.5
                    } else {
                        0.0
                    }
                };
                return Ok(WeightData::F32((0..len).map(open).collect()));
            }
            // A language model with its layers closed is itself (Flamingo §2.2).
            ("attn_gate" | "ff_gate" | "bias", _) => 0.0,
            ("weight", 1) => return Ok(WeightData::F32(vec![1.0; len])),
            ("token_embedding", _) => 0.05,
            ("latents", _) => 1.0,
            _ if back.iter().any(|part| name.contains(part)) => {
                (inner * 2.0 * layers as f32).sqrt().recip()
            }
            _ => inner.sqrt().recip(),
        };
        let numbers = normals(self.seed ^ hash(name), len, deviation);
        Ok(WeightData::F32(numbers))
    }
}

enum Fill {
    Constant(f32),
    Normal(f32),
    /// Normal numbers, each row of them so many times side by side.
    Tiled(usize, f32),
}

impl Source for Init {
    fn read(&self, name: &str, shape: &[usize]) -> Result<WeightData> {
        let len = shape.iter().product();
        let draw = |len, deviation| normals(self.seed ^ hash(name), len, deviation);
        Ok(WeightData::F32(match self.fill(name, shape) {
            Fill::Constant(value) => vec![value; len],
            Fill::Normal(deviation) => draw(len, deviation),
            Fill::Tiled(times, deviation) => {
                let cols = shape.last().copied().unwrap_or(1) / times;
                let tile = draw(len / times, deviation);
                tile.chunks(cols)
                    .flat_map(|row| row.repeat(times))
                    .collect()
            }
        }))
    }
}

/// FNV-1a: each tensor has its own stream, whatever the order of reading.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Normal numbers: SplitMix64 and Box–Muller.
fn normals(mut state: u64, len: usize, deviation: f32) -> Vec<f32> {
    let mut uniform = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut numbers = Vec::with_capacity(len + 1);
    while numbers.len() < len {
        let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * uniform()).sin_cos();
        for part in [sin, cos] {
            numbers.push((radius * part) as f32 * deviation);
        }
    }
    numbers.truncate(len);
    numbers
}
