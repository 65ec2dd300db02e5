//! What the small language model and the Flamingo on it are, and what they are
//! shown when.

use plume_core::backend::Activation;
use plume_core::config::VisionConfig;
use plume_core::config::flamingo::{
    FlamingoConfig, Gate, ResamplerConfig, ResamplerKind, VisionFeatures, XattnConfig, XattnKind,
};
use plume_core::config::language::{LmConfig, NormKind, Positions};
use serde::{Deserialize, Serialize};

use super::base::Base;
use super::datasets::{Dataset, Kind};
use super::documents::Form;
use super::pages::Pages;
use super::step::{AdamWConfig, Schedule};
use crate::world::{Sizes, Sort, Subject};

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
    /// How the rate goes after it.
    pub schedule: Schedule,
    /// The optimiser.
    pub optimizer: AdamWConfig,
    /// Gates learn so many times faster.
    pub gates: f64,
    /// What is shown when.
    pub phases: Vec<Phase>,
    /// Documents of one's own: a step takes a batch of each.
    pub pages: Vec<Pages>,
    /// Documents of such a batch.
    pub page_batch: usize,
    /// A step takes one batch in turn, instead of one of each (Table 3, ii).
    pub round_robin: bool,
    /// How often the words of a document see the next picture instead of the
    /// last (App. A.3.2).
    pub p_next: f64,
    /// How many pictures there are.
    pub pictures: Sizes,
    /// Those that are held out, to measure on the way.
    pub unseen: Sizes,
    /// The sizes.
    pub what: What,
    /// What it is built on.
    pub base: Base,
}

const UNSEEN: Sizes = Sizes {
    singles: 800,
    pairs: 200,
    several: 200,
    placed: 100,
};

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
            schedule: Schedule::Cosine,
            optimizer: optimizer(1.5e-3),
            gates: 1.0,
            phases: keys_first(),
            pages: Vec::new(),
            page_batch: 0,
            round_robin: false,
            p_next: 0.0,
            pictures: Sizes {
                singles: 20_000,
                pairs: 10_000,
                several: 6_000,
                placed: 4_000,
            },
            unseen: UNSEEN,
            what: What::Lm(lm),
            base: Base::default(),
        }
    }

    /// What makes a Flamingo of its parts, on the world of drawings.
    pub fn flamingo(seed: u64, steps: usize, config: FlamingoConfig, base: Base) -> Self {
        Self {
            seed,
            steps,
            warm_up: 40,
            schedule: Schedule::Cosine,
            optimizer: optimizer(1.5e-3),
            gates: 10.0,
            phases: captions_first(),
            pages: Vec::new(),
            page_batch: 8,
            round_robin: false,
            p_next: 0.0,
            // With a quarter as many, captions of those that are trained on came out a
            // tenth better than of others.
            pictures: Sizes {
                singles: 40_000,
                pairs: 40_000,
                several: 16_000,
                placed: 1_500,
            },
            unseen: UNSEEN,
            what: What::Flamingo(config),
            base,
        }
    }

    /// The same with as many batches as a recipe without round robin has, where
    /// a step takes several.
    pub(super) fn with_as_many_batches(self) -> Self {
        let sets = self.datasets(self.steps).len() + self.pages.len();
        let steps = if self.round_robin {
            self.steps * sets
        } else {
            self.steps
        };
        Self { steps, ..self }
    }

    /// The same with batches that are smaller by this factor.
    pub(super) fn with_batches_of(mut self, share: f64) -> Self {
        let sets = self.phases.iter_mut().flat_map(|phase| &mut phase.datasets);
        for set in sets {
            set.batch = (set.batch as f64 * share).ceil() as usize;
        }
        self
    }

    /// The same without the drawings, where there are pages.
    pub fn without_drawings(self) -> Self {
        let none = Sizes {
            singles: 0,
            pairs: 0,
            several: 0,
            placed: 0,
        };
        Self {
            phases: Vec::new(),
            pictures: none,
            unseen: none,
            ..self
        }
    }

    /// The drawings' documents of a step: the last phase ends with the run.
    pub(super) fn datasets(&self, step: usize) -> &[Dataset] {
        let done = step as f64 / self.steps.max(1) as f64;
        let current = self.phases.iter().find(|phase| done < phase.until);
        match current.or(self.phases.last()) {
            Some(phase) => &phase.datasets,
            None => &[],
        }
    }
}

/// The demo Flamingo, for this language model and this CLIP's tower.
pub(super) fn demo_flamingo(
    (lm, vision): (LmConfig, VisionConfig),
    (image_token, end_of_chunk): (u32, u32),
) -> FlamingoConfig {
    FlamingoConfig {
        vision: without_last_block(vision),
        features: VisionFeatures {
            class_token: false,
            ln_post: true,
        },
        resampler: ResamplerConfig {
            // The tower's 64 features are few: there is nothing to condense, and
            // each keeps its place.
            kind: ResamplerKind::Transformer,
            depth: 4,
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
            layers: XattnConfig::every(1, lm.layers),
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
        end_of_sight: None,
    }
}

/// The tower as it is read: of two things contrastive training needs the second
/// to tell pictures apart, and its last block forgets the first (`ARCHITECTURE`).
fn without_last_block(mut vision: VisionConfig) -> VisionConfig {
    if let VisionConfig::Vit(vit) = &mut vision {
        vit.transformer.layers = (vit.transformer.layers - 1).max(1);
    }
    vision
}

/// The kinds, those by both most often and those by colour more often than by
/// thing: they are learned last.
const SORTS: [(Sort, f32); 3] = [
    (Sort::ThingAndColour, 0.3),
    (Sort::Thing, 0.35),
    (Sort::Colour, 0.35),
];

/// What is asked of a picture, or that it is to be told: what takes longest to
/// learn most often.
const SUBJECTS: [(Option<Subject>, f32); 8] = [
    (None, 0.17),
    (Some(Subject::Size), 0.04),
    (Some(Subject::Colour), 0.08),
    (Some(Subject::Thing), 0.08),
    (Some(Subject::Count), 0.04),
    (Some(Subject::Relation), 0.21),
    (Some(Subject::YesNo), 0.21),
    (Some(Subject::Comparison), 0.17),
];

/// The same once where things lie is learned: more captions.
const CAPTIONS_MOST: [(Option<Subject>, f32); 8] = [
    (None, 0.45),
    (Some(Subject::Size), 0.02),
    (Some(Subject::Colour), 0.08),
    (Some(Subject::Thing), 0.1),
    (Some(Subject::Count), 0.03),
    (Some(Subject::Relation), 0.08),
    (Some(Subject::YesNo), 0.12),
    (Some(Subject::Comparison), 0.12),
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
            subjects: Vec::new(),
            pictures: pictures.to_vec(),
            batch: 90,
            again: 0.0,
            weight: 1.0,
        };
        let told = Dataset {
            kind: Kind::Told,
            forms: vec![(Caption, 0.3), (Described, 0.7)],
            mixed: 0.0,
            sorts: Vec::new(),
            subjects: SUBJECTS.to_vec(),
            pictures: vec![(4, 1.0), (7, 1.0)],
            batch: 56,
            again: 0.0,
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

/// The curriculum of what lets it see: captions and answers first, names beside
/// them; then more of the former, for where things lie is learned slowly; in the
/// second half what is learned last: captions, and kinds by thing or colour
/// alone.
fn captions_first() -> Vec<Phase> {
    let named = Dataset {
        kind: Kind::Named,
        forms: vec![(Form::Picture, 1.0)],
        mixed: 0.0,
        sorts: SORTS.to_vec(),
        subjects: Vec::new(),
        pictures: vec![(9, 0.7), (12, 0.2), (17, 0.1)],
        batch: 90,
        again: 0.5,
        weight: 1.0,
    };
    let told = Dataset {
        kind: Kind::Told,
        forms: vec![(Form::Picture, 1.0)],
        mixed: 0.0,
        sorts: Vec::new(),
        subjects: SUBJECTS.to_vec(),
        pictures: vec![(4, 0.6), (7, 0.3), (2, 0.6), (1, 0.3)],
        batch: 96,
        again: 0.7,
        weight: 1.0,
    };
    let names_last = vec![
        (Sort::ThingAndColour, 0.16),
        (Sort::Thing, 0.42),
        (Sort::Colour, 0.42),
    ];
    vec![
        Phase {
            until: 0.025,
            datasets: vec![told.clone(), told.clone()],
        },
        Phase {
            until: 0.25,
            datasets: vec![named.clone(), told.clone()],
        },
        Phase {
            until: 0.5,
            datasets: vec![
                Dataset {
                    batch: 63,
                    ..named.clone()
                },
                Dataset {
                    batch: 128,
                    ..told.clone()
                },
            ],
        },
        Phase {
            until: 1.0,
            datasets: vec![
                Dataset {
                    sorts: names_last,
                    ..named
                },
                Dataset {
                    subjects: CAPTIONS_MOST.to_vec(),
                    batch: 112,
                    ..told
                },
            ],
        },
    ]
}
