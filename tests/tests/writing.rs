//! What every kind of Flamingo sees, says and writes, against the code of those
//! who made them: `tests/golden/writing`, which `make_writing.py` makes.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::ops::ControlFlow;

use plume_core::backend::Backend;
use plume_core::checkpoint::layouts::open_flamingo_config;
use plume_core::checkpoint::{
    Checkpoint, Layout, Scope, Source, Weights, clip_config, flamingo_config, lm_config, lm_layout,
};
use plume_core::cpu::Candle;
use plume_core::models::flamingo::{Flamingo, Illustrated, Media};
use plume_core::models::lm::{Decoder, Lm, Pass};
use plume_core::tasks::generate::{End, Method, Options, Written, generate};
use plume_core::tasks::score::score;
use plume_core::tensor::Tensor;
use plume_tests::writers::Drawn;
use plume_tests::{Golden, gpu, max_error, root};

const KINDS: [&str; 7] = ["mpt", "mpt-1b", "neox", "opt", "llama", "idefics", "mini"];

const LANGUAGE_MODELS: [&str; 7] = [
    "mpt",
    "mosaic-gpt",
    "neox",
    "neox-parallel",
    "opt",
    "opt-post",
    "llama",
];

/// Pictures of the prompts.
const PROMPTS: [usize; 4] = [0, 1, 5, 32];

/// Most tokens that a search writes.
const WRITTEN: usize = 24;

fn read<B: Backend>(tensor: &Tensor<B>) -> Vec<f32> {
    pollster::block_on(tensor.read()).unwrap()
}

fn ids(golden: &Golden, name: &str) -> Vec<u32> {
    let (_, ids) = golden.tensor(name).unwrap();
    ids.into_iter().map(|id| id as u32).collect()
}

fn likeliest(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    best.unwrap() as u32
}

fn written<B: Backend, D: Decoder<B>>(decoder: &D, prompt: &[u32], options: &Options) -> Written {
    let go_on = |_| ControlFlow::Continue(());
    pollster::block_on(generate(decoder, prompt, options, go_on)).unwrap()
}

/// The searches of which `golden` says what they have and what they find, by
/// names that begin with `name`.
fn searches_are_identical<B: Backend, D: Decoder<B>>(
    decoder: &D,
    prompt: &[u32],
    (golden, name): (&Golden, &str),
    told: &str,
) {
    let (_, searches) = golden.tensor(&format!("{name}beams")).unwrap();
    let ended = ids(golden, &format!("{name}ended"));
    let ends = ids(golden, &format!("{name}ends"));
    assert_eq!(searches.len(), 3 * ended.len());
    for (i, search) in searches.chunks_exact(3).enumerate() {
        let options = Options {
            max_new_tokens: WRITTEN,
            method: Method::Beams {
                width: 3,
                length_penalty: search[0],
            },
            repetition_penalty: search[1],
            stop_tokens: ends[..search[2] as usize].to_vec(),
        };
        let theirs = Written {
            ids: ids(golden, &format!("{name}beams.{i}")),
            end: if ended[i] == 1 {
                End::Token
            } else {
                End::Length
            },
        };
        let ours = written(decoder, prompt, &options);
        assert_eq!(ours, theirs, "{told}: search {i}, {search:?}");
    }
}

/// A model on a device, and what its reference says.
struct Case<B: Backend> {
    flamingo: Flamingo<B>,
    golden: Golden,
    /// For whoever reads that it failed.
    told: String,
}

impl<B: Backend> Case<B> {
    fn open(backend: &B, device: &str, kind: &str) -> Self {
        let folder = root().join("tests/golden/writing").join(kind);
        let text = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
        let golden = Golden::open(&folder.join("io.safetensors")).unwrap();
        let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
        let weights = Weights::open(Box::new(bytes)).unwrap();
        let json = text("config.json");
        let (config, layout) = match flamingo_config(&json, &|_| None).unwrap() {
            // What flamingo-mini publishes names parts that are large: this is
            // ours, and the tensors are its.
            Some((config, Layout::Canonical)) => (config, Layout::FlamingoMini),
            Some(idefics) => idefics,
            None => {
                let lm = lm_config(&json).unwrap();
                let Layout::Language(language) = lm_layout(&json, &lm).unwrap() else {
                    panic!("{kind} is no language model");
                };
                let clip = clip_config(&text("open_clip_config.json")).unwrap();
                let tokens = [ids(&golden, "marks")[0], ids(&golden, "ends")[0]];
                let shape = |name: &str| weights.file().shape(name).map(<[usize]>::to_vec);
                let config =
                    open_flamingo_config(language, &shape, clip.vision.unwrap(), lm, tokens);
                (config.unwrap(), Layout::OpenFlamingo(language))
            }
        };
        let told = format!("{kind} on the {device}");
        let marks = ids(&golden, "marks");
        assert!(marks.iter().all(|&mark| config.is_image(mark)), "{told}");
        let checkpoint = weights.under(layout);
        let flamingo = Flamingo::load(backend, &config, &checkpoint).unwrap();
        assert_eq!(checkpoint.left_over(), [""; 0], "{told}");
        Self {
            flamingo,
            golden,
            told,
        }
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        ids(&self.golden, name)
    }

    /// Those of a prompt, as the script draws them.
    fn pixels(&self, pictures: usize) -> Vec<f32> {
        let side = self.flamingo.config().vision.image_size();
        let picture = |i: usize| {
            let drawn = Drawn((100 * pictures + i) as u64);
            drawn.read("picture", &[side, side, 3]).unwrap().into_f32()
        };
        (0..pictures).flat_map(picture).collect()
    }

    fn media(&self, pictures: usize) -> Media<B> {
        if pictures == 0 {
            return self.flamingo.no_media().unwrap();
        }
        let pixels = self.pixels(pictures);
        let visual = self.flamingo.see(&pixels, &vec![1; pictures]).unwrap();
        self.flamingo.media(&visual, 1).unwrap()
    }

    fn logits(&self, x: &Tensor<B>) -> Vec<f32> {
        read(&self.flamingo.lm().logits(x).unwrap())
    }

    /// The reference may have kept the last rows alone.
    fn equal(&self, what: &str, how: &str, ours: &[f32], tolerance: f32) {
        let (_, theirs) = self.golden.tensor(what).unwrap();
        let ours = &ours[ours.len().saturating_sub(theirs.len())..];
        let error = max_error(ours, &theirs);
        let told = &self.told;
        assert!(
            error <= tolerance,
            "{told}: {what}, {how}, are off by {error}"
        );
    }
}

/// Three parts of so many tokens, the last of one token.
fn parts(tokens: usize) -> [std::ops::Range<usize>; 3] {
    let (half, last) = (tokens / 2, tokens - 1);
    [0..half, half..last, last..tokens]
}

fn states_and_logits_agree<B: Backend>(backend: &B, device: &str) {
    for kind in KINDS {
        let case = Case::open(backend, device, kind);
        let flamingo = &case.flamingo;
        for pictures in PROMPTS {
            let prompt = case.ids(&format!("prompt.{pictures}"));
            let media = case.media(pictures);
            let reader = Illustrated::new(flamingo, &media, &prompt).unwrap();
            let what = format!("logits.{pictures}");
            let pass = Pass::whole(backend, prompt.len(), &[0]).unwrap();
            let x = reader.forward(&prompt, &pass, None).unwrap();
            case.equal(&what, "at once", &case.logits(&x), 1e-3);

            let mut cache = flamingo.lm().cache(prompt.len(), &[0]).unwrap();
            let mut logits = Vec::new();
            for part in parts(prompt.len()) {
                let pass = Pass::next(backend, &cache, part.len()).unwrap();
                let x = reader.forward(&prompt[part], &pass, Some(&mut cache));
                logits.extend(case.logits(&x.unwrap()));
            }
            case.equal(&what, "with a cache", &logits, 1e-3);
        }
        let prompt = case.ids("prompt.5");
        let images = flamingo.image_numbers(&prompt);
        let pass = Pass::whole(backend, prompt.len(), &[0]).unwrap();
        let states = flamingo.states(&prompt, &images, &pass, &case.media(5));
        let numbers: Vec<f32> = states.unwrap().iter().flat_map(read).collect();
        case.equal("states", "after each block", &numbers, 1e-4);
    }
}

#[test]
fn states_and_logits_agree_on_the_cpu() {
    states_and_logits_agree(&Candle::new(), "CPU");
}

#[test]
fn states_and_logits_agree_on_the_gpu() {
    if let Some(gpu) = gpu() {
        states_and_logits_agree(&gpu, "GPU");
    }
}

/// Two texts that show five pictures and one, the second filled up on the left
/// and its pictures with black ones.
fn a_padded_batch_agrees<B: Backend>(backend: &B, device: &str) {
    for kind in KINDS {
        let case = Case::open(backend, device, kind);
        let flamingo = &case.flamingo;
        let (long, short) = (case.ids("prompt.5"), case.ids("prompt.1"));
        let (tokens, padding) = (long.len(), [0, long.len() - short.len()]);
        let rows = [long, [vec![1; padding[1]], short].concat()];
        let images = [&rows[0], &rows[1]].map(|row| flamingo.image_numbers(row));
        let mut pixels = [case.pixels(5), case.pixels(1)].concat();
        pixels.resize(pixels.len() / 6 * 10, 0.0);
        let visual = flamingo.see(&pixels, &[1; 10]).unwrap();
        let media = flamingo.media(&visual, 2).unwrap();
        let last = |x: &Tensor<B>| case.logits(&x.narrow(x.shape()[1] - 1, 1).unwrap());

        let pass = Pass::whole(backend, tokens, &padding).unwrap();
        let x = flamingo.forward(&rows.concat(), &images.concat(), &pass, &media, None);
        case.equal("batch", "at once", &last(&x.unwrap()), 1e-3);

        let mut cache = flamingo.lm().cache(tokens, &padding).unwrap();
        for part in parts(tokens) {
            let pass = Pass::next(backend, &cache, part.len()).unwrap();
            let of = |all: &[Vec<u32>; 2]| [&all[0][part.clone()], &all[1][part.clone()]].concat();
            let (ids, images) = (of(&rows), of(&images));
            let x = flamingo.forward(&ids, &images, &pass, &media, Some(&mut cache));
            let logits = last(&x.unwrap());
            if part.end == tokens {
                case.equal("batch", "with a cache", &logits, 1e-3);
            }
        }
    }
}

#[test]
fn a_padded_batch_agrees_on_the_cpu() {
    a_padded_batch_agrees(&Candle::new(), "CPU");
}

#[test]
fn a_padded_batch_agrees_on_the_gpu() {
    if let Some(gpu) = gpu() {
        a_padded_batch_agrees(&gpu, "GPU");
    }
}

fn greedy_text_is_identical<B: Backend>(backend: &B, device: &str) {
    for kind in KINDS {
        let case = Case::open(backend, device, kind);
        let prompt = case.ids("prompt.5");
        let media = case.media(5);
        let reader = Illustrated::new(&case.flamingo, &media, &prompt).unwrap();
        for (name, repetition_penalty) in [("greedy", 1.0), ("greedy.repeated", 1.3)] {
            let ids = case.ids(name);
            assert_eq!(ids.len(), 64);
            let options = Options {
                max_new_tokens: ids.len(),
                method: Method::Greedy,
                repetition_penalty,
                stop_tokens: Vec::new(),
            };
            let end = End::Length;
            let ours = written(&reader, &prompt, &options);
            assert_eq!(ours, Written { ids, end }, "{}: {name}", case.told);
        }
        // Without a cache: each is the likeliest after all before it.
        let theirs = case.ids("greedy");
        let text = [prompt.as_slice(), &theirs].concat();
        let pass = Pass::whole(backend, text.len(), &[0]).unwrap();
        let logits = case.logits(&reader.forward(&text, &pass, None).unwrap());
        let after = logits.chunks_exact(logits.len() / text.len());
        let after = after.skip(prompt.len() - 1).take(theirs.len());
        let ours: Vec<u32> = after.map(likeliest).collect();
        assert_eq!(ours, theirs, "{}, without a cache", case.told);
    }
}

#[test]
fn greedy_text_is_identical_on_the_cpu() {
    greedy_text_is_identical(&Candle::new(), "CPU");
}

#[test]
fn greedy_text_is_identical_on_the_gpu() {
    if let Some(gpu) = gpu() {
        greedy_text_is_identical(&gpu, "GPU");
    }
}

/// Searches in which texts end early: which is found goes by the penalties and
/// by when it is enough.
fn beams_are_identical<B: Backend>(backend: &B, device: &str) {
    for kind in KINDS {
        let case = Case::open(backend, device, kind);
        let prompt = case.ids("prompt.5");
        let media = case.media(5);
        let reader = Illustrated::new(&case.flamingo, &media, &prompt).unwrap();
        searches_are_identical(&reader, &prompt, (&case.golden, ""), &case.told);
    }
}

#[test]
fn beams_are_identical_on_the_cpu() {
    beams_are_identical(&Candle::new(), "CPU");
}

#[test]
fn beams_are_identical_on_the_gpu() {
    if let Some(gpu) = gpu() {
        beams_are_identical(&gpu, "GPU");
    }
}

/// The same of the language models of `golden/lm`, alone.
fn beams_of_language_models_are_identical<B: Backend>(backend: &B, device: &str) {
    let path = root().join("tests/golden/writing/lm.safetensors");
    let searches = Golden::open(&path).unwrap();
    for name in LANGUAGE_MODELS {
        let folder = root().join("tests/golden/lm").join(name);
        let json = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let config = lm_config(&json).unwrap();
        let weights = std::fs::read(folder.join("model.safetensors")).unwrap();
        let layout = lm_layout(&json, &config).unwrap();
        let checkpoint = Checkpoint::open_as(Box::new(weights), layout).unwrap();
        let lm = Lm::load(&Scope::root(backend, &checkpoint).child("lm"), &config).unwrap();
        let (told, name) = (format!("{name} on the {device}"), format!("{name}."));
        let prompt = ids(&searches, &format!("{name}prompt"));
        searches_are_identical(&lm, &prompt, (&searches, name.as_str()), &told);
    }
}

#[test]
fn beams_of_language_models_are_identical_on_the_cpu() {
    beams_of_language_models_are_identical(&Candle::new(), "CPU");
}

#[test]
fn beams_of_language_models_are_identical_on_the_gpu() {
    if let Some(gpu) = gpu() {
        beams_of_language_models_are_identical(&gpu, "GPU");
    }
}

fn answers_are_as_likely<B: Backend>(backend: &B, device: &str) {
    for kind in KINDS {
        let case = Case::open(backend, device, kind);
        let prompt = case.ids("prompt.5");
        let media = case.media(5);
        let reader = Illustrated::new(&case.flamingo, &media, &prompt).unwrap();
        let answers = [0, 1, 2, 3].map(|i| case.ids(&format!("answer.{i}")));
        let scores = pollster::block_on(score(&reader, &prompt, &answers)).unwrap();
        let numbers: Vec<f32> = scores.iter().flat_map(|s| [s.sum, s.mean]).collect();
        case.equal("likelihoods", "of answers", &numbers, 1e-3);
    }
}

#[test]
fn answers_are_as_likely_on_the_cpu() {
    answers_are_as_likely(&Candle::new(), "CPU");
}

#[test]
fn answers_are_as_likely_on_the_gpu() {
    if let Some(gpu) = gpu() {
        answers_are_as_likely(&gpu, "GPU");
    }
}

/// What is drawn by chance, counted: with a temperature, of the likeliest few,
/// and of those that make up a part of the probability.
#[test]
fn chance_goes_by_the_references_probabilities() {
    const DRAWS: u64 = 1500;
    let backend = Candle::new();
    let case = Case::open(&backend, "CPU", "mini");
    let prompt = case.ids("prompt.5");
    let media = case.media(5);
    let reader = Illustrated::new(&case.flamingo, &media, &prompt).unwrap();
    let (_, chances) = case.golden.tensor("chances").unwrap();
    assert_eq!(chances.iter().filter(|&&chance| chance > 0.0).count(), 8);
    let mut counts = vec![0_u32; chances.len()];
    for seed in 0..DRAWS {
        let options = Options {
            max_new_tokens: 1,
            method: Method::Sample {
                temperature: 0.7,
                top_k: 12,
                top_p: 0.8,
                seed,
            },
            repetition_penalty: 1.0,
            stop_tokens: Vec::new(),
        };
        counts[written(&reader, &prompt, &options).ids[0] as usize] += 1;
    }
    for (token, (&count, &chance)) in counts.iter().zip(&chances).enumerate() {
        let (count, chance, draws) = (f64::from(count), f64::from(chance), DRAWS as f64);
        let spread = (draws * chance * (1.0 - chance)).sqrt();
        assert!(
            (count - draws * chance).abs() <= 4.0 * spread,
            "token {token} was drawn {count} times of {draws}, its chance is {chance}"
        );
    }
}
