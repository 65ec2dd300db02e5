//! What a token costs on the GPU: kernels run, reads, objects made.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use plume_core::Result;
use plume_core::backend::{Activation, WeightData};
use plume_core::checkpoint::Source;
use plume_core::config::flamingo::{FlamingoConfig, ResamplerKind, XattnConfig};
use plume_core::config::language::{NormKind, Positions, Residual};
use plume_core::config::{StemConfig, VisionConfig};
use plume_core::gpu::{Counters, Gpu};
use plume_core::models::flamingo::Flamingo;
use plume_core::models::lm::Pass;
use plume_core::tensor::Tensor;
use plume_tests::gpu;
use pollster::block_on;

/// Numbers of no meaning.
struct Anything;

impl Source for Anything {
    fn read(&self, _name: &str, shape: &[usize]) -> Result<WeightData> {
        let len = shape.iter().product::<usize>();
        let number = |i: usize| (i * 7 % 13) as f32 * 0.01 - 0.06;
        Ok(WeightData::F32((0..len).map(number).collect()))
    }
}

/// An OpenFlamingo cut down to `layers` blocks of a width of 64, each with a
/// gated layer before it.
fn small(name: &str, layers: usize) -> FlamingoConfig {
    let mut config = FlamingoConfig::open_flamingo(name).unwrap();
    let VisionConfig::Vit(vit) = &mut config.vision else {
        panic!("OpenFlamingo sees by a vision transformer");
    };
    vit.image_size = 16;
    vit.stem = StemConfig::Patch {
        size: 8,
        bias: false,
    };
    let tower = &mut vit.transformer;
    (tower.width, tower.layers, tower.heads, tower.mlp_width) = (32, 1, 2, 64);
    config.resampler.kind = ResamplerKind::Perceiver { latents: 8 };
    (config.resampler.depth, config.resampler.mlp_width) = (1, 64);
    config.xattn.layers = XattnConfig::every(1, layers);
    config.xattn.mlp_width = 128;
    let lm = &mut config.lm;
    (lm.width, lm.embed_width, lm.layers) = (64, 64, layers);
    (lm.heads, lm.mlp_width, lm.context) = (4, 128, 64);
    lm.vocab_size = 96;
    if let Positions::Rotary { dims, .. } = &mut lm.positions {
        *dims = 16;
    }
    (config.image_token, config.end_of_chunk) = (95, 94);
    config
}

/// What each of six tokens costs after a prompt with a picture.
fn tokens(gpu: &Gpu, config: &FlamingoConfig) -> Vec<Counters> {
    let flamingo = Flamingo::load(gpu, config, &Anything).unwrap();
    let width = config.vision.width();
    let seen = Tensor::upload(gpu, &vec![0.1; 8 * width], &[1, 8, width]).unwrap();
    let media = flamingo.media(&seen, 1).unwrap();
    let lm = flamingo.lm();
    let mut cache = lm.cache(32, &[0]).unwrap();
    let mut step = |ids: &[u32]| {
        let before = gpu.counters();
        let pass = Pass::next(gpu, &cache, ids.len()).unwrap();
        let images = vec![1; ids.len()];
        let x = flamingo.forward(ids, &images, &pass, &media, Some(&mut cache));
        let mut x = x.unwrap();
        if ids.len() > 1 {
            x = x.narrow(ids.len() - 1, 1).unwrap();
        }
        block_on(lm.logits(&x).unwrap().top_k(1).unwrap().read()).unwrap();
        gpu.counters().since(before)
    };
    step(&[95, 1, 2, 3]);
    (4..10).map(|id| step(&[id])).collect()
}

/// The language model as LLaMA.
fn llama(mut config: FlamingoConfig) -> FlamingoConfig {
    let lm = &mut config.lm;
    (lm.gated_mlp, lm.activation) = (true, Activation::Silu);
    (lm.norm, lm.bias, lm.qk_norm) = (NormKind::Rms, false, false);
    lm.residual = Residual::Sequential;
    lm.positions = Positions::Rotary {
        dims: 16,
        base: 10_000.0,
        interleaved: false,
    };
    config
}

/// As [`llama`], with IDEFICS's layers between.
fn idefics(config: FlamingoConfig) -> FlamingoConfig {
    let mut config = llama(config);
    let xattn = &mut config.xattn;
    (xattn.gated_mlp, xattn.activation) = (true, Activation::Silu);
    (xattn.norm, xattn.qk_norm) = (NormKind::Rms, true);
    config
}

/// As [`llama`], with smeared keys.
fn smeared(config: FlamingoConfig) -> FlamingoConfig {
    let mut config = llama(config);
    config.lm.smeared_keys = true;
    config
}

/// A pair is a block of the language model and the gated layer before it.
#[test]
fn a_layer_pair_takes_at_most_twelve_dispatches_and_a_token_makes_nothing() {
    let Some(gpu) = gpu() else { return };
    let same: fn(FlamingoConfig) -> FlamingoConfig = |config| config;
    let cases = [
        ("OpenFlamingo-3B", same, 12),
        ("OpenFlamingo-4B", same, 11),
        ("OpenFlamingo-9B", same, 11),
        ("OpenFlamingo-9B", llama, 11),
        ("OpenFlamingo-9B", idefics, 12),
        ("OpenFlamingo-9B", smeared, 11),
    ];
    for (i, (name, with, most)) in cases.into_iter().enumerate() {
        let of = |layers| tokens(&gpu, &with(small(name, layers)));
        let (one, two) = (of(1), of(2));
        let last = two.len() - 1;
        let pair = two[last].dispatches - one[last].dispatches;
        assert_eq!(pair, most, "{name}, case {i}");
        for token in &two[1..] {
            assert_eq!((token.submits, token.objects), (1, 0), "{name}: {two:?}");
            // A likeliest token, its logit and what the others weigh.
            assert_eq!(token.read, 12, "{name}");
        }
        // The embedding, the head with its norm, the likeliest.
        assert!(one[last].dispatches - pair <= 3, "{name}: {:?}", one[last]);
    }
}
