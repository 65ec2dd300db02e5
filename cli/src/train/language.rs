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
use indicatif::{ProgressBar, ProgressStyle};
use plume_core::checkpoint::{Checkpoint, LmInit, clip_config};
use plume_core::config::language::LmConfig;
use plume_core::cpu::Parameters;
use serde::{Deserialize, Serialize};

use super::card;
use super::documents::{Document, Form, Tally, Writer};
use super::learner::{Gallery, Learner, Parts, weights};
use super::recipe::{Recipe, What};
use super::step::{AdamW, Gradients, schedule};
use super::trials;
use super::words::{Words, tokenizer_json};
use super::{PREPROCESSOR, read, write};
use crate::world::{Sizes, Sort, Split};

/// Pictures that are held out, to measure on the way.
const UNSEEN: Sizes = Sizes {
    singles: 800,
    pairs: 200,
    several: 200,
    placed: 100,
};

/// A run and the folder it keeps itself in.
pub struct Run {
    folder: PathBuf,
    recipe: Recipe,
    learner: Learner,
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
        Ok(Recipe::flamingo(seed, steps, (lm, vision), tokens))
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
        let (learner, parameters) = Learner::new(words, &recipe.what, &source)?;
        let gallery = |split, seed, pictures: Sizes| -> Result<Gallery> {
            let name = format!("features-{split:?}.f16").to_lowercase();
            learner.gallery(split, seed, pictures, Some(&folder.join(name)))
        };
        Ok(Self {
            folder: folder.to_owned(),
            gallery: gallery(Split::Train, recipe.seed, recipe.pictures)?,
            unseen: gallery(Split::HeldOut, recipe.seed + 1, UNSEEN)?,
            recipe,
            learner,
            parameters,
            optimizer,
            tally: Tally::default(),
        })
    }

    /// The weighted loss of a batch, and what was foreseen of it.
    fn loss(&self, documents: &[Document], form: Form, tally: &mut Tally) -> Result<Array> {
        let x = self.learner.forward(documents, &self.gallery)?;
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
            words: &self.learner.words,
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
        let log = read(&self.folder.join("loss.csv"))?;
        write(&out.join("loss.svg"), card::plot(&log, "weighted loss"))?;
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
