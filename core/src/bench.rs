//! How long a model takes on a device, and how much of the device that uses.
//! Library code, so that the command line and the page measure alike; the clock
//! is the caller's.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::backend::{Backend, WeightData};
use crate::config::{ClipConfig, StemConfig, TransformerConfig, VisionPool};
use crate::models::clip::Clip;
use crate::tensor::{After, Tensor, Weight};
use crate::tokens::Tokens;

/// What is measured, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Pictures (and texts) that go through at once, in the order tried.
    pub batches: Vec<usize>,
    /// Each is repeated for so many milliseconds, and three times at least.
    pub budget: f64,
    /// A batch that would take longer than this, in milliseconds, is left out.
    pub most: f64,
}

impl Plan {
    /// Batches of 1 to 16, a second or two for each.
    pub fn usual() -> Self {
        Self {
            batches: vec![1, 4, 16],
            budget: 1500.0,
            most: 6000.0,
        }
    }
}

/// How long one batch took, in milliseconds, over several turns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Pictures or texts in it.
    pub batch: usize,
    /// The quickest turn.
    pub least: f64,
    /// Half of the turns took less.
    pub median: f64,
    /// The slowest turn.
    pub most: f64,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Floating-point operations of one picture: two for each product that is
    /// summed, matrices alone.
    pub image_flops: f64,
    /// The same for one text of [`TEXT`] tokens.
    pub text_flops: f64,
    /// Pictures.
    pub images: Vec<Row>,
    /// Texts of [`TEXT`] tokens.
    pub texts: Vec<Row>,
    /// Operations each second, in thousand millions, that the device reaches on
    /// one large product alone: the roof over everything else.
    pub roof: f64,
}

/// Tokens of a text: a short label in a short sentence, both ends included.
pub const TEXT: usize = 8;

/// Sides of the product under [`Times::roof`]: those of ViT-B/32's MLP, with
/// rows enough to fill a device.
const ROOF: (usize, usize, usize) = (512, 768, 3072);

/// Operations of the blocks on one sequence of `rows`.
fn transformer_flops(config: &TransformerConfig, rows: usize) -> f64 {
    let (width, mlp, rows) = (config.width as f64, config.mlp_width as f64, rows as f64);
    // q, k, v and out; scores and their sums; the two layers of the MLP.
    let block = 4.0 * width * width + 2.0 * rows * width + 2.0 * width * mlp;
    2.0 * rows * block * config.layers as f64
}

/// Operations of one picture.
pub fn image_flops(config: &ClipConfig) -> f64 {
    let vision = &config.vision;
    let width = vision.transformer.width as f64;
    let cells = (vision.grid() * vision.grid()) as f64;
    let stem = match &vision.stem {
        StemConfig::Patch { size } => 2.0 * cells * (3 * size * size) as f64 * width,
        StemConfig::Conv { convs } => {
            let (mut side, mut channels, mut sum) = (vision.image_size, 3, 0.0);
            for conv in convs {
                side = side.div_ceil(conv.stride);
                sum += 2.0 * (side * side * 9 * channels * conv.channels) as f64;
                channels = conv.channels;
            }
            sum + 2.0 * cells * channels as f64 * width
        }
    };
    let pooled = match vision.pool {
        VisionPool::Class => width,
        VisionPool::Cells { side } => (side * side) as f64 * width,
    };
    let blocks = transformer_flops(&vision.transformer, vision.tokens());
    stem + blocks + 2.0 * pooled * config.embed_dim as f64
}

/// Operations of one text of `tokens`.
pub fn text_flops(config: &ClipConfig, tokens: usize) -> f64 {
    let text = &config.text.transformer;
    transformer_flops(text, tokens) + 2.0 * (text.width * config.embed_dim) as f64
}

/// Measures a model. `now` gives milliseconds.
///
/// # Errors
/// Where the device fails.
pub async fn times<B: Backend>(
    clip: &Clip<B>,
    plan: &Plan,
    now: &dyn Fn() -> f64,
) -> Result<Times> {
    let config = clip.config();
    let side = config.vision.image_size;
    let text = Tokens {
        ids: (1..=TEXT as u32).collect(),
        eot: TEXT - 1,
        truncated: false,
    };
    let (mut images, mut texts) = (Vec::new(), Vec::new());
    for &batch in &plan.batches {
        let pixels = vec![0.1f32; batch * side * side * 3];
        let measured = row(batch, plan, &images, now, async || {
            clip.embed_images(&pixels)?.read().await
        });
        images.extend(measured.await?);
        let labels = vec![text.clone(); batch];
        let measured = row(batch, plan, &texts, now, async || {
            clip.embed_texts(&labels)?.read().await
        });
        texts.extend(measured.await?);
    }
    Ok(Times {
        image_flops: image_flops(config),
        text_flops: text_flops(config, TEXT),
        images,
        texts,
        roof: roof(clip.backend(), plan, now).await?,
    })
}

/// Repeats `run`; none where the batches before say that it takes too long.
async fn row(
    batch: usize,
    plan: &Plan,
    before: &[Row],
    now: &dyn Fn() -> f64,
    run: impl AsyncFn() -> Result<Vec<f32>>,
) -> Result<Option<Row>> {
    let each = before.last().map(|row| row.median / row.batch as f64);
    if each.is_some_and(|each| each * batch as f64 > plan.most) {
        return Ok(None);
    }
    // The first turn builds what later ones find.
    run().await?;
    let begun = now();
    let mut turns = Vec::new();
    while turns.len() < 3 || now() - begun < plan.budget {
        let start = now();
        run().await?;
        turns.push(now() - start);
    }
    turns.sort_by(f64::total_cmp);
    Ok(Some(Row {
        batch,
        least: turns[0],
        median: turns[turns.len() / 2],
        most: turns[turns.len() - 1],
    }))
}

/// See [`Times::roof`].
async fn roof<B: Backend>(backend: &B, plan: &Plan, now: &dyn Fn() -> f64) -> Result<f64> {
    let (rows, inner, out) = ROOF;
    let x = Tensor::upload(backend, &vec![0.5; rows * inner], &[rows, inner])?;
    let data = WeightData::F32(vec![0.5; out * inner]);
    let weight = Weight::new(backend.weight("roof", data, out, inner)?, out, inner);
    // One row is read back, which makes the device finish and moves little.
    let measured = row(1, plan, &[], now, async || {
        let product = x.linear(&weight, &After::default())?;
        product.gather(&[0])?.read().await
    });
    let flops = 2.0 * (rows * inner * out) as f64;
    Ok(measured.await?.map_or(0.0, |row| flops / row.least / 1e6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_those_of_the_literature() {
        // ViT-B-32 in open_clip's docs/model_profile.csv, in thousand millions;
        // its texts are of 77 tokens.
        let config = ClipConfig::vit_b_32();
        let image = image_flops(&config) / 1e9;
        assert!((image - 8.82).abs() < 0.005, "{image}");
        let text = text_flops(&config, 77) / 1e9;
        assert!((text - 5.96).abs() < 0.005, "{text}");
    }
}
