//! A training step of whole models.

use candle_core::Var;
use plume_cli::train::batch::Batch;
use plume_cli::train::step::{contrastive_loss, gradients};
use plume_core::Result;
use plume_core::backend::{Activation, WeightData};
use plume_core::checkpoint::Source;
use plume_core::config::flamingo::{
    FlamingoConfig, Gate, ResamplerConfig, ResamplerKind, VisionFeatures, XattnConfig, XattnKind,
};
use plume_core::config::language::{LmConfig, NormKind};
use plume_core::config::{
    ClipConfig, ConvConfig, NfnetConfig, Scoring, StemConfig, TextConfig, TextPool,
    TransformerConfig, VisionConfig, VisionPool, VitConfig,
};
use plume_core::cpu::Candle;
use plume_core::models::clip::Clip;
use plume_core::models::flamingo::Flamingo;
use plume_core::models::lm::Pass;
use plume_core::tensor::Tensor;
use plume_core::tokens::Tokens;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{agree, dot, numbers, wide};

/// The loss in f64, as Figure 3 of the paper has it, with false captions that
/// only pictures choose against.
fn reference_loss(
    images: &[f64],
    texts: &[f64],
    (n, width): (usize, usize),
    log_scale: f64,
    excused: &[Option<usize>],
) -> f64 {
    let all = n + excused.len();
    let logit = |image: usize, text: usize| {
        let (a, b) = (&images[image * width..], &texts[text * width..]);
        log_scale.exp() * dot(&a[..width], &b[..width])
    };
    let cross_entropy = |logits: Vec<f64>, truth: f64| {
        logits.iter().map(|logit| logit.exp()).sum::<f64>().ln() - truth
    };
    let mut sum = 0.0;
    for i in 0..n {
        let seen = (0..all).filter(|&j| j < n || excused[j - n] != Some(i));
        sum += cross_entropy(seen.map(|j| logit(i, j)).collect(), logit(i, i));
        sum += cross_entropy((0..n).map(|j| logit(j, i)).collect(), logit(i, i));
    }
    sum / (2 * n) as f64
}

#[test]
fn the_contrastive_loss() {
    let mut rng = SmallRng::seed_from_u64(5);
    let (n, width) = (4, 3);
    let excused = [Some(2), None];
    let var = |shape: &[usize], rng: &mut SmallRng| Var::from_tensor(&numbers(shape, rng)).unwrap();
    let images = var(&[n, width], &mut rng);
    let texts = var(&[n + excused.len(), width], &mut rng);
    let scale = var(&[1], &mut rng);
    let loss = contrastive_loss(&images, &texts, &scale, &excused).unwrap();
    let reference = || {
        let scale = wide(&scale)[0];
        reference_loss(&wide(&images), &wide(&texts), (n, width), scale, &excused)
    };
    let value = f64::from(loss.to_scalar::<f32>().unwrap());
    assert!((value - reference()).abs() < 1e-6 * value, "{value}");
    let store = loss.backward().unwrap();
    for (name, var) in [("images", &images), ("texts", &texts), ("scale", &scale)] {
        let gradient = store.get(var).unwrap();
        agree(name, var, gradient, (0.02, 1e-3), &mut rng, reference);
    }
}

/// Weights with which the residual stream is of order one, gains away from one
/// and biases from zero: each of them counts.
struct Uneven;

impl Source for Uneven {
    fn read(&self, name: &str, shape: &[usize]) -> Result<WeightData> {
        let seed = name
            .bytes()
            .fold(11, |sum, byte| sum * 31 % 65_521 + u64::from(byte));
        let mut rng = SmallRng::seed_from_u64(seed);
        let inner = *shape.last().unwrap_or(&1) as f32;
        let (mean, spread) = match (name.rsplit('.').next(), shape.len()) {
            (Some("logit_scale"), _) => (1.5, 0.0),
            (Some("weight"), 1) => (1.0, 0.3),
            (Some("bias"), _) => (0.0, 0.3),
            (Some(name), _) if name.ends_with("embedding") => (0.0, 1.0),
            _ => (0.0, 1.7 / inner.sqrt()),
        };
        let len = shape.iter().product();
        if name.ends_with("se.fc1.bias") {
            // Far from where its ReLU has no derivative.
            let far = |i: usize| if i.is_multiple_of(2) { 2.0 } else { -2.0 };
            return Ok(WeightData::F32((0..len).map(far).collect()));
        }
        let draw = |_| mean + spread * rng.random_range(-1.0f32..1.0);
        Ok(WeightData::F32((0..len).map(draw).collect()))
    }
}

fn tiny(stem: StemConfig, pool: VisionPool, causal: bool, activation: Activation) -> ClipConfig {
    let transformer = |width, heads| TransformerConfig {
        width,
        layers: 2,
        heads,
        mlp_width: 2 * width,
        activation,
        layer_norm_eps: 1e-5,
    };
    ClipConfig {
        embed_dim: 6,
        vision: Some(VisionConfig::Vit(VitConfig {
            image_size: 8,
            stem,
            transformer: transformer(8, 2),
            pool,
            ln_pre: true,
        })),
        text: Some(TextConfig {
            context: 6,
            vocab_size: 7,
            transformer: transformer(6, 3),
            causal,
            pool: TextPool::Eot,
            proj_bias: false,
        }),
        scoring: Scoring::Softmax,
    }
}

/// The gradient of a training step by every parameter of a model, with steps of
/// a size and gradients taken to be so long at least: the deeper a model is, the
/// more its rounding makes of small ones.
fn whole_model(config: &ClipConfig, steps: (f64, f64)) {
    let mut rng = SmallRng::seed_from_u64(2);
    let (device, parameters) = Candle::training();
    let clip = Clip::load(&device, config, &Uneven).unwrap();
    let (n, side) = (3, config.vision().unwrap().image_size());
    let text = |ids: &[u32]| Tokens {
        ids: ids.to_vec(),
        eot: ids.len() - 1,
        truncated: false,
    };
    let batch = Batch {
        pixels: (0..n * side * side * 3)
            .map(|_| rng.random_range(-1.0..1.0))
            .collect(),
        // Of several lengths; the last is a false caption.
        texts: vec![
            text(&[0, 1, 6]),
            text(&[0, 2, 3, 4, 6]),
            text(&[0, 5, 2, 6]),
            text(&[0, 4, 3, 2, 6]),
        ],
        excused: vec![Some(0)],
        n,
    };
    let all = parameters.all();
    let (_, gradients) = gradients(&clip, &all, &batch).unwrap();
    let loss = || {
        let images = clip.embed_images(&batch.pixels).unwrap();
        let texts = clip.embed_texts(&batch.texts).unwrap();
        let (images, texts) = (wide(images.buffer()), wide(texts.buffer()));
        let scale = wide(clip.logit_scale.as_ref().unwrap().buffer())[0];
        let sizes = (n, config.embed_dim);
        reference_loss(&images, &texts, sizes, scale, &batch.excused)
    };
    assert!(all.len() > 50, "{} parameters", all.len());
    for (name, var) in &all {
        agree(name, var, &gradients[name], steps, &mut rng, loss);
    }
}

#[test]
fn a_model_of_patches_a_class_token_and_a_causal_text_tower() {
    let stem = StemConfig::Patch {
        size: 4,
        bias: false,
    };
    whole_model(
        &tiny(stem, VisionPool::Class, true, Activation::QuickGelu),
        (0.002, 0.02),
    );
}

#[test]
fn a_model_of_convolutions_cells_and_a_text_tower_that_sees_both_ways() {
    let conv = |channels, stride| ConvConfig { channels, stride };
    let stem = StemConfig::Conv {
        convs: vec![conv(8, 2), conv(8, 1)],
    };
    let pool = VisionPool::Cells { side: 2 };
    whole_model(&tiny(stem, pool, false, Activation::Gelu), (0.002, 0.02));
}

/// Grouped convolutions, squeeze and excitation, and weights that count γ / β
/// times.
#[test]
fn an_nfnet() {
    let stem = StemConfig::Conv { convs: Vec::new() };
    let rest = tiny(stem, VisionPool::Class, true, Activation::Gelu);
    let config = ClipConfig {
        vision: Some(VisionConfig::Nfnet(NfnetConfig {
            image_size: 32,
            stem_width: 16,
            depths: [1, 2, 1, 1],
            widths: [16, 16, 32, 32],
            group_width: 4,
            final_width: 16,
            activation: Activation::Silu,
            alpha: 0.6,
        })),
        ..rest
    };
    whole_model(&config, (0.003, 0.1));
}

/// A Flamingo with smeared keys, resampler and gates, of two texts with
/// pictures of their own: the gradient by everything but the image tower, as
/// training with a frozen one has it, and none by what is frozen.
#[test]
fn a_flamingo() {
    flamingo(true);
}

/// The same by its image tower too.
#[test]
fn a_flamingo_with_its_image_tower() {
    flamingo(false);
}

fn flamingo(frozen: bool) {
    let conv = |channels, stride| ConvConfig { channels, stride };
    let stem = StemConfig::Conv {
        convs: vec![conv(8, 2), conv(8, 2)],
    };
    let vision = tiny(stem, VisionPool::Cells { side: 2 }, false, Activation::Gelu).vision;
    let config = FlamingoConfig {
        vision: vision.unwrap(),
        features: VisionFeatures {
            class_token: false,
            ln_post: true,
        },
        resampler: ResamplerConfig {
            kind: ResamplerKind::Perceiver { latents: 2 },
            depth: 1,
            heads: 2,
            head_dim: 4,
            mlp_width: 8,
            activation: Activation::Gelu,
            time_embeddings: 0,
            qk_norm: false,
            norm_eps: 1e-5,
        },
        xattn: XattnConfig {
            kind: XattnKind::Gated,
            layers: vec![0, 1],
            heads: 2,
            head_dim: 4,
            mlp_width: 8,
            activation: Activation::Gelu,
            gated_mlp: false,
            norm: NormKind::Layer,
            norm_eps: 1e-5,
            gate: Gate::Vector,
            all_previous: false,
            qk_norm: false,
        },
        lm: LmConfig {
            smeared_keys: true,
            ..LmConfig::chinchilla(8, 2, 2, 9)
        },
        image_token: 1,
        more_image_tokens: Vec::new(),
        end_of_chunk: 2,
        end_of_sight: None,
    };
    let mut rng = SmallRng::seed_from_u64(4);
    let learned = move |name: &str| !frozen || !name.starts_with("vision.");
    let (device, parameters) = Candle::training_some(learned);
    let flamingo = Flamingo::load(&device, &config, &Uneven).unwrap();
    let features = numbers(&[4, 4, 8], &mut rng);
    let features = Tensor::new(&device, features, &[4, 4, 8]);
    let pixels = numbers(&[4, 8, 8, 3], &mut SmallRng::seed_from_u64(6));
    let pixels = Tensor::new(&device, pixels, &[4, 8, 8, 3]);
    let ids = [1, 4, 3, 1, 7, 0, 5, 1, 1, 8];
    let seen: Vec<u32> = ids
        .chunks_exact(5)
        .flat_map(|ids| flamingo.image_numbers(ids))
        .collect();
    let run = || {
        let features = if frozen {
            features.clone()
        } else {
            flamingo.features(&pixels).unwrap()
        };
        let visual = flamingo.resample(&features, 1).unwrap();
        let media = flamingo.media(&visual, 2).unwrap();
        let pass = Pass::whole(&device, 5, &[0, 0]).unwrap();
        let x = flamingo.forward(&ids, &seen, &pass, &media, None).unwrap();
        flamingo.lm().logits(&x).unwrap().buffer().clone()
    };
    let output = run();
    let weights = numbers(output.dims(), &mut rng);
    let store = (&output * &weights).unwrap().sum_all().unwrap();
    let store = store.backward().unwrap();
    let weights = wide(&weights);
    let all = parameters.all();
    assert!(all.len() > 40, "{} parameters", all.len());
    for part in [
        "lm.blocks.1.attn.k_smear",
        "resampler.latents",
        "xattn.1.ff_gate",
    ] {
        assert!(all.iter().any(|(name, _)| name == part), "{part}");
    }
    let tower = |(name, _): &(String, Var)| name.starts_with("vision.");
    assert_eq!(all.iter().any(tower), !frozen);
    for (name, var) in &all {
        let loss = || dot(&wide(&run()), &weights);
        let gradient = store.get(var).unwrap_or_else(|| panic!("{name}: none"));
        // Through the whole tower the loss bends sooner, and rounding shows in
        // what it hardly depends on.
        let how = if frozen { (0.01, 0.05) } else { (0.005, 0.5) };
        agree(name, var, gradient, how, &mut rng, loss);
    }
}
