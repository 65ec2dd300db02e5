//! Training the small language model on words alone, and then what lets it
//! see: resampler and gated cross-attention (Flamingo §2.4).

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor as Array, Var};
use candle_nn::ops::log_softmax;
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use plume_core::backend::{Activation, WeightData};
use plume_core::checkpoint::{Checkpoint, Layout, LmInit, Scope, Source, clip_config};
use plume_core::config::VisionConfig;
use plume_core::config::flamingo::{
    FlamingoConfig, Gate, ResamplerConfig, ResamplerKind, VisionFeatures, XattnConfig,
};
use plume_core::config::language::{LmConfig, NormKind, Positions};
use plume_core::cpu::{Candle, Parameters};
use plume_core::image::Preprocess;
use plume_core::models::flamingo::Flamingo;
use plume_core::models::lm::{Lm, Pass};
use plume_core::tensor::Tensor;
use rand::SeedableRng as _;
use serde::{Deserialize, Serialize};

use super::batch::photograph;
use super::documents::{Dataset, Document, Form, Kind, Tally, Writer};
use super::step::{AdamW, AdamWConfig, Gradients, schedule};
use super::words::{Words, tokenizer_json};
use super::{PREPROCESSOR, read, write};
use crate::world::{Pool, Rng, Sampler, Scene, Sort, Split};

/// What is trained.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "there is one of it in a run")]
pub enum What {
    /// A language model, from nothing.
    Lm(LmConfig),
    /// What lets a language model see.
    Flamingo(FlamingoConfig),
}

/// A part of the curriculum.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Phase {
    /// Share of all steps after which it ends.
    pub until: f64,
    /// A step takes a batch of each.
    pub datasets: Vec<Dataset>,
}

/// Everything that decides a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recipe {
    /// Decides weights and documents.
    pub seed: u64,
    /// Steps of the schedule.
    pub steps: usize,
    /// Steps until the peak rate.
    pub warm_up: usize,
    /// The optimiser.
    pub optimizer: AdamWConfig,
    /// Gates learn so many times faster.
    pub gates: f64,
    /// What is shown when.
    pub phases: Vec<Phase>,
    /// Single things, pairs and several of a kind among the pictures.
    pub pictures: (usize, usize, usize),
    /// The sizes.
    pub what: What,
}

fn optimizer(rate: f64) -> AdamWConfig {
    AdamWConfig {
        rate,
        beta_1: 0.9,
        beta_2: 0.98,
        epsilon: 1e-8,
        decay: 0.05,
        clip: 1.0,
    }
}

impl Recipe {
    /// The demo's language model.
    pub fn lm(seed: u64, steps: usize, vocab_size: usize) -> Self {
        let lm = LmConfig {
            context: 1024,
            positions: Positions::Rotary {
                dims: 32,
                base: 1000.0,
                interleaved: false,
            },
            smeared_keys: true,
            ..LmConfig::chinchilla(128, 4, 4, vocab_size)
        };
        Self {
            seed,
            steps,
            warm_up: 60,
            optimizer: optimizer(1.5e-3),
            gates: 1.0,
            phases: keys_first(),
            pictures: (20_000, 10_000, 6_000),
            what: What::Lm(lm),
        }
    }

    /// The demo Flamingo, for this language model and this CLIP's tower.
    pub fn flamingo(
        seed: u64,
        steps: usize,
        (lm, vision): (LmConfig, (VisionConfig, usize)),
        (image_token, end_of_chunk): (u32, u32),
    ) -> Result<Self> {
        let (VisionConfig::Vit(vision), embed_dim) = vision else {
            bail!("the vision encoder should be a vision transformer");
        };
        let layers = lm.layers;
        let what = FlamingoConfig {
            vision,
            embed_dim,
            features: VisionFeatures {
                class_token: false,
                ln_post: true,
            },
            resampler: ResamplerConfig {
                kind: ResamplerKind::Perceiver { latents: 8 },
                depth: 2,
                heads: 4,
                head_dim: 32,
                mlp_width: 512,
                activation: Activation::Gelu,
                time_embeddings: 0,
                norm_eps: 1e-5,
            },
            xattn: XattnConfig {
                layers: XattnConfig::every(1, layers),
                heads: 4,
                head_dim: 32,
                mlp_width: 512,
                activation: Activation::Gelu,
                gated_mlp: false,
                norm: NormKind::Layer,
                norm_eps: 1e-5,
                gate: Gate::Scalar,
                all_previous: false,
            },
            lm,
            image_token,
            end_of_chunk,
        };
        Ok(Self {
            seed,
            steps,
            warm_up: 40,
            optimizer: optimizer(1e-3),
            gates: 10.0,
            phases: captions_first(),
            pictures: (12_000, 5_000, 3_000),
            what: What::Flamingo(what),
        })
    }

    fn phase(&self, step: usize) -> &Phase {
        let done = step as f64 / self.steps.max(1) as f64;
        let current = self.phases.iter().find(|phase| done < phase.until);
        // A recipe has phases, and the last ends with the run.
        current.unwrap_or(&self.phases[self.phases.len() - 1])
    }
}

/// The kinds, those by both most often and those by colour more often than by
/// thing: they are learned last.
const SORTS: [(Sort, f32); 3] = [
    (Sort::ThingAndColour, 0.3),
    (Sort::Thing, 0.35),
    (Sort::Colour, 0.35),
];

/// The curriculum of the language model: bare keys first, from which alone
/// learning to look up a name comes about; then more and more words around
/// them.
fn keys_first() -> Vec<Phase> {
    use Form::{Asked, Bare, Caption, Described, Marked};
    let phase = |until, forms: [f32; 5], mixed, pictures: &[(usize, f32)], told: f32| {
        let forms = [Bare, Asked, Marked, Caption, Described]
            .into_iter()
            .zip(forms)
            .collect::<Vec<_>>();
        let named = Dataset {
            kind: Kind::Named,
            forms,
            mixed,
            sorts: SORTS.to_vec(),
            pictures: pictures.to_vec(),
            batch: 90,
            weight: 1.0,
        };
        let told = Dataset {
            kind: Kind::Told,
            forms: vec![(Caption, 0.3), (Described, 0.7)],
            mixed: 0.0,
            sorts: Vec::new(),
            pictures: vec![(4, 1.0), (7, 1.0)],
            batch: 56,
            weight: told,
        };
        Phase {
            until,
            datasets: vec![named.clone(), named, told],
        }
    };
    let short = [(9, 1.0), (12, 0.5)];
    let long = [(9, 0.55), (12, 0.2), (17, 0.15), (33, 0.1)];
    vec![
        phase(0.05, [0.6, 0.3, 0.1, 0.0, 0.0], 0.5, &short, 0.3),
        phase(0.2, [0.3, 0.3, 0.25, 0.15, 0.0], 0.5, &short, 0.4),
        phase(0.4, [0.1, 0.2, 0.2, 0.3, 0.2], 0.4, &short, 0.6),
        phase(1.0, [0.04, 0.04, 0.04, 0.25, 0.63], 0.3, &long, 0.8),
    ]
}

/// The curriculum of what lets it see.
fn captions_first() -> Vec<Phase> {
    let named = Dataset {
        kind: Kind::Named,
        forms: vec![(Form::Picture, 1.0)],
        mixed: 0.0,
        sorts: SORTS.to_vec(),
        pictures: vec![(9, 0.7), (12, 0.2), (17, 0.1)],
        batch: 108,
        weight: 1.0,
    };
    let told = Dataset {
        kind: Kind::Told,
        forms: vec![(Form::Picture, 1.0)],
        mixed: 0.0,
        sorts: Vec::new(),
        pictures: vec![(4, 1.0), (7, 0.5), (2, 0.3)],
        batch: 72,
        weight: 1.0,
    };
    vec![
        Phase {
            until: 0.08,
            datasets: vec![told.clone(), told.clone()],
        },
        Phase {
            until: 1.0,
            datasets: vec![named, told],
        },
    ]
}

/// Weights from where they are: of this run, of the parts it builds on, or
/// drawn.
struct Parts {
    trained: Option<Checkpoint>,
    vision: Option<Checkpoint>,
    lm: Option<Checkpoint>,
    init: LmInit,
}

impl Source for Parts {
    fn read(&self, name: &str, shape: &[usize]) -> plume_core::Result<WeightData> {
        for part in [&self.trained, &self.vision, &self.lm]
            .into_iter()
            .flatten()
        {
            if part.file().shape(name).is_some() {
                return part.read(name, shape);
            }
        }
        self.init.read(name, shape)
    }
}

fn weights(path: &Path) -> Result<Checkpoint> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let context = || path.display().to_string();
    Checkpoint::open_as(Box::new(bytes), Layout::Canonical).with_context(context)
}

#[expect(clippy::large_enum_variant, reason = "there is one of it in a run")]
enum Model {
    Lm(Lm<Candle>),
    Flamingo(Flamingo<Candle>),
}

impl Model {
    fn lm(&self) -> &Lm<Candle> {
        match self {
            Self::Lm(lm) => lm,
            Self::Flamingo(flamingo) => flamingo.lm(),
        }
    }
}

/// Pictures as the resampler is given them.
struct Features {
    numbers: Vec<f16>,
    /// Of one picture: rows and columns.
    shape: (usize, usize),
}

impl Features {
    /// Those of a pool, from the file if they were computed before.
    fn of(pool: &Pool, seed: u64, flamingo: &Flamingo<Candle>, file: &Path) -> Result<Self> {
        let config = flamingo.config();
        let shape = (config.features_per_image(), config.vision.transformer.width);
        let len = pool.scenes().len() * shape.0 * shape.1;
        if let Ok(bytes) = fs::read(file)
            && bytes.len() == len * 2
        {
            let pairs = bytes.as_chunks::<2>().0.iter();
            let numbers = pairs.map(|&pair| f16::from_le_bytes(pair)).collect();
            return Ok(Self { numbers, shape });
        }
        let preprocess = Preprocess::from_json(PREPROCESSOR, config.vision.image_size)?;
        let bar = ProgressBar::new(pool.scenes().len() as u64);
        let part = |(i, scenes): (usize, &[Scene])| -> Result<Vec<f16>> {
            // Only the crops are drawn from it.
            let mut sampler = Sampler::new(Split::Train, seed ^ (i as u64) << 32);
            let mut pixels = Vec::new();
            for scene in scenes {
                pixels.extend(photograph(scene, &preprocess, &mut sampler)?);
            }
            let size = config.vision.image_size;
            let pixels =
                Tensor::upload(flamingo.backend(), &pixels, &[scenes.len(), size, size, 3])?;
            let features = pollster::block_on(flamingo.features(&pixels)?.read())?;
            bar.inc(scenes.len() as u64);
            let mut halves = vec![f16::ZERO; features.len()];
            halves.convert_from_f32_slice(&features);
            Ok(halves)
        };
        let mut numbers = Vec::with_capacity(len);
        for chunk in pool.scenes().chunks(64).enumerate() {
            numbers.extend(part(chunk)?);
        }
        bar.finish_and_clear();
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        write(file, bytes)?;
        Ok(Self { numbers, shape })
    }

    /// Of one picture.
    fn picture(&self, i: usize) -> &[f16] {
        let len = self.shape.0 * self.shape.1;
        &self.numbers[i * len..(i + 1) * len]
    }
}

/// Which weights are trained.
fn sees(name: &str) -> bool {
    name.starts_with("resampler.") || name.starts_with("xattn.")
}

/// Pictures of a split, and their features if there are eyes.
struct Gallery {
    pool: Pool,
    features: Option<Features>,
}

/// A run and the folder it keeps itself in.
pub struct Run {
    folder: PathBuf,
    recipe: Recipe,
    words: Words,
    model: Model,
    parameters: Parameters,
    optimizer: AdamW,
    /// Those that are trained on.
    gallery: Gallery,
    /// Those that are held out.
    unseen: Gallery,
    tally: Tally,
}

#[derive(Serialize, Deserialize)]
struct State {
    step: usize,
    seconds: f64,
    recipe: Recipe,
    base: Base,
}

/// What a Flamingo is built on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Base {
    /// The folder of a CLIP.
    pub clip: Option<PathBuf>,
    /// The folder of a language model.
    pub lm: Option<PathBuf>,
}

impl Base {
    /// The recipe of a Flamingo on these.
    ///
    /// # Errors
    /// Where a folder lacks a file.
    pub fn recipe(&self, seed: u64, steps: usize) -> Result<Recipe> {
        let (Some(clip), Some(lm)) = (&self.clip, &self.lm) else {
            bail!("a Flamingo is trained on a CLIP and a language model");
        };
        let clip = clip_config(&read(&clip.join("config.json"))?)?;
        let vision = clip.vision.clone().context("the CLIP has no image tower")?;
        let words = Words::new(&read(&lm.join("tokenizer.json"))?)?;
        let lm: LmConfig = serde_json::from_str(&read(&lm.join("config.json"))?)?;
        let tokens = (words.image, words.end_of_chunk);
        Recipe::flamingo(seed, steps, (lm, (vision, clip.embed_dim)), tokens)
    }

    fn tokenizer(&self) -> Result<String> {
        match &self.lm {
            Some(lm) => read(&lm.join("tokenizer.json")),
            None => tokenizer_json(),
        }
    }
}

impl Run {
    /// Begins anew.
    ///
    /// # Errors
    /// Where the folder cannot be written, or what it builds on not be read.
    pub fn begin(folder: &Path, recipe: Recipe, base: &Base) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        write(&folder.join("tokenizer.json"), base.tokenizer()?)?;
        write(
            &folder.join("loss.csv"),
            "step,seconds,rate,loss,gates,norm\n",
        )?;
        Self::with(folder, recipe, base, None, AdamW::new())
    }

    /// Goes on where a run in this folder stopped, on a schedule of `steps`;
    /// returns the seconds it had taken.
    ///
    /// # Errors
    /// Where the folder holds no run.
    pub fn resume(folder: &Path, steps: usize) -> Result<(Self, f64)> {
        let state: State = serde_json::from_str(&read(&folder.join("state.json"))?)?;
        let recipe = Recipe {
            steps,
            ..state.recipe
        };
        let moments = folder.join("optimizer.safetensors");
        let moments = candle_core::safetensors::load(moments, &Device::Cpu)?;
        let optimizer = AdamW::restore(state.step, &moments)?;
        let trained = weights(&folder.join("weights.safetensors"))?;
        let run = Self::with(folder, recipe, &state.base, Some(trained), optimizer)?;
        Ok((run, state.seconds))
    }

    fn with(
        folder: &Path,
        recipe: Recipe,
        base: &Base,
        trained: Option<Checkpoint>,
        optimizer: AdamW,
    ) -> Result<Self> {
        let words = Words::new(&read(&folder.join("tokenizer.json"))?)?;
        let file = |folder: &Option<PathBuf>| {
            let path = folder
                .as_ref()
                .map(|folder| folder.join("model.safetensors"));
            path.map(|path| weights(&path)).transpose()
        };
        let (lm, heads) = match &recipe.what {
            What::Lm(lm) => (lm, lm.heads),
            What::Flamingo(flamingo) => (&flamingo.lm, flamingo.lm.heads),
        };
        let source = Parts {
            trained,
            vision: file(&base.clip)?,
            lm: file(&base.lm)?,
            init: LmInit::new(lm.layers, heads, recipe.seed),
        };
        let (model, parameters) = match &recipe.what {
            What::Lm(config) => {
                let (device, parameters) = Candle::training();
                let scope = Scope::root(&device, &source);
                (Model::Lm(Lm::load(&scope.child("lm"), config)?), parameters)
            }
            What::Flamingo(config) => {
                let (device, parameters) = Candle::training_some(sees);
                let flamingo = Flamingo::load(&device, config, &source)?;
                (Model::Flamingo(flamingo), parameters)
            }
        };
        let gallery = |split, seed, pictures: (usize, usize, usize)| -> Result<Gallery> {
            let pool = Pool::new(split, seed, pictures);
            let features = match &model {
                Model::Lm(_) => None,
                Model::Flamingo(flamingo) => {
                    let name = format!("features-{split:?}.f16").to_lowercase();
                    Some(Features::of(&pool, seed, flamingo, &folder.join(name))?)
                }
            };
            Ok(Gallery { pool, features })
        };
        Ok(Self {
            folder: folder.to_owned(),
            gallery: gallery(Split::Train, recipe.seed, recipe.pictures)?,
            unseen: gallery(Split::HeldOut, recipe.seed + 1, (800, 200, 200))?,
            recipe,
            words,
            model,
            parameters,
            optimizer,
            tally: Tally::default(),
        })
    }

    /// The residual stream after the last block: `[documents, tokens, width]`.
    fn forward(&self, documents: &[Document], gallery: &Gallery) -> Result<Tensor<Candle>> {
        let longest = documents.iter().map(|d| d.ids.len()).max().unwrap_or(0);
        let filled = |document: &Document| {
            let mut ids = document.ids.clone();
            ids.resize(longest, 0);
            ids
        };
        let ids: Vec<u32> = documents.iter().flat_map(filled).collect();
        let lm = self.model.lm();
        let pass = Pass::whole(lm.backend(), longest, &vec![0; documents.len()])?;
        let (flamingo, features) = match (&self.model, &gallery.features) {
            (Model::Flamingo(flamingo), Some(features)) => (flamingo, features),
            _ => return Ok(lm.forward(&ids, &pass, None)?),
        };
        let most = documents
            .iter()
            .map(|d| d.pictures.len())
            .max()
            .unwrap_or(0);
        let (rows, width) = features.shape;
        let mut numbers = vec![0.0; documents.len() * most * rows * width];
        for (i, document) in documents.iter().enumerate() {
            for (j, &picture) in document.pictures.iter().enumerate() {
                let at = (i * most + j) * rows * width;
                features
                    .picture(picture)
                    .convert_to_f32_slice(&mut numbers[at..at + rows * width]);
            }
        }
        let shape = [documents.len() * most, rows, width];
        let numbers = Tensor::upload(lm.backend(), &numbers, &shape)?;
        let visual = flamingo.resample(&numbers, 1)?;
        let media = flamingo.media(&visual, documents.len())?;
        let seen = ids.chunks_exact(longest);
        let seen: Vec<u32> = seen.flat_map(|ids| flamingo.image_numbers(ids)).collect();
        Ok(flamingo.forward(&ids, &seen, &pass, &media, None)?)
    }

    /// The weighted loss of a batch, and what was foreseen of it.
    fn loss(&self, documents: &[Document], form: Form, tally: &mut Tally) -> Result<Array> {
        let x = self.forward(documents, &self.gallery)?;
        let longest = x.shape()[1];
        let (mut rows, mut targets, mut shares, mut tags) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (i, document) in documents.iter().enumerate() {
            for at in 1..document.ids.len() {
                if document.weights[at] > 0.0 {
                    rows.push((i * longest + at - 1) as u32);
                    targets.push(document.ids[at]);
                    shares.push(document.weights[at]);
                    tags.push(document.tags[at]);
                }
            }
        }
        let logits = self.model.lm().logits(&x.gather(&rows)?)?;
        let logits = logits.buffer();
        let likeliest: Vec<u32> = logits.detach().argmax(1)?.to_vec1()?;
        for ((tag, target), likeliest) in tags.iter().zip(&targets).zip(likeliest) {
            if let Some(tag) = tag {
                tally.count(form, *tag, likeliest == *target);
            }
        }
        let all: f32 = shares.iter().sum();
        let n = targets.len();
        let targets = Array::from_vec(targets, (n, 1), &Device::Cpu)?;
        let shares = Array::from_vec(shares, (n, 1), &Device::Cpu)?;
        let picked = log_softmax(logits, 1)?.gather(&targets, 1)?;
        Ok(((picked * shares)?.sum_all()? * (-1.0 / f64::from(all)))?)
    }

    /// Trains to the end of the schedule; `before` seconds were spent already.
    ///
    /// # Errors
    /// Where the computation or the disk fails.
    pub fn train(&mut self, before: f64, base: &Base) -> Result<()> {
        self.train_until(self.recipe.steps, before, base)
    }

    /// Trains until `last` steps of the schedule are taken.
    ///
    /// # Errors
    /// As [`Run::train`].
    pub fn train_until(&mut self, last: usize, before: f64, base: &Base) -> Result<()> {
        let start = Instant::now();
        let bar = ProgressBar::new(self.recipe.steps as u64);
        bar.set_style(ProgressStyle::with_template(
            "{pos}/{len} steps {wide_bar} {msg} {elapsed}/{eta}",
        )?);
        while self.optimizer.step < last {
            let seconds = before + start.elapsed().as_secs_f64();
            let loss = self.step(seconds)?;
            bar.set_position(self.optimizer.step as u64);
            bar.set_message(format!("loss {loss:.3}"));
            let step = self.optimizer.step;
            if step.is_multiple_of(50) {
                let line = format!("{step} {seconds:.0} s: {}\n", self.tally.words());
                self.log("tally.txt", &line)?;
                self.tally = Tally::default();
            }
            if step.is_multiple_of(200) || step == last {
                self.keep(before + start.elapsed().as_secs_f64(), base)?;
                let figures = self.measure(60)?;
                self.log(
                    "figures.txt",
                    &format!("{step} {seconds:.0} s: {figures}\n"),
                )?;
            }
        }
        bar.finish();
        Ok(())
    }

    fn log(&self, name: &str, line: &str) -> Result<()> {
        let path = self.folder.join(name);
        let mut options = fs::OpenOptions::new();
        let mut file = options.create(true).append(true).open(path)?;
        Ok(file.write_all(line.as_bytes())?)
    }

    /// The gates of the cross-attention, by layer, as far as they are open.
    fn gates(&self) -> Result<String> {
        let mut open = Vec::new();
        for (name, gate) in self.parameters.all() {
            if name.ends_with("attn_gate") {
                let mean = gate.tanh()?.abs()?.mean_all()?.to_scalar::<f32>()?;
                open.push(format!("{mean:.3}"));
            }
        }
        Ok(open.join(" "))
    }

    fn step(&mut self, seconds: f64) -> Result<f32> {
        let step = self.optimizer.step;
        let recipe = &self.recipe;
        let rate = schedule(step, recipe.steps, recipe.warm_up, recipe.optimizer.rate);
        let parameters = self.parameters.all();
        let mut gradients = Gradients::new();
        let (mut total, mut weight) = (0.0, 0.0);
        let writer = Writer {
            words: &self.words,
            pool: &self.gallery.pool,
        };
        let mut tally = std::mem::take(&mut self.tally);
        for (i, dataset) in recipe.phase(step).datasets.iter().enumerate() {
            let seed = recipe.seed.wrapping_mul(0x9e37_79b9) ^ (step as u64) << 20 ^ i as u64;
            let (form, documents) = dataset.batch(&writer, seed)?;
            let loss = self.loss(&documents, form, &mut tally)?;
            total += loss.to_scalar::<f32>()? * dataset.weight;
            weight += dataset.weight;
            let store = (loss * f64::from(dataset.weight))?.backward()?;
            for (name, var) in &parameters {
                let Some(gradient) = store.get(var) else {
                    continue;
                };
                let sum = match gradients.remove(name) {
                    None => gradient.clone(),
                    Some(sum) => (sum + gradient)?,
                };
                gradients.insert(name.clone(), sum);
            }
        }
        self.tally = tally;
        let gates = self.recipe.gates;
        let norm = self.optimizer.update_each(
            &parameters,
            &gradients,
            &self.recipe.optimizer,
            &|name| {
                if name.ends_with("_gate") {
                    rate * gates
                } else {
                    rate
                }
            },
        )?;
        let loss = total / weight;
        let gates = self.gates()?;
        let line = format!(
            "{},{seconds:.1},{rate:.3e},{loss:.4},{gates},{norm:.3}\n",
            step + 1
        );
        self.log("loss.csv", &line)?;
        Ok(loss)
    }

    /// Writes everything a resumed run needs; the old state stands until the
    /// new one is whole.
    fn keep(&self, seconds: f64, base: &Base) -> Result<()> {
        let all = self.parameters.all().into_iter();
        let weights: HashMap<String, Array> = all
            .map(|(name, var)| (name, var.as_tensor().clone()))
            .collect();
        let moments: HashMap<String, Array> = self.optimizer.save()?.into_iter().collect();
        let state = State {
            step: self.optimizer.step,
            seconds,
            recipe: self.recipe.clone(),
            base: base.clone(),
        };
        for (name, tensors) in [("weights", weights), ("optimizer", moments)] {
            let new = self.folder.join(format!("{name}.new"));
            candle_core::safetensors::save(&tensors, &new)?;
            fs::rename(new, self.folder.join(format!("{name}.safetensors")))?;
        }
        write(
            &self.folder.join("state.json"),
            serde_json::to_string_pretty(&state)?,
        )
    }

    /// How often the name of the last picture is chosen among those of the
    /// document, and how often it is what the model would say, in words: 4 and
    /// 2 ways, 8 shots.
    fn measure(&self, trials: usize) -> Result<String> {
        let form = match &self.model {
            Model::Lm(_) => Form::Described,
            Model::Flamingo(_) => Form::Picture,
        };
        let mut parts = Vec::new();
        for (gallery, split) in [(&self.gallery, "seen"), (&self.unseen, "unseen")] {
            for sort in Sort::ALL {
                let right = self.named(gallery, sort, (4, 8), form, trials)?;
                parts.push(format!("{split} {sort:?} {:.0}", 100.0 * right));
            }
        }
        Ok(parts.join(", "))
    }

    /// The share of trials in which the right name is the likeliest of those
    /// shown.
    fn named(
        &self,
        gallery: &Gallery,
        sort: Sort,
        (ways, shots): (usize, usize),
        form: Form,
        trials: usize,
    ) -> Result<f64> {
        let mut rng = Rng::seed_from_u64(99);
        let writer = Writer {
            words: &self.words,
            pool: &gallery.pool,
        };
        let mut right = 0;
        for chunk in (0..trials).collect::<Vec<_>>().chunks(20) {
            let (mut documents, mut candidates) = (Vec::new(), Vec::new());
            for _ in chunk {
                let trial = gallery.pool.trial(sort, (ways, shots + 1), true, &mut rng);
                documents.push(writer.asked(&trial, form, &mut rng)?);
                let firsts = trial.names.iter().map(|name| {
                    let ids = self.words.encode(name)?;
                    ids.first().copied().context("a name without tokens")
                });
                let truth = trial.pictures[shots].1;
                candidates.push((firsts.collect::<Result<Vec<u32>>>()?, truth));
            }
            let x = self.forward(&documents, gallery)?;
            let longest = x.shape()[1];
            let rows: Vec<u32> = documents
                .iter()
                .enumerate()
                .map(|(i, document)| (i * longest + document.ids.len() - 1) as u32)
                .collect();
            let logits = self.model.lm().logits(&x.gather(&rows)?)?;
            let logits: Vec<Vec<f32>> = logits.buffer().detach().to_vec2()?;
            for (logits, (names, truth)) in logits.iter().zip(candidates) {
                let best = (0..names.len()).max_by(|&a, &b| {
                    logits[names[a] as usize].total_cmp(&logits[names[b] as usize])
                });
                right += usize::from(best == Some(truth));
            }
        }
        Ok(right as f64 / trials as f64)
    }

    /// Writes the finished model: matrices in f16, all else in f32.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn publish(&self, out: &Path, base: &Base) -> Result<()> {
        fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let mut tensors: BTreeMap<String, Array> = BTreeMap::new();
        for (folder, prefix) in [(&base.clip, "vision."), (&base.lm, "lm.")] {
            let Some(folder) = folder else { continue };
            let file = folder.join("model.safetensors");
            let all = candle_core::safetensors::load(file, &Device::Cpu)?;
            tensors.extend(all.into_iter().filter(|(name, _)| name.starts_with(prefix)));
        }
        for (name, var) in self.parameters.all() {
            let kind = kind(&name, &var);
            tensors.insert(name, var.to_dtype(kind)?);
        }
        let tensors: HashMap<String, Array> = tensors.into_iter().collect();
        candle_core::safetensors::save(&tensors, out.join("model.safetensors"))?;
        let config = match &self.recipe.what {
            What::Lm(lm) => typed(serde_json::json!(lm), "plume_lm"),
            What::Flamingo(flamingo) => typed(serde_json::json!(flamingo), "plume_flamingo"),
        };
        write(
            &out.join("config.json"),
            serde_json::to_string_pretty(&config)? + "\n",
        )?;
        write(&out.join("preprocessor_config.json"), PREPROCESSOR)?;
        let name = "tokenizer.json";
        fs::copy(self.folder.join(name), out.join(name))?;
        Ok(())
    }
}

fn kind(name: &str, var: &Var) -> DType {
    if var.dims().len() == 2 && !name.ends_with("latents") {
        DType::F16
    } else {
        DType::F32
    }
}

fn typed(mut config: serde_json::Value, kind: &str) -> serde_json::Value {
    config["model_type"] = kind.into();
    config
}
