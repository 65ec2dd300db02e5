//! Flamingo against the reference code of OpenFlamingo, on a small model of
//! random weights.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::ops::ControlFlow;
use std::path::Path;

use plume_core::Error;
use plume_core::backend::{Activation, Backend};
use plume_core::checkpoint::layouts::{Family, Language};
use plume_core::checkpoint::{Checkpoint, Layout};
use plume_core::config::flamingo::{
    FlamingoConfig, Gate, ResamplerConfig, ResamplerKind, VisionFeatures, XattnConfig,
};
use plume_core::config::language::{LmConfig, NormKind, Positions, Residual};
use plume_core::config::{StemConfig, TransformerConfig, VisionPool, VitConfig};
use plume_core::cpu::Candle;
use plume_core::models::flamingo::{Flamingo, Illustrated};
use plume_core::models::lm::Pass;
use plume_core::tasks::generate::{End, Method, Options, generate};
use plume_core::tasks::score::score;
use plume_core::tensor::Tensor;
use plume_tests::{Golden, gpu, max_error, shared};

/// The sizes of `config.json`, and what `factory.py` and `helpers.py` fix.
fn config() -> FlamingoConfig {
    FlamingoConfig {
        vision: VitConfig {
            image_size: 32,
            stem: StemConfig::Patch {
                size: 8,
                bias: false,
            },
            transformer: TransformerConfig {
                width: 64,
                layers: 2,
                heads: 4,
                mlp_width: 256,
                activation: Activation::Gelu,
                layer_norm_eps: 1e-5,
            },
            pool: VisionPool::Class,
            ln_pre: true,
        },
        embed_dim: 32,
        features: VisionFeatures {
            class_token: false,
            // The reference ran on open_clip 3.3, which normalises all tokens
            // (since 2.23). What OpenFlamingo was trained with did not.
            ln_post: true,
        },
        resampler: ResamplerConfig {
            kind: ResamplerKind::Perceiver { latents: 64 },
            depth: 6,
            heads: 8,
            head_dim: 64,
            mlp_width: 256,
            activation: Activation::Gelu,
            time_embeddings: 0,
            norm_eps: 1e-5,
        },
        xattn: XattnConfig {
            layers: XattnConfig::every_last(2, 4),
            heads: 8,
            head_dim: 64,
            mlp_width: 256,
            activation: Activation::Gelu,
            gated_mlp: false,
            norm: NormKind::Layer,
            norm_eps: 1e-5,
            gate: Gate::Scalar,
            all_previous: false,
        },
        lm: LmConfig {
            vocab_size: 160,
            context: 64,
            width: 64,
            embed_width: 64,
            layers: 4,
            heads: 4,
            mlp_width: 128,
            activation: Activation::Relu,
            gated_mlp: false,
            norm: NormKind::Layer,
            norm_eps: 1e-5,
            residual: Residual::Sequential,
            final_norm: true,
            qk_norm: false,
            positions: Positions::Learned { offset: 2 },
            bias: true,
            tied: true,
        },
        image_token: 159,
        end_of_chunk: 158,
    }
}

struct Reference<B: Backend> {
    flamingo: Flamingo<B>,
    golden: Golden,
    pixels: Tensor<B>,
    prompt: Vec<u32>,
}

impl<B: Backend> Reference<B> {
    fn open(backend: &B, folder: &Path) -> Self {
        let weights = std::fs::read(folder.join("weights.safetensors")).unwrap();
        let layout = Layout::OpenFlamingo(Language {
            family: Family::Opt,
            heads: 4,
        });
        let checkpoint = Checkpoint::open_as(Box::new(weights), layout).unwrap();
        let flamingo = Flamingo::load(backend, &config(), &checkpoint).unwrap();
        let left_over = checkpoint.left_over();
        assert!(left_over.is_empty(), "nothing reads {left_over:?}");
        let golden = Golden::open(&folder.join("io.safetensors")).unwrap();
        let (shape, planes) = golden.tensor("vision_x").unwrap();
        assert_eq!(shape, [1, 3, 1, 3, 32, 32]);
        let pixels: Vec<f32> = planes
            .chunks_exact(3 * 32 * 32)
            .flat_map(|p| (0..p.len()).map(move |i| p[(i % 3) * 32 * 32 + i / 3]))
            .collect();
        let prompt = ids(&golden, "lang_x");
        Self {
            flamingo,
            pixels: Tensor::upload(backend, &pixels, &[3, 32, 32, 3]).unwrap(),
            golden,
            prompt,
        }
    }

    fn visual(&self) -> Tensor<B> {
        let features = self.flamingo.features(&self.pixels).unwrap();
        self.flamingo.resample(&features, 1).unwrap()
    }

    fn logits(&self, ids: &[u32]) -> Vec<f32> {
        let media = self.flamingo.media(&self.visual(), 1).unwrap();
        let pass = Pass::whole(self.flamingo.backend(), ids.len(), &[0]).unwrap();
        let images = self.flamingo.image_numbers(ids);
        let x = self.flamingo.forward(ids, &images, &pass, &media, None);
        read(&self.flamingo.lm().logits(&x.unwrap()).unwrap())
    }

    fn equal(&self, what: &str, ours: &[f32], tolerance: f32) {
        let (_, theirs) = self.golden.tensor(what).unwrap();
        let error = max_error(ours, &theirs);
        assert!(error <= tolerance, "{what} is off by {error}");
    }

    fn written(&self, method: Method, new: usize) -> Vec<u32> {
        let media = self.flamingo.media(&self.visual(), 1).unwrap();
        let reader = Illustrated::new(&self.flamingo, &media, &self.prompt).unwrap();
        let options = Options {
            max_new_tokens: new,
            method,
            repetition_penalty: 1.0,
            stop_tokens: vec![158],
        };
        let mut streamed = Vec::new();
        let written = pollster::block_on(generate(&reader, &self.prompt, &options, |token| {
            streamed.extend(token);
            ControlFlow::Continue(())
        }));
        let written = written.unwrap();
        assert_eq!(written.end, End::Length);
        assert_eq!(streamed, written.ids);
        [self.prompt.clone(), written.ids].concat()
    }
}

fn read<B: Backend>(tensor: &Tensor<B>) -> Vec<f32> {
    pollster::block_on(tensor.read()).unwrap()
}

fn ids(golden: &Golden, name: &str) -> Vec<u32> {
    let (_, ids) = golden.tensor(name).unwrap();
    ids.into_iter().map(|id| id as u32).collect()
}

fn reference<B: Backend>(backend: &B) -> Option<Reference<B>> {
    let folder = shared("golden/tiny-random-openflamingo")?;
    Some(Reference::open(backend, &folder))
}

fn what_it_sees_and_says_agrees<B: Backend>(backend: &B) {
    let Some(reference) = reference(backend) else {
        return;
    };
    let features = reference.flamingo.features(&reference.pixels).unwrap();
    reference.equal("vision_tokens", &read(&features), 1e-4);
    reference.equal("resampled", &read(&reference.visual()), 1e-4);
    let logits = reference.logits(&reference.prompt);
    reference.equal("logits", &logits, 1e-3);
}

fn greedy_text_is_identical<B: Backend>(backend: &B) {
    let Some(reference) = reference(backend) else {
        return;
    };
    let theirs = ids(&reference.golden, "greedy");
    assert_eq!(reference.written(Method::Greedy, 16), theirs);
    // And without a cache.
    let mut text = reference.prompt.clone();
    while text.len() < theirs.len() {
        let logits = reference.logits(&text);
        let last = &logits[logits.len() - 160..];
        let best = (0..160).max_by(|&a, &b| last[a].total_cmp(&last[b]));
        text.push(best.unwrap() as u32);
    }
    assert_eq!(text, ids(&reference.golden, "greedy_uncached"));
}

fn a_search_with_three_beams_is_identical<B: Backend>(backend: &B) {
    let Some(reference) = reference(backend) else {
        return;
    };
    let method = Method::Beams {
        width: 3,
        length_penalty: 1.0,
    };
    let theirs = ids(&reference.golden, "beam3");
    assert_eq!(reference.written(method, 8), theirs);
}

fn answers_are_as_likely_as_their_logits_say<B: Backend>(backend: &B) {
    let Some(reference) = reference(backend) else {
        return;
    };
    let media = reference.flamingo.media(&reference.visual(), 1).unwrap();
    let reader = Illustrated::new(&reference.flamingo, &media, &reference.prompt).unwrap();
    let answers = [vec![96], vec![3, 85, 5], vec![13, 96]];
    let scores = pollster::block_on(score(&reader, &reference.prompt, &answers)).unwrap();
    for (answer, score) in answers.iter().zip(scores) {
        let text = [&reference.prompt, answer.as_slice()].concat();
        let logits = reference.logits(&text);
        let rows = logits.chunks_exact(160).skip(reference.prompt.len() - 1);
        let sum: f64 = rows
            .zip(answer)
            .map(|(row, &id)| {
                let whole: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
                f64::from(row[id as usize]) - whole.ln()
            })
            .sum();
        assert!((f64::from(score.sum) - sum).abs() < 1e-3, "{answer:?}");
        assert!((score.mean * answer.len() as f32 - score.sum).abs() < 1e-4);
    }
}

fn a_prompt_goes_with_its_pictures<B: Backend>(backend: &B) {
    let Some(reference) = reference(backend) else {
        return;
    };
    let flamingo = &reference.flamingo;
    assert_eq!(
        flamingo.image_numbers(&[2, 159, 5, 159, 6]),
        [0, 1, 1, 2, 2]
    );
    let media = flamingo.media(&reference.visual(), 1).unwrap();
    let Err(Error::Pictures { marks, pictures }) = Illustrated::new(flamingo, &media, &[2, 159])
    else {
        panic!("one mark for three pictures");
    };
    assert_eq!((marks, pictures), (1, 3));
    // Without a picture there is nothing to see, and text all the same.
    let none = flamingo.no_media().unwrap();
    let reader = Illustrated::new(flamingo, &none, &[2, 5, 6]).unwrap();
    let answers = [vec![7]];
    let scores = pollster::block_on(score(&reader, &[2, 5, 6], &answers)).unwrap();
    assert!(scores[0].sum < 0.0 && scores[0].sum.is_finite());
}

#[test]
fn what_it_sees_and_says_agrees_on_the_cpu() {
    what_it_sees_and_says_agrees(&Candle::new());
}

#[test]
fn what_it_sees_and_says_agrees_on_the_gpu() {
    if let Some(gpu) = gpu() {
        what_it_sees_and_says_agrees(&gpu);
    }
}

#[test]
fn greedy_text_is_identical_on_the_cpu() {
    greedy_text_is_identical(&Candle::new());
}

#[test]
fn greedy_text_is_identical_on_the_gpu() {
    if let Some(gpu) = gpu() {
        greedy_text_is_identical(&gpu);
    }
}

#[test]
fn a_search_with_three_beams_is_identical_on_the_cpu() {
    a_search_with_three_beams_is_identical(&Candle::new());
}

#[test]
fn a_search_with_three_beams_is_identical_on_the_gpu() {
    if let Some(gpu) = gpu() {
        a_search_with_three_beams_is_identical(&gpu);
    }
}

#[test]
fn answers_are_as_likely_as_their_logits_say_on_the_cpu() {
    answers_are_as_likely_as_their_logits_say(&Candle::new());
}

#[test]
fn answers_are_as_likely_as_their_logits_say_on_the_gpu() {
    if let Some(gpu) = gpu() {
        answers_are_as_likely_as_their_logits_say(&gpu);
    }
}

#[test]
fn a_prompt_goes_with_its_pictures_on_the_cpu() {
    a_prompt_goes_with_its_pictures(&Candle::new());
}

#[test]
fn a_prompt_goes_with_its_pictures_on_the_gpu() {
    if let Some(gpu) = gpu() {
        a_prompt_goes_with_its_pictures(&gpu);
    }
}
