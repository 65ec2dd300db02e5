//! The published models' sizes by name: the paper's Tables 19 and 20,
//! open_clip's and TinyCLIP's `model_configs`, SigLIP's Table 1.

use crate::backend::Activation::{self, Gelu, GeluTanh, QuickGelu};
use crate::config::{
    ClipConfig, ResNetConfig, Scoring, StemConfig, TextConfig, TextPool, TransformerConfig,
    VisionConfig, VisionPool, VitConfig,
};

/// Layers, width and heads.
type Blocks = (usize, usize, usize);

/// An image tower.
enum Vision {
    /// Patch size and blocks.
    Vit(usize, Blocks),
    /// Width and blocks of each layer.
    ResNet(usize, [usize; 4]),
}
use Vision::{ResNet, Vit};

/// Name, image size, image tower, `embed_dim`, text tower, activation.
type Row = (&'static str, usize, Vision, usize, Blocks, Activation);

#[rustfmt::skip]
const CLIP: &[Row] = &[
    // OpenAI (CLIP Tables 19 and 20).
    ("RN50",           224, ResNet(64, [3, 4, 6, 3]),     1024, (12, 512, 8),   QuickGelu),
    ("RN101",          224, ResNet(64, [3, 4, 23, 3]),    512,  (12, 512, 8),   QuickGelu),
    ("RN50x4",         288, ResNet(80, [4, 6, 10, 6]),    640,  (12, 640, 10),  QuickGelu),
    ("RN50x16",        384, ResNet(96, [6, 8, 18, 8]),    768,  (12, 768, 12),  QuickGelu),
    ("RN50x64",        448, ResNet(128, [3, 15, 36, 10]), 1024, (12, 1024, 16), QuickGelu),
    ("ViT-B/32",       224, Vit(32, (12, 768, 12)),       512,  (12, 512, 8),   QuickGelu),
    ("ViT-B/16",       224, Vit(16, (12, 768, 12)),       512,  (12, 512, 8),   QuickGelu),
    ("ViT-L/14",       224, Vit(14, (24, 1024, 16)),      768,  (12, 768, 12),  QuickGelu),
    ("ViT-L/14@336px", 336, Vit(14, (24, 1024, 16)),      768,  (12, 768, 12),  QuickGelu),
    // open_clip's own weights, under its names.
    ("ViT-B-32",       224, Vit(32, (12, 768, 12)),       512,  (12, 512, 8),   Gelu),
    ("ViT-B-16",       224, Vit(16, (12, 768, 12)),       512,  (12, 512, 8),   Gelu),
    ("ViT-L-14",       224, Vit(14, (24, 1024, 16)),      768,  (12, 768, 12),  Gelu),
    // The only one whose heads are 80 wide.
    ("ViT-H-14",       224, Vit(14, (32, 1280, 16)),      1024, (24, 1024, 16), Gelu),
    // TinyCLIP.
    ("TinyCLIP-ViT-8M-16-Text-3M",   224, Vit(16, (10, 256, 4)),     512,  (3, 256, 4), Gelu),
    ("TinyCLIP-ViT-39M-16-Text-19M", 224, Vit(16, (12, 512, 8)),     512,  (6, 512, 8), Gelu),
    ("TinyCLIP-ViT-61M-32-Text-29M", 224, Vit(32, (12, 640, 10)),    512,  (9, 512, 8), Gelu),
    ("TinyCLIP-ResNet-19M-Text-19M", 224, ResNet(44, [3, 4, 6, 3]),  1024, (6, 512, 8), Gelu),
    ("TinyCLIP-ResNet-30M-Text-29M", 224, ResNet(56, [3, 4, 6, 3]),  1024, (9, 512, 8), Gelu),
];

/// Name, image size, patch size, blocks of both towers, width of the MLPs.
#[rustfmt::skip]
const SIGLIP: &[(&str, usize, usize, Blocks, usize)] = &[
    ("ViT-B-16-SigLIP",         224, 16, (12, 768, 12),  3072),
    ("ViT-B-16-SigLIP-256",     256, 16, (12, 768, 12),  3072),
    ("ViT-B-16-SigLIP-384",     384, 16, (12, 768, 12),  3072),
    ("ViT-L-16-SigLIP-256",     256, 16, (24, 1024, 16), 4096),
    ("ViT-SO400M-14-SigLIP-384", 384, 14, (27, 1152, 16), 4304),
];

fn transformer((layers, width, heads): Blocks, activation: Activation) -> TransformerConfig {
    TransformerConfig {
        width,
        layers,
        heads,
        mlp_width: 4 * width,
        activation,
        layer_norm_eps: 1e-5,
    }
}

fn clip(row: &Row) -> ClipConfig {
    let (_, image_size, ref vision, embed_dim, text, activation) = *row;
    ClipConfig {
        embed_dim,
        vision: Some(match *vision {
            Vit(size, blocks) => VisionConfig::Vit(VitConfig {
                image_size,
                stem: StemConfig::Patch { size, bias: false },
                transformer: transformer(blocks, activation),
                pool: VisionPool::Class,
                ln_pre: true,
            }),
            ResNet(width, layers) => VisionConfig::ResNet(ResNetConfig {
                image_size,
                width,
                layers,
                heads: width / 2,
            }),
        }),
        text: Some(TextConfig {
            context: 77,
            vocab_size: 49408,
            transformer: transformer(text, activation),
            causal: true,
            pool: TextPool::Eot,
            proj_bias: false,
        }),
        scoring: Scoring::Softmax,
    }
}

fn siglip(image_size: usize, size: usize, blocks: Blocks, mlp_width: usize) -> ClipConfig {
    let transformer = TransformerConfig {
        mlp_width,
        layer_norm_eps: 1e-6,
        ..transformer(blocks, GeluTanh)
    };
    ClipConfig {
        embed_dim: transformer.width,
        vision: Some(VisionConfig::Vit(VitConfig {
            image_size,
            stem: StemConfig::Patch { size, bias: true },
            transformer: transformer.clone(),
            pool: VisionPool::Map,
            ln_pre: false,
        })),
        text: Some(TextConfig {
            context: 64,
            vocab_size: 32000,
            transformer,
            causal: false,
            pool: TextPool::Last,
            proj_bias: true,
        }),
        scoring: Scoring::Sigmoid,
    }
}

impl ClipConfig {
    /// The sizes of a published model. OpenAI's names, such as `ViT-B/32` and
    /// `RN50`, have QuickGELU; open_clip's, such as `ViT-B-32`, GELU.
    pub fn preset(name: &str) -> Option<Self> {
        let row = CLIP.iter().find(|row| row.0 == name).map(clip);
        row.or_else(|| {
            let row = SIGLIP.iter().find(|row| row.0 == name);
            row.map(|&(_, side, patch, blocks, mlp_width)| siglip(side, patch, blocks, mlp_width))
        })
    }

    /// The names that [`ClipConfig::preset`] knows.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        let clip = CLIP.iter().map(|row| row.0);
        clip.chain(SIGLIP.iter().map(|row| row.0))
    }

    /// The paper's ViT-B/32 (Table 20) with QuickGELU.
    pub fn vit_b_32() -> Self {
        clip(&CLIP[5])
    }
}
