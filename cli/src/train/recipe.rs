//! What the small language model and the Flamingo on it are, and what they are
//! shown when.

use plume_core::backend::Activation;
use plume_core::config::VisionConfig;
use plume_core::config::flamingo::{
    FlamingoConfig, Gate, ResamplerConfig, ResamplerKind, VisionFeatures, XattnConfig, XattnKind,
};
use plume_core::config::language::{LmConfig, NormKind, Positions};
use serde::{Deserialize, Serialize};

use super::documents::{Dataset, Form, Kind};
use super::step::AdamWConfig;
use crate::world::{Sizes, Sort};

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
    /// How many pictures there are.
    pub pictures: Sizes,
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
            pictures: Sizes {
                singles: 20_000,
                pairs: 10_000,
                several: 6_000,
                placed: 4_000,
            },
            what: What::Lm(lm),
        }
    }

    /// The demo Flamingo, for this language model and this CLIP's tower.
    pub fn flamingo(
        seed: u64,
        steps: usize,
        (lm, vision): (LmConfig, VisionConfig),
        (image_token, end_of_chunk): (u32, u32),
    ) -> Self {
        let layers = lm.layers;
        let what = FlamingoConfig {
            vision,
            features: VisionFeatures {
                class_token: false,
                ln_post: true,
            },
            resampler: ResamplerConfig {
                kind: ResamplerKind::Perceiver { latents: 16 },
                depth: 2,
                heads: 4,
                head_dim: 32,
                mlp_width: 512,
                activation: Activation::Gelu,
                time_embeddings: 0,
                qk_norm: false,
                norm_eps: 1e-5,
            },
            xattn: XattnConfig {
                kind: XattnKind::Gated,
                layers: XattnConfig::every(1, layers),
                heads: 4,
                head_dim: 32,
                mlp_width: 512,
                activation: Activation::Gelu,
                gated_mlp: false,
                norm: NormKind::Layer,
                norm_eps: 1e-5,
                gate: Gate::Scalar,
                qk_norm: false,
                all_previous: false,
            },
            lm,
            image_token,
            more_image_tokens: Vec::new(),
            end_of_chunk,
        };
        Self {
            seed,
            steps,
            warm_up: 40,
            optimizer: optimizer(1.5e-3),
            gates: 10.0,
            phases: captions_first(),
            pictures: Sizes {
                singles: 12_000,
                pairs: 5_000,
                several: 3_000,
                placed: 1_500,
            },
            what: What::Flamingo(what),
        }
    }

    pub(super) fn phase(&self, step: usize) -> &Phase {
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
    use Form::{Asked, Bare, Caption, Described, Laid, Marked};
    let phase = |until, forms: [f32; 6], mixed, pictures: &[(usize, f32)], told: f32| {
        let forms = [Bare, Laid, Asked, Marked, Caption, Described]
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
        phase(0.08, [0.4, 0.5, 0.1, 0.0, 0.0, 0.0], 0.0, &short, 0.3),
        phase(0.3, [0.1, 0.6, 0.15, 0.05, 0.1, 0.0], 0.3, &short, 0.6),
        phase(1.0, [0.05, 0.65, 0.05, 0.05, 0.1, 0.1], 0.3, &long, 0.9),
    ]
}

/// The curriculum of what lets it see: captions and answers first, names
/// beside them, and in the second half more of the former, which are learned
/// last.
fn captions_first() -> Vec<Phase> {
    let named = Dataset {
        kind: Kind::Named,
        forms: vec![(Form::Picture, 1.0)],
        mixed: 0.0,
        sorts: SORTS.to_vec(),
        pictures: vec![(9, 0.7), (12, 0.2), (17, 0.1)],
        batch: 90,
        weight: 1.0,
    };
    let told = Dataset {
        kind: Kind::Told,
        forms: vec![(Form::Picture, 1.0)],
        mixed: 0.0,
        sorts: Vec::new(),
        pictures: vec![(4, 0.6), (7, 0.3), (2, 0.6), (1, 0.3)],
        batch: 96,
        weight: 1.0,
    };
    vec![
        Phase {
            until: 0.05,
            datasets: vec![told.clone(), told.clone()],
        },
        Phase {
            until: 0.5,
            datasets: vec![named.clone(), told.clone()],
        },
        Phase {
            until: 1.0,
            datasets: vec![
                Dataset { batch: 63, ..named },
                Dataset { batch: 128, ..told },
            ],
        },
    ]
}
