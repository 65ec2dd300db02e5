//! How long a model takes on a device, and how much of the device that uses.
//! Library code, so that the command line and the page measure alike; the clock
//! is the caller's.

pub mod chat;
pub mod language;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::backend::{Backend, WeightData};
use crate::config::{
    ClipConfig, NfnetConfig, ResNetConfig, StemConfig, TextPool, TransformerConfig, VisionConfig,
    VisionPool, VitConfig,
};
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
    /// A batch that would take longer than this, in milliseconds, is left out;
    /// one that does is not repeated.
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

/// Operations of one picture; none without an image tower.
pub fn image_flops(config: &ClipConfig) -> f64 {
    match &config.vision {
        None => 0.0,
        Some(VisionConfig::Vit(vit)) => vit_flops(vit, config.embed_dim),
        Some(VisionConfig::ResNet(resnet)) => resnet_flops(resnet, config.embed_dim),
        Some(VisionConfig::Nfnet(nfnet)) => nfnet_flops(nfnet, config.embed_dim),
    }
}

/// Operations of a convolution that makes `side` × `side` pixels.
fn conv_flops(side: usize, kernel: usize, (inner, out): (usize, usize)) -> f64 {
    2.0 * (side * side * kernel * kernel * inner * out) as f64
}

/// Operations where one query reads `tokens`, each as wide as the query.
fn pool_flops(tokens: usize, width: usize, out: usize) -> f64 {
    let (tokens, width, out) = (tokens as f64, width as f64, out as f64);
    2.0 * width * (width + 2.0 * tokens * width + 2.0 * tokens + out)
}

fn vit_flops(vision: &VitConfig, embed_dim: usize) -> f64 {
    let width = vision.transformer.width;
    let grid = vision.grid();
    let stem = match &vision.stem {
        StemConfig::Patch { size, .. } => conv_flops(grid, *size, (3, width)),
        StemConfig::Conv { convs } => {
            let (mut side, mut channels, mut sum) = (vision.image_size, 3, 0.0);
            for conv in convs {
                side = side.div_ceil(conv.stride);
                sum += conv_flops(side, 3, (channels, conv.channels));
                channels = conv.channels;
            }
            sum + conv_flops(grid, 1, (channels, width))
        }
    };
    let pool = match vision.pool {
        VisionPool::Class => conv_flops(1, 1, (width, embed_dim)),
        VisionPool::Cells { side } => conv_flops(side, 1, (width, embed_dim)),
        VisionPool::Map => {
            let mlp = conv_flops(1, 1, (2 * width, vision.transformer.mlp_width));
            pool_flops(vision.tokens(), width, width) + mlp
        }
    };
    stem + transformer_flops(&vision.transformer, vision.tokens()) + pool
}

fn resnet_flops(vision: &ResNetConfig, embed_dim: usize) -> f64 {
    let (width, side) = (vision.width, vision.image_size.div_ceil(2));
    let mut sum = conv_flops(side, 3, (3, width / 2))
        + conv_flops(side, 3, (width / 2, width / 2))
        + conv_flops(side, 3, (width / 2, width));
    let (mut side, mut inner) = (side / 2, width);
    for (i, &blocks) in vision.layers.iter().enumerate() {
        let planes = width << i;
        for block in 0..blocks {
            sum += conv_flops(side, 1, (inner, planes)) + conv_flops(side, 3, (planes, planes));
            if block == 0 {
                side /= if i > 0 { 2 } else { 1 };
                sum += conv_flops(side, 1, (inner, 4 * planes));
            }
            sum += conv_flops(side, 1, (planes, 4 * planes));
            inner = 4 * planes;
        }
    }
    sum + pool_flops(side * side + 1, inner, embed_dim)
}

fn nfnet_flops(vision: &NfnetConfig, embed_dim: usize) -> f64 {
    let (width, mut side) = (vision.stem_width, vision.image_size / 2);
    let mut sum = conv_flops(side, 3, (3, width / 8))
        + conv_flops(side, 3, (width / 8, width / 4))
        + conv_flops(side, 3, (width / 4, width / 2));
    side /= 2;
    sum += conv_flops(side, 3, (width / 2, width));
    let mut inner = width;
    for (i, (&blocks, &out)) in vision.depths.iter().zip(&vision.widths).enumerate() {
        let mid = out / 2;
        for block in 0..blocks {
            sum += conv_flops(side, 1, (inner, mid));
            if block == 0 {
                side /= if i > 0 { 2 } else { 1 };
                sum += conv_flops(side, 1, (inner, out));
            }
            let grouped = conv_flops(side, 3, (vision.group_width, mid));
            let excite = 2.0 * conv_flops(1, 1, (out, out / 2));
            sum += 2.0 * grouped + conv_flops(side, 1, (mid, out)) + excite;
            inner = out;
        }
    }
    let last = vision.final_width;
    sum + conv_flops(side, 1, (inner, last)) + conv_flops(1, 1, (last, embed_dim))
}

/// Operations of one text of `tokens`; none without a text tower.
pub fn text_flops(config: &ClipConfig, tokens: usize) -> f64 {
    config.text.as_ref().map_or(0.0, |text| {
        let tokens = match text.pool {
            TextPool::Eot => tokens,
            TextPool::Last => text.context,
        };
        let width = text.transformer.width;
        transformer_flops(&text.transformer, tokens) + conv_flops(1, 1, (width, config.embed_dim))
    })
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
    let side = config.vision()?.image_size();
    let text = Tokens {
        ids: (1..=TEXT as u32).collect(),
        eot: TEXT - 1,
        truncated: false,
    };
    let (mut images, mut texts) = (Vec::new(), Vec::new());
    for &batch in &plan.batches {
        let pixels = vec![0.1f32; batch * side * side * 3];
        let measured = row(batch, plan, &images, now, async || {
            clip.embed_images(&pixels)?.read().await?;
            Ok(())
        });
        images.extend(measured.await?);
        let labels = vec![text.clone(); batch];
        let measured = row(batch, plan, &texts, now, async || {
            clip.embed_texts(&labels)?.read().await?;
            Ok(())
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
    mut run: impl AsyncFnMut() -> Result<()>,
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
        let turn = now() - start;
        turns.push(turn);
        if turn > plan.most {
            break;
        }
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
        product.gather(&[0])?.read().await?;
        Ok(())
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

    #[test]
    fn so_are_those_of_nfnets() {
        // Brock et al. 2021, Table 1 counts multiplications, in thousand
        // millions.
        for (size, published) in [(0, 12.38), (3, 114.76), (6, 377.28)] {
            let vision = NfnetConfig::f(size).expect("a published size");
            let found = nfnet_flops(&vision, 1000) / 2e9;
            assert!((found / published - 1.0).abs() < 0.005, "F{size}: {found}");
        }
    }

    #[test]
    fn so_are_those_of_every_size() {
        let table = [
            ("ViT-B-16", 35.1),
            ("ViT-L-14", 162.0),
            ("ViT-L/14@336px", 382.0),
            ("ViT-H-14", 335.0),
            ("RN50", 12.2),
            ("RN50x64", 529.0),
        ];
        for (name, published) in table {
            let config = ClipConfig::preset(name).expect("a published size");
            let mut image = image_flops(&config) / 1e9;
            if let Some(VisionConfig::ResNet(resnet)) = &config.vision {
                // open_clip lets every token ask, and reads the first.
                let (rest, width) = ((resnet.grid() * resnet.grid()) as f64, resnet.features());
                let (width, out) = (width as f64, config.embed_dim as f64);
                image += 2.0 * rest * width * (width + 2.0 * (rest + 1.0) + out) / 1e9;
            }
            // Three digits are printed.
            assert!((image / published - 1.0).abs() < 0.005, "{name}: {image}");
        }
    }
}
