//! Flamingo against the reference code of OpenFlamingo, on a small model of
//! random weights.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::ops::ControlFlow;
use std::path::Path;

use plume_cli::writer;
use plume_core::Error;
use plume_core::backend::{Activation, Backend};
use plume_core::checkpoint::layouts::{Family, Language};
use plume_core::checkpoint::{Checkpoint, Layout, Recipe, asked};
use plume_core::config::flamingo::{
    FlamingoConfig, Gate, ResamplerConfig, ResamplerKind, VisionFeatures, XattnConfig, XattnKind,
};
use plume_core::config::language::{LmConfig, NormKind, Positions, Residual};
use plume_core::config::{StemConfig, TransformerConfig, VisionConfig, VisionPool, VitConfig};
use plume_core::cpu::Candle;
use plume_core::models::flamingo::{Flamingo, Illustrated};
use plume_core::models::lm::Pass;
use plume_core::prompts::{Ask, PromptStyle, Segment, Shot};
use plume_core::tasks::generate::{End, Method, Options, generate};
use plume_core::tasks::score::score;
use plume_core::tensor::Tensor;
use plume_tests::writers::write_flamingo;
use plume_tests::{Golden, gpu, max_error, shared};

/// The sizes of `config.json`, and what `factory.py` and `helpers.py` fix.
fn config() -> FlamingoConfig {
    FlamingoConfig {
        vision: VisionConfig::Vit(VitConfig {
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
        }),
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
            qk_norm: false,
        },
        xattn: XattnConfig {
            kind: XattnKind::Gated,
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
            qk_norm: false,
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
            smeared_keys: false,
        },
        image_token: 159,
        more_image_tokens: Vec::new(),
        end_of_chunk: 158,
        end_of_sight: None,
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

/// A picture and a video of two frames, each with its own visual tokens.
fn a_video_is_seen_as_one<B: Backend>(backend: &B) {
    let Some(reference) = reference(backend) else {
        return;
    };
    let flamingo = &reference.flamingo;
    let pixels = read(&reference.pixels);
    let seen = flamingo.see(&pixels, &[1, 2]).unwrap();
    assert_eq!(seen.shape(), [2, 64, 64]);
    let features = flamingo.features(&reference.pixels).unwrap();
    let frames = |from: usize, count: usize| {
        let places = features.shape()[1];
        let whole = features.reshape(&[1, 3 * places, 64]).unwrap();
        let part = whole.narrow(from * places, count * places).unwrap();
        let part = part.reshape(&[count, places, 64]).unwrap();
        read(&flamingo.resample(&part, count).unwrap())
    };
    let apart = [frames(0, 1), frames(1, 2)].concat();
    assert!(max_error(&read(&seen), &apart) <= 1e-5);
    assert!(max_error(&apart[64 * 64..], &frames(1, 1)) > 1e-2);
    for frames in [&[1, 1][..], &[3, 0], &[]] {
        assert!(matches!(
            flamingo.see(&pixels, frames),
            Err(Error::Shape { .. })
        ));
    }
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

/// Two texts with pictures of their own, one filled up on the left, give
/// together what each gives alone; the text goes in by parts, with a cache. One
/// picture is in both, and may be prepared twice or `once`.
fn a_batch_agrees<B: Backend>(backend: &B, once: bool) {
    let Some(reference) = reference(backend) else {
        return;
    };
    let flamingo = &reference.flamingo;
    let visual = reference.visual();
    let (tokens, width) = (visual.shape()[1], visual.shape()[2]);
    let pictures = |order: [usize; 4]| {
        let rows = order.iter().flat_map(|&i| i * tokens..(i + 1) * tokens);
        let ids: Vec<u32> = rows.map(|row| row as u32).collect();
        let picked = visual.gather(&ids).unwrap();
        picked.reshape(&[4, tokens, width]).unwrap()
    };
    let texts: [&[u32]; 2] = [&[2, 159, 5, 6, 159, 7, 8, 9], &[159, 11, 159, 12, 13]];
    let media = if once {
        let each = flamingo.media(&visual, 1).unwrap();
        each.placed(&[0, 1, 2, 0], 2).unwrap()
    } else {
        flamingo.media(&pictures([0, 1, 2, 0]), 2).unwrap()
    };
    let padding = [0, 3];
    let mut rows: Vec<Vec<u32>> = Vec::new();
    for (text, padding) in texts.iter().zip(padding) {
        rows.push([vec![1; padding], text.to_vec()].concat());
    }
    let mut cache = flamingo.lm().cache(10, &padding).unwrap();
    let mut together = vec![Vec::new(); 2];
    for columns in [0..5, 5..7, 7..8] {
        let pass = Pass::next(backend, &cache, columns.len()).unwrap();
        let part = |row: &Vec<u32>| row[columns.clone()].to_vec();
        let ids: Vec<u32> = rows.iter().flat_map(part).collect();
        let seen = |row: &Vec<u32>| flamingo.image_numbers(row)[columns.clone()].to_vec();
        let images: Vec<u32> = rows.iter().flat_map(seen).collect();
        let x = flamingo.forward(&ids, &images, &pass, &media, Some(&mut cache));
        let logits = read(&flamingo.lm().logits(&x.unwrap()).unwrap());
        let each = logits.chunks_exact(160 * columns.len());
        together
            .iter_mut()
            .zip(each)
            .for_each(|(all, part)| all.extend(part));
    }
    for (i, order) in [[0, 1, 2, 0], [2, 0, 0, 1]].into_iter().enumerate() {
        let two = pictures(order).reshape(&[1, 4 * tokens, width]).unwrap();
        let two = two.narrow(0, 2 * tokens).unwrap();
        let media = flamingo.media(&two.reshape(&[2, tokens, width]).unwrap(), 1);
        let pass = Pass::whole(backend, texts[i].len(), &[0]).unwrap();
        let images = flamingo.image_numbers(texts[i]);
        let x = flamingo.forward(texts[i], &images, &pass, &media.unwrap(), None);
        let alone = read(&flamingo.lm().logits(&x.unwrap()).unwrap());
        let error = max_error(&together[i][160 * padding[i]..], &alone);
        assert!(error < 1e-3, "text {i} is off by {error}");
    }
}

#[test]
fn a_batch_agrees_on_the_cpu() {
    for once in [false, true] {
        a_batch_agrees(&Candle::new(), once);
    }
}

#[test]
fn a_batch_agrees_on_the_gpu() {
    if let Some(gpu) = gpu() {
        for once in [false, true] {
            a_batch_agrees(&gpu, once);
        }
    }
}

/// What a token costs, once the first ones have made what is needed.
#[test]
fn a_token_takes_one_submit_and_makes_no_object_on_the_gpu() {
    let Some(gpu) = gpu() else { return };
    let Some(reference) = reference(&gpu) else {
        return;
    };
    let flamingo = &reference.flamingo;
    let media = flamingo.media(&reference.visual(), 1).unwrap();
    let reader = Illustrated::new(flamingo, &media, &reference.prompt).unwrap();
    let options = Options {
        max_new_tokens: 12,
        method: Method::Greedy,
        repetition_penalty: 1.0,
        stop_tokens: Vec::new(),
    };
    let mut counters = Vec::new();
    let written = generate(&reader, &reference.prompt, &options, |token| {
        if token.is_some() {
            counters.push(gpu.counters());
        }
        ControlFlow::Continue(())
    });
    pollster::block_on(written).unwrap();
    for pair in counters[3..].windows(2) {
        assert_eq!(pair[1].submits - pair[0].submits, 1);
        assert_eq!(pair[1].objects - pair[0].objects, 0);
        // A block takes 6 and a gated layer 5; here are 4 and 2 of them, and
        // token and position, their sum, the head with its norm, the likeliest.
        assert_eq!(pair[1].dispatches - pair[0].dispatches, 4 * 6 + 2 * 5 + 5);
    }
}

/// Names and shapes as the checkpoints' listings have them, and millions of
/// numbers in each part.
#[test]
fn published_models_have_their_sizes() {
    let models = [
        (
            "OpenFlamingo-3B",
            Family::MosaicGpt,
            0,
            [303.2, 63.0, 881.0, 1311.0],
        ),
        (
            "OpenFlamingo-4B",
            Family::GptNeox,
            1,
            [303.2, 63.0, 897.7, 2775.0],
        ),
        (
            "OpenFlamingo-9B",
            Family::Mpt,
            3,
            [303.2, 63.0, 1116.0, 6649.0],
        ),
    ];
    for (name, family, first, millions) in models {
        let config = FlamingoConfig::open_flamingo(name).unwrap();
        let (width, heads) = (config.lm.width, config.lm.heads);
        let all = asked(|device, source| Flamingo::load(device, &config, source)).unwrap();
        let layout = Layout::OpenFlamingo(Language { family, heads });
        let shape = |source: &str| {
            let mut all = all.iter();
            let found = all.find(|asked| layout.recipe(&asked.name) == Recipe::Take(source.into()));
            found.map(|asked| asked.shape.clone())
        };
        let blocks = match family {
            Family::GptNeox => "lang_encoder.gpt_neox.layers",
            _ => "lang_encoder.transformer.blocks",
        };
        let gated = format!("{blocks}.{first}.gated_cross_attn_layer");
        let expected = [
            ("perceiver.latents".into(), vec![64, 1024]),
            ("perceiver.norm.bias".into(), vec![1024]),
            ("perceiver.layers.5.0.norm_media.weight".into(), vec![1024]),
            ("perceiver.layers.5.0.to_q.weight".into(), vec![512, 1024]),
            ("perceiver.layers.5.0.to_kv.weight".into(), vec![1024, 1024]),
            ("perceiver.layers.5.0.to_out.weight".into(), vec![1024, 512]),
            ("perceiver.layers.5.1.0.bias".into(), vec![1024]),
            ("perceiver.layers.5.1.1.weight".into(), vec![4096, 1024]),
            ("perceiver.layers.5.1.3.weight".into(), vec![1024, 4096]),
            (format!("{gated}.attn_gate"), vec![1]),
            (format!("{gated}.ff_gate"), vec![1]),
            (format!("{gated}.attn.norm.bias"), vec![width]),
            (format!("{gated}.attn.to_q.weight"), vec![512, width]),
            (format!("{gated}.attn.to_kv.weight"), vec![1024, 1024]),
            (format!("{gated}.attn.to_out.weight"), vec![width, 512]),
            (format!("{gated}.ff.0.weight"), vec![width]),
            (format!("{gated}.ff.1.weight"), vec![4 * width, width]),
            (format!("{gated}.ff.3.weight"), vec![width, 4 * width]),
        ];
        for (source, expected) in expected {
            assert_eq!(shape(&source), Some(expected), "{name}: {source}");
        }
        if first > 0 {
            let before = format!("{blocks}.{}.gated_cross_attn_layer.attn_gate", first - 1);
            assert_eq!(shape(&before), None, "{name}");
        }
        let table = match family {
            Family::GptNeox => "lang_encoder.gpt_neox.embed_in.weight",
            _ => "lang_encoder.transformer.wte.weight",
        };
        assert_eq!(shape(table), Some(vec![50_280, width]), "{name}");
        for (part, expected) in ["vision.", "resampler.", "xattn.", "lm."]
            .iter()
            .zip(millions)
        {
            let part = all.iter().filter(|asked| asked.name.starts_with(part));
            let count: usize = part
                .map(|asked| asked.shape.iter().product::<usize>())
                .sum();
            let found = count as f64 / 1e6;
            assert!(
                (found - expected).abs() < 1.0,
                "{name}: {found} for {expected}"
            );
        }
    }
}

/// As `plume generate` goes about it: a folder of our own names, a picture in
/// a file, words.
#[test]
fn a_folder_is_opened_and_shown_a_picture() {
    let Some(folder) = shared("golden/tiny-random-openflamingo") else {
        return;
    };
    let weights = std::fs::read(folder.join("weights.safetensors")).unwrap();
    let layout = Layout::OpenFlamingo(Language {
        family: Family::Opt,
        heads: 4,
    });
    let checkpoint = Checkpoint::open_as(Box::new(weights), layout).unwrap();
    let config = config();
    let ours = Path::new(env!("CARGO_TARGET_TMPDIR")).join("flamingo");
    write_flamingo(&ours, &config, &checkpoint).unwrap();

    let writer = writer::open(&Candle::new(), &ours).unwrap();
    assert_eq!(writer.stops(), [158]);
    let shot = Shot {
        image: "a.png".into(),
        ask: Ask::Class,
        answer: "w7".into(),
    };
    let style = PromptStyle {
        output: "w5 ".into(),
        ..PromptStyle::open_flamingo()
    };
    let segments = style.few_shot(&[shot], "a.png", &Ask::Class);
    let prompt = writer::prompt(&writer, &segments, &ours).unwrap();
    assert_eq!(prompt.ids, [159, 5, 7, 158, 159, 5]);
    let reading = writer.reading(&prompt).unwrap();
    let answers = [vec![7], vec![9, 11]];
    let seen = pollster::block_on(score(&reading, &prompt.ids, &answers)).unwrap();
    // Without the pictures' sight the answers are not as likely.
    let blind = [Segment::Text("w5 w7<|endofchunk|>w5".into())];
    let prompt = writer::prompt(&writer, &blind, &ours).unwrap();
    let reading = writer.reading(&prompt).unwrap();
    let unseen = pollster::block_on(score(&reading, &prompt.ids, &answers)).unwrap();
    assert!((seen[0].sum - unseen[0].sum).abs() > 1e-3);
    // A mark in the words without a picture.
    let stray = [Segment::Text("w5 <image> w7".into())];
    let prompt = writer::prompt(&writer, &stray, &ours).unwrap();
    assert!(writer.reading(&prompt).is_err());
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
fn a_video_is_seen_as_one_on_the_cpu() {
    a_video_is_seen_as_one(&Candle::new());
}

#[test]
fn a_video_is_seen_as_one_on_the_gpu() {
    if let Some(gpu) = gpu() {
        a_video_is_seen_as_one(&gpu);
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
