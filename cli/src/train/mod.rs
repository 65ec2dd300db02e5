//! Training CLIP from scratch on the world of drawings.

pub mod ablations;
pub mod base;
pub mod batch;
pub mod card;
pub mod datasets;
pub mod design;
pub mod documents;
pub mod eval;
mod keep;
pub mod language;
pub mod learner;
pub mod pages;
mod pictures;
pub mod recipe;
pub mod report;
pub mod step;
pub mod tally;
pub mod tokenizer;
pub mod trials;
pub mod words;

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};
use indicatif::{ProgressBar, ProgressStyle};
use plume_core::backend::Activation;
use plume_core::checkpoint::{Init, Source};
use plume_core::config::{
    ClipConfig, ConvConfig, Scoring, StemConfig, TextConfig, TextPool, TransformerConfig,
    VisionConfig, VisionPool, VitConfig,
};
use plume_core::cpu::{Candle, Parameters};
use plume_core::image::Preprocess;
use plume_core::models::clip::Clip;
use plume_core::tasks::classify::Classifier;
use plume_core::tokens::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::world::{Sampler, Split, Telling, caption};
use batch::{Batch, Batches, Mix, Phase};
use keep::State;
use step::{AdamW, AdamWConfig, gradients, schedule};

/// Everything that decides a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recipe {
    /// Decides weights, pictures and captions.
    pub seed: u64,
    /// Steps of the schedule.
    pub steps: usize,
    /// Steps until the peak rate.
    pub warm_up: usize,
    /// What is shown when.
    pub phases: Vec<Phase>,
    /// The optimiser.
    pub optimizer: AdamWConfig,
    /// Merges of the tokenizer.
    pub merges: usize,
    /// The sizes of the model; the vocabulary becomes the tokenizer's.
    #[serde(default = "demo_model")]
    pub model: ClipConfig,
}

impl Recipe {
    /// The demo model's.
    pub fn demo(seed: u64, steps: usize) -> Self {
        Self {
            seed,
            steps,
            warm_up: 150,
            phases: curriculum(),
            optimizer: AdamWConfig {
                rate: 1.5e-3,
                beta_1: 0.9,
                beta_2: 0.98,
                epsilon: 1e-6,
                decay: 0.02,
                clip: 1.0,
            },
            merges: 700,
            model: demo_model(),
        }
    }

    /// The part of the curriculum that a step belongs to.
    fn phase(&self, step: usize) -> Phase {
        let done = step as f64 / self.steps.max(1) as f64;
        let current = self.phases.iter().find(|phase| done < phase.until);
        // A recipe has phases, and the last ends with the run.
        *current.unwrap_or(&self.phases[self.phases.len() - 1])
    }
}

/// Things first; then two things beside each other, told in the same words
/// from the same side, so that the order of the words alone says which stands
/// where; then in any words. Without the middle part the last one is never
/// learned: which noun stands where depends there on the noun, its place in the
/// sentence and the word between, and no two of the three help.
fn curriculum() -> Vec<Phase> {
    let things = Mix {
        groups: 2,
        one_colour: 36,
        any_colour: 8,
        placed: 6,
        pairs: 10,
        several: 16,
    };
    let all = Mix {
        groups: 1,
        one_colour: 38,
        any_colour: 10,
        placed: 6,
        pairs: 28,
        several: 12,
    };
    let phase = |until, mix, telling| Phase {
        until,
        mix,
        telling,
    };
    vec![
        phase(0.2, things, Telling::Plain),
        phase(0.45, all, Telling::Plain),
        phase(1.0, all, Telling::Varied),
    ]
}

/// The sizes of the demo model.
fn demo_model() -> ClipConfig {
    let transformer = |layers| TransformerConfig {
        width: 128,
        layers,
        heads: 4,
        mlp_width: 512,
        activation: Activation::Gelu,
        layer_norm_eps: 1e-5,
    };
    let conv = |channels, stride| ConvConfig { channels, stride };
    ClipConfig {
        embed_dim: 128,
        vision: Some(VisionConfig::Vit(VitConfig {
            image_size: 64,
            stem: StemConfig::Conv {
                convs: vec![conv(24, 2), conv(48, 2), conv(96, 2), conv(96, 1)],
            },
            transformer: transformer(2),
            pool: VisionPool::Cells { side: 4 },
            ln_pre: true,
        })),
        text: Some(TextConfig {
            context: 32,
            vocab_size: 0,
            transformer: transformer(2),
            causal: false,
            pool: TextPool::Eot,
            proj_bias: false,
        }),
        scoring: Scoring::Softmax,
    }
}

/// The preparation that goes with the demo model.
const PREPROCESSOR: &str = r#"{
  "do_resize": true,
  "size": {"shortest_edge": 64},
  "resample": 3,
  "do_center_crop": true,
  "crop_size": {"height": 64, "width": 64},
  "do_rescale": true,
  "rescale_factor": 0.00392156862745098,
  "do_normalize": true,
  "image_mean": [0.5, 0.5, 0.5],
  "image_std": [0.5, 0.5, 0.5],
  "do_convert_rgb": true
}
"#;

/// A run and the folder it keeps itself in.
pub struct Run {
    folder: PathBuf,
    recipe: Recipe,
    config: ClipConfig,
    tokenizer_json: String,
    clip: Clip<Candle>,
    parameters: Parameters,
    optimizer: AdamW,
    /// Spent before.
    seconds: f64,
    /// Pictures of each kind in the figures that are taken on the way.
    pub figures: usize,
}

/// Pictures of each kind in [`Run::figures`], unless set.
const FIGURES: usize = 200;

fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn model_on(config: &ClipConfig, source: &dyn Source) -> Result<(Clip<Candle>, Parameters)> {
    let (device, parameters) = Candle::training();
    Ok((Clip::load(&device, config, source)?, parameters))
}

impl Run {
    /// Begins anew.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn begin(folder: &Path, recipe: Recipe) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut sampler = Sampler::new(Split::Train, recipe.seed);
        let captions = (0..40_000).map(|i| {
            let scene = match i % 3 {
                0 => sampler.one(None),
                1 => sampler.pair(),
                _ => sampler.several(),
            };
            caption(&scene, false, Telling::Varied, sampler.rng())
        });
        let tokenizer_json = tokenizer::train(captions, recipe.merges)?;
        let vocab_size = Tokenizer::from_json(tokenizer_json.as_bytes(), 32)?.vocab_size();
        let mut config = recipe.model.clone();
        let text = config.text.as_mut();
        text.context("the recipe's model has no text tower")?
            .vocab_size = vocab_size;
        let init = Init::new(config.clone(), recipe.seed);
        let (clip, parameters) = model_on(&config, &init)?;
        write(
            &folder.join("config.json"),
            serde_json::to_string_pretty(&config.to_json())? + "\n",
        )?;
        write(&folder.join("tokenizer.json"), &tokenizer_json)?;
        write(&folder.join("preprocessor_config.json"), PREPROCESSOR)?;
        write(
            &folder.join("loss.csv"),
            "step,seconds,rate,loss,scale,norm\n",
        )?;
        Ok(Self {
            folder: folder.to_owned(),
            recipe,
            config,
            tokenizer_json,
            clip,
            parameters,
            optimizer: AdamW::new(),
            seconds: 0.0,
            figures: FIGURES,
        })
    }

    /// Goes on where a run in this folder stopped, on a schedule of `steps`.
    ///
    /// # Errors
    /// Where the folder holds no run.
    pub fn resume(folder: &Path, steps: usize) -> Result<Self> {
        let kept = keep::kept::<Recipe>(folder)?;
        let config = plume_core::checkpoint::clip_config(&read(&folder.join("config.json"))?)?;
        let (clip, parameters) = model_on(&config, &kept.weights)?;
        Ok(Self {
            folder: folder.to_owned(),
            recipe: Recipe {
                steps,
                ..kept.state.recipe
            },
            config,
            tokenizer_json: read(&folder.join("tokenizer.json"))?,
            clip,
            parameters,
            optimizer: kept.optimizer,
            seconds: kept.state.seconds,
            figures: FIGURES,
        })
    }

    fn tokenizer(&self) -> Result<Tokenizer> {
        let context = self.config.text()?.context;
        Ok(Tokenizer::from_json(
            self.tokenizer_json.as_bytes(),
            context,
        )?)
    }

    fn preprocess(&self) -> Result<Preprocess> {
        Ok(Preprocess::from_json(
            PREPROCESSOR,
            self.config.vision()?.image_size(),
        )?)
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
        let (tokenizer, preprocess) = (self.tokenizer()?, self.preprocess()?);
        let recipe = self.recipe.clone();
        let (seed, steps) = (recipe.seed, recipe.steps);
        let first = self.optimizer.step;
        let bar = ProgressBar::new(steps as u64).with_position(first as u64);
        bar.set_style(ProgressStyle::with_template(
            "{pos}/{len} steps {wide_bar} {msg} {elapsed}/{eta}",
        )?);
        // Batches are drawn one ahead of the step that uses them.
        std::thread::scope(|scope| -> Result<()> {
            let (send, receive) = std::sync::mpsc::sync_channel::<Result<Batch>>(3);
            let (tokenizer, preprocess, recipe) = (&tokenizer, &preprocess, &recipe);
            scope.spawn(move || {
                for step in first..last {
                    let phase = recipe.phase(step);
                    let batch = Batches::at(seed, step, phase, tokenizer, preprocess).draw();
                    if send.send(batch).is_err() {
                        return;
                    }
                }
            });
            for batch in receive {
                let loss = self.step(&batch?)?;
                self.seconds = before + start.elapsed().as_secs_f64();
                bar.set_position(self.optimizer.step as u64);
                bar.set_message(format!("loss {loss:.3}"));
                if self.optimizer.step.is_multiple_of(200) || self.optimizer.step == last {
                    self.keep()?;
                    self.measure(self.figures)?;
                }
            }
            Ok(())
        })?;
        bar.finish();
        Ok(())
    }

    fn step(&mut self, batch: &Batch) -> Result<f32> {
        let (recipe, seconds) = (&self.recipe, self.seconds);
        let step = self.optimizer.step;
        let rate = schedule(step, recipe.steps, recipe.warm_up, recipe.optimizer.rate);
        let parameters = self.parameters.all();
        let (loss, gradients) = gradients(&self.clip, &parameters, batch)?;
        let norm = self
            .optimizer
            .update(&parameters, &gradients, &recipe.optimizer, rate)?;
        let scale = self.clip.logit_scale.as_ref();
        let scale = scale.context("the model has no logit_scale")?;
        let scale: f32 = scale.buffer().exp()?.to_vec1::<f32>()?[0];
        let mut log = fs::OpenOptions::new()
            .append(true)
            .open(self.folder.join("loss.csv"))?;
        writeln!(
            log,
            "{},{seconds:.1},{rate:.3e},{loss:.4},{scale:.2},{norm:.3}",
            step + 1
        )?;
        Ok(loss)
    }

    fn keep(&self) -> Result<()> {
        let state = State {
            step: self.optimizer.step,
            seconds: self.seconds,
            recipe: self.recipe.clone(),
        };
        keep::keep(&self.folder, &state, &self.parameters, &self.optimizer)
    }

    /// The model as a file has it, for use.
    fn classifier(&self, weights: &Path) -> Result<Classifier<Candle>> {
        let clip = Clip::load(&Candle::new(), &self.config, &base::weights(weights)?)?;
        Ok(Classifier::new(
            clip,
            self.tokenizer()?,
            self.preprocess()?,
        )?)
    }

    /// Appends the figures of now to `figures.jsonl`.
    fn measure(&self, n: usize) -> Result<()> {
        let mut classifier = self.classifier(&keep::file(&self.folder))?;
        let step = self.optimizer.step;
        let seen = eval::figures(&mut classifier, Split::Train, n)?;
        let held_out = eval::figures(&mut classifier, Split::HeldOut, n)?;
        let line = serde_json::json!({"step": step, "seen": seen, "held_out": held_out});
        let path = self.folder.join("figures.jsonl");
        let mut log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)?;
        writeln!(log, "{line}")?;
        Ok(())
    }

    /// Writes the finished model, in f16, with its card and its curve.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn publish(&self, out: &Path, command: &str) -> Result<()> {
        fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let halves: HashMap<String, Tensor> = self
            .parameters
            .all()
            .into_iter()
            .map(|(name, var)| {
                let matrix = var.dims().len() == 2 && !name.ends_with("positional_embedding");
                let kind = if matrix { DType::F16 } else { DType::F32 };
                Ok((name, var.to_dtype(kind)?))
            })
            .collect::<Result<_>>()?;
        candle_core::safetensors::save(&halves, out.join("model.safetensors"))?;
        for name in ["config.json", "tokenizer.json", "preprocessor_config.json"] {
            fs::copy(self.folder.join(name), out.join(name))?;
        }
        let log = read(&self.folder.join("loss.csv"))?;
        write(&out.join("loss.svg"), card::plot(&log, "contrastive loss"))?;
        // What is told is what is shipped.
        let mut classifier = self.classifier(&out.join("model.safetensors"))?;
        let seen = eval::figures(&mut classifier, Split::Train, 1000)?;
        let held_out = eval::figures(&mut classifier, Split::HeldOut, 1000)?;
        let text = card::card(
            &self.recipe,
            &self.config,
            self.seconds,
            &seen,
            &held_out,
            command,
        )?;
        write(&out.join("README.md"), text)
    }
}
