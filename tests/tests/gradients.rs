//! Gradients against finite differences, of every operation and block that
//! training goes through.
//!
//! The loss is a fixed random combination of the outputs, summed in f64. Along
//! a direction of random signs its derivative comes from four points (the error
//! is of the fourth order in the step), which leaves little but the rounding of
//! f32. Signs make every element of an input count alike, so that one that is
//! wrong shows.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use candle_core::{Device, Tensor as Array, Var};
use plume_cli::train::batch::Batch;
use plume_cli::train::step::{contrastive_loss, gradients};
use plume_core::Result;
use plume_core::backend::{Activation, Backend, Mask, WeightData};
use plume_core::checkpoint::Source;
use plume_core::config::flamingo::{
    FlamingoConfig, Gate, ResamplerConfig, ResamplerKind, VisionFeatures, XattnConfig, XattnKind,
};
use plume_core::config::language::{LmConfig, NormKind};
use plume_core::config::{
    ClipConfig, ConvConfig, NfnetConfig, Scoring, StemConfig, TextConfig, TextPool,
    TransformerConfig, VisionConfig, VisionPool, VitConfig,
};
use plume_core::cpu::{Candle, Matrix};
use plume_core::models::clip::Clip;
use plume_core::models::flamingo::Flamingo;
use plume_core::models::lm::Pass;
use plume_core::tensor::{After, Attend, Tensor, Turn, Weight, Window, attend, attention};
use plume_core::tokens::Tokens;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Largest difference between the two derivatives, as a part of the gradient's
/// length.
const TOLERANCE: f64 = 2e-3;
/// Directions tried for each input.
const DIRECTIONS: usize = 3;

/// A tensor of −1 to 1, away from zero, where `Relu` has its corner.
fn numbers(shape: &[usize], rng: &mut SmallRng) -> Array {
    let len = shape.iter().product::<usize>();
    let numbers: Vec<f32> = (0..len)
        .map(|_| rng.random_range(0.4f32..1.0) * if rng.random() { 1.0 } else { -1.0 })
        .collect();
    Array::from_vec(numbers, shape, &Device::Cpu).unwrap()
}

fn wide(x: &Array) -> Vec<f64> {
    let numbers: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
    numbers.into_iter().map(f64::from).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Holds the gradient of `loss` at `var` against finite differences with this
/// step; the difference may be `TOLERANCE` of the gradient's length, or of
/// `least` where that is more.
fn agree(
    name: &str,
    var: &Var,
    gradient: &Array,
    (step, least): (f64, f64),
    rng: &mut SmallRng,
    loss: impl Fn() -> f64,
) {
    assert_eq!(gradient.dims(), var.dims(), "{name}");
    let gradient = wide(gradient);
    let here = var.as_tensor().copy().unwrap();
    let length = dot(&gradient, &gradient).sqrt().max(least);
    for _ in 0..DIRECTIONS {
        let signs: Vec<f32> = (0..gradient.len())
            .map(|_| if rng.random() { 1.0 } else { -1.0 })
            .collect();
        let direction = Array::from_slice(&signs, var.dims(), &Device::Cpu).unwrap();
        let at = |steps: f64| {
            let moved = (&here + (&direction * (steps * step)).unwrap()).unwrap();
            var.set(&moved).unwrap();
            loss()
        };
        let (near, far) = (at(1.0) - at(-1.0), at(2.0) - at(-2.0));
        var.set(&here).unwrap();
        let found = (8.0 * near - far) / (12.0 * step);
        let signs: Vec<f64> = signs.into_iter().map(f64::from).collect();
        let claimed = dot(&gradient, &signs);
        assert!(
            (found - claimed).abs() <= TOLERANCE * length,
            "{name}: the derivative is {found}, the gradient says {claimed} (its length is {length})"
        );
    }
}

/// Checks an operation at random inputs of these shapes.
fn check<F>(name: &str, shapes: &[&[usize]], operation: F)
where
    F: Fn(&[Tensor<Candle>]) -> Result<Tensor<Candle>>,
{
    let mut rng = SmallRng::seed_from_u64(7);
    let inputs = shapes.iter().map(|shape| numbers(shape, &mut rng));
    check_at(name, &inputs.collect::<Vec<_>>(), operation);
}

/// Checks an operation at these inputs, each on its own.
fn check_at<F>(name: &str, inputs: &[Array], operation: F)
where
    F: Fn(&[Tensor<Candle>]) -> Result<Tensor<Candle>>,
{
    let mut rng = SmallRng::seed_from_u64(1);
    let vars: Vec<Var> = inputs
        .iter()
        .map(|input| Var::from_tensor(input).unwrap())
        .collect();
    let device = Candle::new();
    let run = || {
        let inputs: Vec<_> = vars
            .iter()
            .map(|var| Tensor::new(&device, var.as_tensor().clone(), var.dims()))
            .collect();
        operation(&inputs).unwrap().buffer().clone()
    };
    let output = run();
    let weights = numbers(output.dims(), &mut rng);
    let store = (&output * &weights)
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    let weights = wide(&weights);
    for (i, var) in vars.iter().enumerate() {
        let name = format!("{name}, input {i}");
        let gradient = store.get(var).unwrap_or_else(|| panic!("{name}: none"));
        let loss = || dot(&wide(&run()), &weights);
        agree(&name, var, gradient, (0.02, 1e-3), &mut rng, loss);
    }
}

fn weight(tensor: &Tensor<Candle>) -> Weight<Candle> {
    Weight::new(
        Matrix::Dense(tensor.buffer().clone()),
        tensor.shape()[0],
        tensor.shape()[1],
    )
}

const ACTIVATIONS: [Activation; 6] = [
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::QuickGelu,
    Activation::Relu,
    Activation::Silu,
    Activation::SquaredRelu,
];

#[test]
fn activations() {
    for activation in ACTIVATIONS {
        check(&format!("{activation:?}"), &[&[4, 5]], |x| {
            x[0].activate(activation)
        });
    }
}

#[test]
fn linear_with_everything_that_follows() {
    let shapes: [&[usize]; 4] = [&[3, 4], &[5, 4], &[5], &[3, 5]];
    for activation in [None, Some(Activation::Gelu), Some(Activation::QuickGelu)] {
        for residual_first in [false, true] {
            let name = format!("linear, {activation:?}, residual first: {residual_first}");
            check(&name, &shapes, |x| {
                let after = After {
                    bias: Some(&x[2]),
                    activation,
                    residual: Some(&x[3]),
                    residual_first,
                    ..After::default()
                };
                x[0].linear(&weight(&x[1]), &after)
            });
        }
        for gate in [1, 5] {
            let shapes: [&[usize]; 4] = [&[3, 4], &[5, 4], &[3, 5], &[gate]];
            let name = format!("linear, {activation:?}, gate of {gate}");
            check(&name, &shapes, |x| {
                let after = After {
                    activation,
                    residual: Some(&x[2]),
                    gate: Some(&x[3]),
                    ..After::default()
                };
                x[0].linear(&weight(&x[1]), &after)
            });
        }
        check(&format!("linear, {activation:?}"), &shapes[..2], |x| {
            let after = After {
                activation,
                ..After::default()
            };
            x[0].linear(&weight(&x[1]), &after)
        });
    }
    // The weight is the identity, so that nothing comes near the corner.
    let mut rng = SmallRng::seed_from_u64(3);
    let identity = Array::eye(3, candle_core::DType::F32, &Device::Cpu).unwrap();
    let small = (numbers(&[3], &mut rng) * 0.1).unwrap();
    let inputs = [numbers(&[4, 3], &mut rng), identity, small];
    check_at("linear, Relu", &inputs, |x| {
        let after = After {
            bias: Some(&x[2]),
            activation: Some(Activation::Relu),
            ..After::default()
        };
        x[0].linear(&weight(&x[1]), &after)
    });
}

#[test]
fn norms_and_sums() {
    let shapes: [&[usize]; 3] = [&[3, 9], &[9], &[9]];
    check("layer_norm", &shapes, |x| {
        x[0].layer_norm(&x[1], &x[2], 1e-5)
    });
    check("layer_norm, large eps", &shapes, |x| {
        x[0].layer_norm(&x[1], &x[2], 0.5)
    });
    check("l2_normalize", &[&[3, 5]], |x| x[0].l2_normalize());
    check("add", &[&[3, 2, 4], &[2, 4]], |x| x[0].add(&x[1]));
}

#[test]
fn attention_under_each_mask() {
    // Two sequences, two heads of three columns.
    for (mask, queries, keys) in [
        (Mask::None, 4, 4),
        (Mask::None, 2, 5),
        (Mask::Causal { offset: 0 }, 4, 4),
        (Mask::Causal { offset: 2 }, 3, 5),
    ] {
        let (q, kv) = ([2, queries, 6], [2, keys, 6]);
        check(&format!("attention, {mask:?}"), &[&q, &kv, &kv], |x| {
            let band = |i: usize| x[i].band(0, 6);
            attention(&band(0)?, &band(1)?, &band(2)?, 2, mask)
        });
    }
    check("attention out of one product", &[&[2, 3, 18]], |x| {
        let band = |i: usize| x[0].band(6 * i, 6);
        attention(&band(0)?, &band(1)?, &band(2)?, 2, Mask::None)
    });
}

/// Padding, ALiBi and pictures: a query that sees nothing has no gradient.
#[test]
fn attention_by_rules() {
    let cases = [
        (Mask::Causal { offset: 1 }, vec![0, 2], Some(8)),
        (
            Mask::Media {
                per_image: 2,
                all_previous: false,
            },
            vec![0, 1, 2, 1, 2, 2],
            None,
        ),
        (
            Mask::Media {
                per_image: 2,
                all_previous: true,
            },
            vec![0, 1, 2, 1, 2, 2],
            None,
        ),
    ];
    for (mask, numbers, alibi) in cases {
        let rule = Candle::new().upload_ids(&numbers).unwrap();
        let (q, kv) = ([2, 3, 6], [2, 4, 6]);
        check(&format!("attention, {mask:?}"), &[&q, &kv, &kv], |x| {
            let band = |i: usize| x[i].band(0, 6);
            let how = Attend {
                rule: Some(&rule),
                alibi,
                ..Attend::new(2, mask, 4)
            };
            attend(&band(0)?, &band(1)?, &band(2)?, &how)
        });
    }
}

#[test]
fn attention_of_turned_queries() {
    let turn = Turn {
        start: 1,
        step: 1,
        interleaved: false,
    };
    let mut rng = SmallRng::seed_from_u64(3);
    let table = Tensor::new(&Candle::new(), numbers(&[4, 2], &mut rng), &[4, 2]);
    let shape: &[usize] = &[2, 3, 6];
    check("attention, turned", &[shape; 3], |x| {
        let band = |i: usize| x[i].band(0, 6);
        let how = Attend {
            turn: Some((&table, turn)),
            ..Attend::new(2, Mask::Causal { offset: 0 }, 3)
        };
        attend(&band(0)?, &band(1)?, &band(2)?, &how)
    });
}

#[test]
fn the_operations_of_language_models() {
    check("rms_norm", &[&[3, 9], &[9]], |x| x[0].rms_norm(&x[1], 1e-6));
    check("rms_norm, large eps", &[&[3, 9], &[9]], |x| {
        x[0].rms_norm(&x[1], 0.5)
    });
    check("gated_add by a number", &[&[3, 4], &[3, 4], &[1]], |x| {
        x[0].gated_add(&x[1], &x[2])
    });
    check("gated_add by column", &[&[3, 4], &[3, 4], &[4]], |x| {
        x[0].gated_add(&x[1], &x[2])
    });
    for activation in [Activation::Silu, Activation::Gelu] {
        check(&format!("glu, {activation:?}"), &[&[3, 8]], |x| {
            x[0].glu(activation)
        });
    }
    let angles: Vec<f32> = (0..6 * 4).map(|i| (i as f32 * 0.7).sin()).collect();
    let table = Tensor::upload(&Candle::new(), &angles, &[6, 4]).unwrap();
    for interleaved in [false, true] {
        let turn = Turn {
            start: 2,
            step: 1,
            interleaved,
        };
        let name = format!("rotary, interleaved: {interleaved}");
        check(&name, &[&[2, 3, 20]], |x| {
            x[0].band(4, 12)?.rotary(&table, 2, turn)
        });
    }
}

#[test]
fn windows() {
    for (kernel, stride, padding) in [(2, 2, 0), (3, 1, 1), (3, 2, 1), (2, 3, 0)] {
        let name = format!("kernel {kernel}, stride {stride}, padding {padding}");
        let shapes: [&[usize]; 3] = [&[2, 5, 4, 3], &[4, kernel * kernel * 3], &[4]];
        check(&format!("conv2d, {name}"), &shapes, |x| {
            let after = After {
                bias: Some(&x[2]),
                activation: Some(Activation::Gelu),
                ..After::default()
            };
            x[0].conv2d(&weight(&x[1]), Window::new(kernel, stride, padding), &after)
        });
    }
    let shapes: [&[usize]; 3] = [&[2, 5, 4, 6], &[4, 27], &[4]];
    check("conv2d, two groups", &shapes, |x| {
        let after = After {
            bias: Some(&x[2]),
            ..After::default()
        };
        let window = Window {
            groups: 2,
            ..Window::same(3, 2)
        };
        x[0].conv2d(&weight(&x[1]), window, &after)
    });
    let shapes: [&[usize]; 3] = [&[2, 3, 2, 4], &[2, 4], &[2, 3, 2, 4]];
    check("excite", &shapes, |x| x[0].excite(&x[1], &x[2], 0.7));
    // Rows and columns that fill no window get no gradient.
    check("avg_pool", &[&[2, 5, 4, 3]], |x| x[0].avg_pool(2));
}

#[test]
fn moves() {
    check("concat", &[&[1, 4], &[2, 3, 4]], |x| {
        Tensor::concat(&x[0], &x[1])
    });
    check("narrow", &[&[2, 4, 3]], |x| x[0].narrow(1, 2));
    check("gather", &[&[4, 3]], |x| x[0].gather(&[2, 0, 2]));
    check("embed", &[&[5, 3]], |x| {
        weight(&x[0]).embed(x[0].backend(), &[4, 1, 4])
    });
}

#[test]
#[should_panic(expected = "the gradient says")]
fn a_gradient_that_is_wrong_in_one_element_is_noticed() {
    check("wrong", &[&[3, 9]], |x| {
        // The square of the first column, whose slope is halved here.
        let whole = x[0].buffer();
        let first = whole.narrow(1, 0, 1)?;
        let square = (&first * first.detach())?;
        let rest = whole.narrow(1, 1, 8)?.sqr()?;
        let all = Array::cat(&[square, rest], 1)?;
        Ok(Tensor::new(x[0].backend(), all, &[3, 9]))
    });
}

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
