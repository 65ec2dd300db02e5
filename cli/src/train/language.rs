//! Training the small language model on words alone, and then what lets it
//! see: resampler and gated cross-attention (Flamingo §2.4).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor as Array, Var};
use candle_nn::ops::log_softmax;
use indicatif::{ProgressBar, ProgressStyle};
use plume_core::checkpoint::{Checkpoint, asked};
use plume_core::cpu::Parameters;
use plume_core::models::flamingo::Flamingo;
use rand::{Rng as _, SeedableRng as _};

use super::datasets::Dataset;
use super::documents::{Document, Form, Writer};
use super::keep::{self, State};
use super::learner::{Gallery, Learner};
use super::pages::Book;
use super::pictures::{Files, Pictures};
use super::recipe::{Recipe, What};
use super::step::{AdamW, Gradients};
use super::tally::Tally;
use super::words::Words;
use super::{card, read, trials, write};
use crate::world::{Rng, Sizes, Sort, Split};

/// A run and the folder it keeps itself in.
pub struct Run {
    folder: PathBuf,
    recipe: Recipe,
    learner: Learner,
    parameters: Parameters,
    optimizer: AdamW,
    /// Spent before.
    seconds: f64,
    /// Those that are trained on.
    gallery: Gallery,
    /// Those that are held out.
    unseen: Gallery,
    /// Documents of one's own, and their pictures.
    books: Vec<(Book, Pictures)>,
    tally: Tally,
    /// Trials of each of the figures that are taken on the way.
    pub figures: usize,
}

/// Trials of each of [`Run::figures`], unless set.
const FIGURES: usize = 60;

impl Run {
    /// Begins anew. Features of pictures are kept in `features`, where other
    /// runs on the same tower find them.
    ///
    /// # Errors
    /// Where the folder cannot be written, or what it builds on not be read.
    pub fn begin(folder: &Path, features: &Path, recipe: Recipe) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        write(&folder.join("tokenizer.json"), recipe.base.tokenizer()?)?;
        write(
            &folder.join("loss.csv"),
            "step,seconds,rate,loss,gates,norm\n",
        )?;
        Self::with(folder, features, recipe, None, AdamW::new())
    }

    /// Goes on where a run in this folder stopped, on a schedule of `steps`.
    ///
    /// # Errors
    /// Where the folder holds no run.
    pub fn resume(folder: &Path, features: &Path, steps: usize) -> Result<Self> {
        let kept = keep::kept::<Recipe>(folder)?;
        let recipe = Recipe {
            steps,
            ..kept.state.recipe
        };
        let run = Self::with(folder, features, recipe, Some(kept.weights), kept.optimizer)?;
        Ok(Self {
            seconds: kept.state.seconds,
            ..run
        })
    }

    fn with(
        folder: &Path,
        features: &Path,
        recipe: Recipe,
        trained: Option<Checkpoint>,
        optimizer: AdamW,
    ) -> Result<Self> {
        let words = Words::new(&read(&folder.join("tokenizer.json"))?)?;
        let (what, base) = (&recipe.what, &recipe.base);
        let sources = base.sources(what, recipe.seed, trained)?;
        let (learner, parameters) = Learner::new(words, what, &sources, &base.preprocessor()?)?;
        let drawn = !recipe.phases.is_empty();
        ensure!(
            drawn || !recipe.pages.is_empty(),
            "there is nothing to learn from: neither drawings nor documents"
        );
        let gallery = |split, seed, pictures: Sizes| -> Result<Gallery> {
            learner.gallery(split, seed, pictures, Some(features))
        };
        let context = learner.lm().config().context;
        let books = recipe.pages.iter().map(|pages| {
            let book = pages.book(&learner.words, context)?;
            let files = Files(book.pictures.clone());
            let pictures = learner.pictures(files, Some(features))?;
            Ok((book, pictures))
        });
        Ok(Self {
            books: books.collect::<Result<_>>()?,
            folder: folder.to_owned(),
            gallery: gallery(Split::Train, recipe.seed, recipe.pictures)?,
            unseen: gallery(Split::HeldOut, recipe.seed + 1, recipe.unseen)?,
            recipe,
            learner,
            parameters,
            optimizer,
            seconds: 0.0,
            tally: Tally::default(),
            figures: FIGURES,
        })
    }

    /// Steps taken.
    pub fn steps(&self) -> usize {
        self.optimizer.step
    }

    /// Seconds spent.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Numbers that are trained.
    pub fn trained(&self) -> usize {
        let all = self.parameters.all();
        all.iter().map(|(_, var)| var.elem_count()).sum()
    }

    /// The weighted loss of a batch, and what was foreseen of it. Only text that
    /// sees a picture counts; nothing, where none does.
    fn loss(
        &self,
        (documents, pictures): (&[Document], &Pictures),
        form: Form,
        tally: &mut Tally,
    ) -> Result<Option<Array>> {
        let x = self.learner.forward(documents, pictures)?;
        let longest = x.shape()[1];
        let (mut rows, mut targets, mut shares, mut tags) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (i, document) in documents.iter().enumerate() {
            let seen = document.seen(self.learner.words.image, longest);
            for at in 1..document.ids.len() {
                let told = !self.learner.sees() || seen[at - 1] > 0;
                if document.weights[at] > 0.0 && told {
                    rows.push((i * longest + at - 1) as u32);
                    targets.push(document.ids[at]);
                    shares.push(document.weights[at]);
                    tags.push(document.tags[at]);
                }
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let logits = self.learner.lm().logits(&x.gather(&rows)?)?;
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
        let loss = ((picked * shares)?.sum_all()? * (-1.0 / f64::from(all)))?;
        Ok(Some(loss))
    }

    /// Trains to the end of the schedule.
    ///
    /// # Errors
    /// Where the computation or the disk fails.
    pub fn train(&mut self) -> Result<()> {
        self.train_until(self.recipe.steps)
    }

    /// Trains until `last` steps of the schedule are taken.
    ///
    /// # Errors
    /// As [`Run::train`].
    pub fn train_until(&mut self, last: usize) -> Result<()> {
        let (start, before) = (Instant::now(), self.seconds);
        let bar = ProgressBar::new(self.recipe.steps as u64);
        bar.set_style(ProgressStyle::with_template(
            "{pos}/{len} steps {wide_bar} {msg} {elapsed}/{eta}",
        )?);
        while self.optimizer.step < last {
            let loss = self.step()?;
            self.seconds = before + start.elapsed().as_secs_f64();
            bar.set_position(self.optimizer.step as u64);
            bar.set_message(format!("loss {loss:.3}"));
            let step = self.optimizer.step;
            if step.is_multiple_of(50) {
                let line = format!("{step} {:.0} s: {}\n", self.seconds, self.tally.words());
                self.log("tally.txt", &line)?;
                self.tally = Tally::default();
            }
            if step.is_multiple_of(200) || step == last {
                self.keep()?;
                if !self.recipe.phases.is_empty() {
                    let figures = self.measure(self.figures)?;
                    let line = format!("{step} {:.0} s: {figures}\n", self.seconds);
                    self.log("figures.txt", &line)?;
                }
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

    fn step(&mut self) -> Result<f32> {
        let step = self.optimizer.step;
        let recipe = &self.recipe;
        let peak = recipe.optimizer.rate;
        let rate = recipe
            .schedule
            .rate(step, recipe.steps, recipe.warm_up, peak);
        let parameters = self.parameters.all();
        let mut gradients = Gradients::new();
        let (mut total, mut weight) = (0.0, 0.0);
        let mut tally = std::mem::take(&mut self.tally);
        for (i, (set, share)) in self.sets(step).into_iter().enumerate() {
            if recipe.round_robin && i != step % self.sets(step).len() {
                continue;
            }
            let seed = recipe.seed.wrapping_mul(0x9e37_79b9) ^ (step as u64) << 20 ^ i as u64;
            let (form, mut documents, pictures) = self.batch(&set, seed)?;
            if recipe.p_next > 0.0 {
                let mut rng = Rng::seed_from_u64(!seed);
                for document in &mut documents {
                    document.next = rng.random_bool(recipe.p_next);
                }
            }
            let Some(loss) = self.loss((&documents, pictures), form, &mut tally)? else {
                continue;
            };
            total += loss.to_scalar::<f32>()? * share;
            weight += share;
            let store = (loss * f64::from(share))?.backward()?;
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
        let loss = total / weight.max(f32::MIN_POSITIVE);
        let (seconds, gates) = (self.seconds, self.gates()?);
        let line = format!(
            "{},{seconds:.1},{rate:.3e},{loss:.4},{gates},{norm:.3}\n",
            step + 1
        );
        self.log("loss.csv", &line)?;
        Ok(loss)
    }

    /// What a step may learn from, and what its loss counts.
    fn sets(&self, step: usize) -> Vec<(Set<'_>, f32)> {
        let drawn = self.recipe.datasets(step).iter();
        let drawn = drawn.map(|dataset| (Set::Drawn(dataset), dataset.weight));
        let pages = self.recipe.pages.iter().zip(&self.books);
        let pages =
            pages.map(|(pages, (book, pictures))| (Set::Pages(book, pictures), pages.weight));
        drawn.chain(pages).collect()
    }

    /// The batch of a set that a seed decides, and where its pictures are.
    fn batch<'a>(
        &'a self,
        set: &Set<'a>,
        seed: u64,
    ) -> Result<(Form, Vec<Document>, &'a Pictures)> {
        Ok(match set {
            Set::Drawn(dataset) => {
                let writer = Writer {
                    words: &self.learner.words,
                    pool: &self.gallery.pool,
                };
                let (form, documents) = dataset.batch(&writer, seed)?;
                (form, documents, self.gallery.pictures())
            }
            Set::Pages(book, pictures) => {
                let documents = book.batch(self.recipe.page_batch, seed);
                (Form::Picture, documents, pictures)
            }
        })
    }

    fn keep(&self) -> Result<()> {
        let state = State {
            step: self.optimizer.step,
            seconds: self.seconds,
            recipe: self.recipe.clone(),
        };
        keep::keep(&self.folder, &state, &self.parameters, &self.optimizer)
    }

    /// How often the name of the last picture is chosen among those of the
    /// document: 4 ways, 8 shots.
    fn measure(&self, trials: usize) -> Result<String> {
        let form = if self.learner.sees() {
            Form::Picture
        } else {
            Form::Laid
        };
        let mut parts = Vec::new();
        for (gallery, split) in [(&self.gallery, "seen"), (&self.unseen, "unseen")] {
            for sort in Sort::ALL {
                let cell = trials::named(&self.learner, gallery, (sort, 4, 8), form, trials)?;
                let right = cell.share();
                parts.push(format!("{split} {sort:?} {:.0}", 100.0 * right));
            }
        }
        Ok(parts.join(", "))
    }

    /// Writes the finished model: matrices in f16, all else in f32.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn publish(&self, out: &Path) -> Result<()> {
        fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let mut tensors: BTreeMap<String, Array> = BTreeMap::new();
        let asked: BTreeSet<String> = match &self.recipe.what {
            What::Lm(_) => BTreeSet::new(),
            What::Flamingo(config) => {
                let all = asked(|device, source| Flamingo::load(device, config, source))?;
                all.into_iter().map(|asked| asked.name).collect()
            }
        };
        for (file, prefixes) in self.recipe.base.files() {
            let taken = |name: &str| {
                asked.contains(name) && prefixes.iter().any(|prefix| name.starts_with(prefix))
            };
            let all = candle_core::safetensors::load(file, &Device::Cpu)?;
            tensors.extend(all.into_iter().filter(|(name, _)| taken(name)));
        }
        for (name, var) in self.parameters.all() {
            let kind = kind(&name, &var);
            tensors.insert(name, var.to_dtype(kind)?);
        }
        safetensors::serialize_to_file(tensors, None, &out.join("model.safetensors"))?;
        let config = match &self.recipe.what {
            What::Lm(lm) => typed(serde_json::json!(lm), "plume_lm"),
            What::Flamingo(flamingo) => typed(serde_json::json!(flamingo), "plume_flamingo"),
        };
        write(
            &out.join("config.json"),
            serde_json::to_string_pretty(&config)? + "\n",
        )?;
        write(
            &out.join("preprocessor_config.json"),
            self.recipe.base.preprocessor()?,
        )?;
        let log = read(&self.folder.join("loss.csv"))?;
        write(&out.join("loss.svg"), card::plot(&log, "weighted loss"))?;
        let name = "tokenizer.json";
        fs::copy(self.folder.join(name), out.join(name))?;
        Ok(())
    }
}

/// What a step learns from.
enum Set<'a> {
    /// Drawings of the world.
    Drawn(&'a Dataset),
    /// Documents of one's own.
    Pages(&'a Book, &'a Pictures),
}

fn kind(name: &str, var: &Var) -> DType {
    let table = name.ends_with("latents") || name.ends_with("positional_embedding");
    if var.dims().len() == 2 && !table {
        DType::F16
    } else {
        DType::F32
    }
}

fn typed(mut config: serde_json::Value, kind: &str) -> serde_json::Value {
    config["model_type"] = kind.into();
    config
}
