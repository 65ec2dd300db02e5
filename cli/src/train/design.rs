//! What of a Flamingo and of its training may be chosen: the choices that the
//! paper compares (Tables 3 and 10).

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Parser as _;
use plume_core::config::flamingo::{FlamingoConfig, Gate, ResamplerKind, XattnKind};
use serde::de::DeserializeOwned;

use super::base::{Base, Part};
use super::recipe::Recipe;
use super::step::Schedule;

/// What makes visual tokens of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Resampling {
    /// Latents that attend to the features.
    Perceiver,
    /// Features that attend to one another.
    Transformer,
    /// Each feature by itself.
    Mlp,
}

/// Latents of the paper's Perceiver.
const LATENTS: usize = 64;

/// How a Flamingo differs from the demo's.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct Design {
    /// Cross-attention before blocks of the language model (gated), or within
    /// them and without gates (vanilla).
    #[arg(long, value_name = "KIND", value_parser = named::<XattnKind>, conflicts_with = "from")]
    xattn: Option<XattnKind>,
    /// What opens cross-attention: scalar, vector or none.
    #[arg(long, value_name = "KIND", value_parser = named::<Gate>, conflicts_with = "from")]
    gate: Option<Gate>,
    /// The blocks of the language model that have cross-attention, from 0.
    #[arg(
        long,
        value_name = "0,2,…",
        value_delimiter = ',',
        conflicts_with = "from"
    )]
    layers: Vec<usize>,
    /// So many new blocks at the end of the language model, and cross-attention
    /// before these alone.
    #[arg(long, value_name = "N", conflicts_with_all = ["layers", "from"])]
    graft: Option<usize>,
    /// What makes visual tokens of features.
    #[arg(long, value_enum, value_name = "KIND", conflicts_with = "from")]
    resampler: Option<Resampling>,
    /// Visual tokens that a Perceiver makes of each picture [default: 64].
    #[arg(long, value_name = "N", conflicts_with = "from")]
    latents: Option<usize>,
    /// Layers of the resampler.
    #[arg(long, value_name = "N", conflicts_with = "from")]
    resampler_depth: Option<usize>,
    /// Words see all pictures before them, not the last alone.
    #[arg(long, conflicts_with = "from")]
    all_previous: bool,
    /// Train this too: the language model, or the image tower.
    #[arg(long, value_enum, value_name = "PART", value_delimiter = ',')]
    unfreeze: Vec<Part>,
    /// Train this from nothing.
    #[arg(long, value_enum, value_name = "PART", value_delimiter = ',')]
    random: Vec<Part>,
    /// Each step learns from one data set in turn, instead of from all.
    #[arg(long)]
    round_robin: bool,
    /// How the learning rate goes after the warm-up.
    #[arg(long, value_enum)]
    schedule: Option<Schedule>,
    /// Gates learn so many times faster than all else.
    #[arg(long, value_name = "N")]
    gate_rate: Option<f64>,
    /// How often the words of a document see the next picture instead of the
    /// last.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    p_next: f64,
}

/// A choice by its name in a configuration.
fn named<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

/// Switches by themselves.
#[derive(clap::Parser)]
struct Typed {
    #[command(flatten)]
    design: Design,
    /// A model that is trained on: some switches do not go with one.
    #[arg(long)]
    from: Option<PathBuf>,
}

impl Design {
    /// The choices as they are typed.
    ///
    /// # Errors
    /// Where a switch is not known, or does not go with another.
    pub fn typed(switches: &str) -> Result<Self> {
        let words = std::iter::once("").chain(switches.split_whitespace());
        let Typed { design, from } = Typed::try_parse_from(words)?;
        ensure!(from.is_none(), "a model to train on is chosen elsewhere");
        Ok(design)
    }

    /// What of the base is trained.
    pub fn base(&self, base: Base) -> Base {
        Base {
            unfrozen: self.unfreeze.clone(),
            random: self.random.clone(),
            ..base
        }
    }

    /// The demo's recipe, or that of the model that is trained on, with the
    /// choices made.
    ///
    /// # Errors
    /// Where they make no model, or what it is built on lacks a file.
    pub fn recipe(&self, base: Base, seed: u64, steps: usize) -> Result<Recipe> {
        ensure!(
            (0.0..=1.0).contains(&self.p_next),
            "--p-next should be 0 to 1, got {}",
            self.p_next
        );
        ensure!(
            self.latents.is_none()
                || self
                    .resampler
                    .is_none_or(|kind| kind == Resampling::Perceiver),
            "--latents are those of a Perceiver: leave out --latents or the other --resampler"
        );
        let base = self.base(base);
        let mut config = base.flamingo()?;
        self.shape(&mut config);
        config.check()?;
        let demo = Recipe::flamingo(seed, steps, config, base);
        Ok(Recipe {
            round_robin: self.round_robin,
            schedule: self.schedule.unwrap_or_default(),
            p_next: self.p_next,
            gates: self.gate_rate.unwrap_or(demo.gates),
            ..demo
        })
    }

    fn shape(&self, config: &mut FlamingoConfig) {
        let xattn = &mut config.xattn;
        xattn.kind = self.xattn.unwrap_or(xattn.kind);
        xattn.gate = self.gate.unwrap_or(xattn.gate);
        xattn.all_previous |= self.all_previous;
        if !self.layers.is_empty() {
            xattn.layers.clone_from(&self.layers);
        }
        if let Some(new) = self.graft {
            let before = config.lm.layers;
            config.lm.layers += new;
            xattn.layers = (before..before + new).collect();
        }
        let resampler = &mut config.resampler;
        resampler.depth = self.resampler_depth.unwrap_or(resampler.depth);
        let latents = self.latents.unwrap_or(LATENTS);
        let perceiver = self.latents.map(|_| Resampling::Perceiver);
        resampler.kind = match self.resampler.or(perceiver) {
            None => resampler.kind,
            Some(Resampling::Perceiver) => ResamplerKind::Perceiver { latents },
            Some(Resampling::Transformer) => ResamplerKind::Transformer,
            Some(Resampling::Mlp) => ResamplerKind::Mlp,
        };
    }
}
