//! What the page knows. All of it is plain data in signals; the pictures' bytes
//! lie in [`super::client`].

use std::collections::BTreeMap;

use leptos::prelude::*;

use super::chat::Chat;
use crate::protocol::{
    Checked, Device, Loaded, Offer, PictureId, Place, Scores, Storage, Timings, ToPack,
};

/// How far a picture is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Status {
    /// It waits, or is being computed.
    Busy,
    /// Its scores, by the labels they are of.
    Ready {
        labels: Vec<String>,
        scores: Scores,
        timings: Timings,
    },
    /// Why not, and what to do.
    Failed(String),
    /// The person did not want to wait.
    Cancelled,
}

/// A picture on the page.
#[derive(Clone, PartialEq)]
pub(super) struct Picture {
    pub(super) id: PictureId,
    pub(super) name: String,
    /// An object URL; the drawing pad gives a new one as one draws.
    pub(super) url: RwSignal<String>,
    pub(super) status: RwSignal<Status>,
}

/// What the page is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Pictures and labels.
    Classify,
    /// Pictures and words in turn.
    Chat,
}

/// The model of a job, and what it says of itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Model<T = Loaded> {
    /// The part of its weights that is read, 0 to 1.
    Loading(f64),
    Ready(T),
    Failed(String),
    /// It was ready and the device is gone.
    Lost(String),
}

/// Whether this device computes what it should.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Check {
    Not,
    Running,
    Done {
        /// All is as it should be.
        right: bool,
        /// The outcome in words.
        said: String,
        /// The model, and what computed.
        of: String,
        checked: Checked,
    },
}

/// How many pictures are shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum View {
    Cards,
    Matrix,
}

/// The store.
#[derive(Clone, Copy)]
pub(super) struct Store {
    pub(super) job: RwSignal<Job>,
    pub(super) chat: Chat,
    pub(super) model: RwSignal<Model>,
    pub(super) device: RwSignal<Device>,
    pub(super) pictures: RwSignal<Vec<Picture>>,
    /// File names of the sample drawings.
    pub(super) samples: RwSignal<Vec<String>>,
    pub(super) labels: RwSignal<Vec<String>>,
    pub(super) templates: RwSignal<Vec<String>>,
    /// Use every template and average; else the first alone.
    pub(super) ensemble: RwSignal<bool>,
    /// Lowest cosine that counts as a fit.
    pub(super) threshold: RwSignal<f32>,
    /// The person set the threshold: a new model does not move it.
    pub(super) threshold_set: RwSignal<bool>,
    pub(super) view: RwSignal<View>,
    /// The picture that is shown large.
    pub(super) open: RwSignal<Option<PictureId>>,
    /// Told to those who do not see the page.
    pub(super) announcement: RwSignal<String>,
    /// Something went wrong that is not about one picture.
    pub(super) error: RwSignal<Option<String>>,
    /// Outcome of a self-test or measurement.
    pub(super) report: RwSignal<String>,
    /// The models of the library.
    pub(super) offers: RwSignal<Vec<Offer>>,
    /// What is published in parts.
    pub(super) to_pack: RwSignal<Vec<ToPack>>,
    /// Where each of them is, by its id.
    pub(super) places: RwSignal<BTreeMap<String, Place>>,
    pub(super) storage: RwSignal<Storage>,
    /// What went wrong in the library as a whole.
    pub(super) library_error: RwSignal<Option<String>>,
    pub(super) check: RwSignal<Check>,
}

/// Cosines of pictures that show none of the labels stay below this with the
/// demo model, and with published CLIPs, whose two towers lie further apart.
pub(super) const DEMO_THRESHOLD: f32 = 0.75;
/// See [`DEMO_THRESHOLD`].
pub(super) const CLIP_THRESHOLD: f32 = 0.2;

/// The labels a new page begins with: what is in the sample drawings.
const FIRST_LABELS: &[&str] = &[
    "cat", "house", "fish", "tree", "star", "umbrella", "rocket", "bird",
];

/// Templates for drawings, as for photographs in CLIP's notebooks.
pub(super) const DRAWING_TEMPLATES: &[&str] = &[
    "a {}",
    "a drawing of a {}",
    "a sketch of a {}",
    "this is a {}",
];
/// The seven that CLIP's authors chose from eighty, for photographs.
pub(super) const PHOTO_TEMPLATES: &[&str] = &[
    "a photo of a {}",
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
];

pub(super) fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

impl Store {
    pub(super) fn new() -> Self {
        Self {
            job: RwSignal::new(Job::Classify),
            chat: Chat::new(),
            model: RwSignal::new(Model::Loading(0.0)),
            device: RwSignal::new(Device::Best),
            pictures: RwSignal::new(Vec::new()),
            samples: RwSignal::new(Vec::new()),
            labels: RwSignal::new(owned(FIRST_LABELS)),
            templates: RwSignal::new(owned(DRAWING_TEMPLATES)),
            ensemble: RwSignal::new(true),
            threshold: RwSignal::new(DEMO_THRESHOLD),
            threshold_set: RwSignal::new(false),
            view: RwSignal::new(View::Cards),
            open: RwSignal::new(None),
            announcement: RwSignal::new(String::new()),
            error: RwSignal::new(None),
            report: RwSignal::new(String::new()),
            offers: RwSignal::default(),
            to_pack: RwSignal::default(),
            places: RwSignal::default(),
            storage: RwSignal::default(),
            library_error: RwSignal::new(None),
            check: RwSignal::new(Check::Not),
        }
    }

    pub(super) fn picture(&self, id: PictureId) -> Option<Picture> {
        self.pictures
            .with_untracked(|all| all.iter().find(|picture| picture.id == id).cloned())
    }

    /// Templates that are in use.
    pub(super) fn used_templates(&self) -> Vec<String> {
        let templates = self.templates.get();
        match (self.ensemble.get(), templates.first()) {
            (false, Some(first)) => vec![first.clone()],
            _ => templates,
        }
    }

    /// `(done, all)` of the pictures.
    pub(super) fn progress(&self) -> (usize, usize) {
        self.pictures.with(|all| {
            let done = all.iter().filter(|p| p.status.get() != Status::Busy);
            (done.count(), all.len())
        })
    }

    /// Adds labels, leaving out what is there and what is empty.
    pub(super) fn add_labels(&self, words: impl IntoIterator<Item = String>) {
        self.labels.update(|labels| {
            for word in words {
                let word = word.trim().to_owned();
                if !word.is_empty() && !labels.contains(&word) {
                    labels.push(word);
                }
            }
        });
    }
}

pub(super) fn store() -> Store {
    expect_context::<Store>()
}

/// The labels of one picture with their scores, best first.
pub(super) fn ranked(labels: &[String], scores: &Scores) -> Vec<(String, f32, f32)> {
    let numbers = scores.cosine.iter().zip(&scores.probability);
    let mut rows: Vec<_> = labels
        .iter()
        .zip(numbers)
        .map(|(label, (&cosine, &probability))| (label.clone(), cosine, probability))
        .collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    rows
}
