//! A model that classifies, on a device.

use plume_core::backend::Backend;
use plume_core::config::Scoring;
use plume_core::contract::Outcome;
use plume_core::cpu::Candle;
use plume_core::gpu::Gpu;
use plume_core::image::{Preprocess, Rgb8};
use plume_core::models::clip::Clip;
use plume_core::tasks::classify::{Classifier, Labels};
use plume_core::tokens::Tokenizer;
use plume_core::{DeviceError, Error};
use serde_json::{Value, json};

use super::check::Known;
use super::device::{Choice, memory};
use super::files::{ModelFiles, Opened};
use super::now;
use crate::protocol::{Checked, Device, Loaded, Scores};

enum Model {
    Cpu(Box<Classifier<Candle>>),
    Gpu(Box<Classifier<Gpu>>),
}

/// A model, ready, and the labels it scores against.
pub(super) struct Session {
    model: Model,
    preprocess: Preprocess,
    labels: Labels,
    known: Known,
    batch: usize,
    /// The graphics processor, if that computes.
    gpu: Option<Gpu>,
}

/// Pictures that go through a model at once on the CPU: there is nothing to
/// gain and an answer to wait for.
const ON_CPU: usize = 2;
/// And on a graphics processor, if it takes as much at once.
const ON_GPU: u64 = 8;

/// Calls the same method on whichever device there is.
macro_rules! on {
    ($session:expr, $classifier:ident => $body:expr) => {
        match $session {
            Model::Cpu($classifier) => $body,
            Model::Gpu($classifier) => $body,
        }
    };
}

fn classifier<B: Backend>(backend: &B, files: Opened) -> Result<Classifier<B>, Error> {
    let Opened {
        checkpoint,
        config,
        tokenizer,
        preprocess,
        ..
    } = files;
    let context = config.text()?.context;
    let tokenizer = Tokenizer::from_json(tokenizer.as_bytes(), context)?;
    let clip = Clip::load(backend, &config, &checkpoint)?;
    Classifier::new(clip, tokenizer, preprocess)
}

/// See [`Loaded::even`].
fn even<B: Backend>(clip: &Clip<B>) -> Option<f32> {
    (clip.config().scoring == Scoring::Sigmoid).then(|| -clip.bias() / clip.scale())
}

impl Session {
    /// Puts a model on a device.
    pub(super) async fn load(device: Device, files: ModelFiles) -> Result<(Self, Loaded), Error> {
        let start = now();
        let (name, demo) = (files.name.clone(), files.demo);
        let files = files.open()?;
        let known = Known::of(&files);
        let published = files.published.as_ref().map(|about| about.file.clone());
        let picture = files.config.vision()?.picture_bytes();
        let choice = Choice::of(device).await;
        let device = choice.name();
        let Choice { gpu, note } = choice;
        let batch = gpu.as_ref().map_or(ON_CPU, |gpu| {
            (gpu.limit() / picture.max(1)).clamp(1, ON_GPU) as usize
        });
        let model = match &gpu {
            Some(gpu) => Model::Gpu(Box::new(classifier(gpu, files)?)),
            None => Model::Cpu(Box::new(classifier(&Candle::new(), files)?)),
        };
        let preprocess = on!(&model, c => c.preprocess())?.clone();
        let even = on!(&model, c => even(c.clip()));
        let loaded = Loaded {
            name,
            demo,
            gpu: gpu.is_some(),
            device,
            note,
            image_size: preprocess.size(),
            even,
            published,
            milliseconds: now() - start,
            memory: f64::from(memory()),
        };
        let labels = Labels::default();
        let session = Self {
            model,
            preprocess,
            labels,
            known,
            batch,
            gpu,
        };
        Ok((session, loaded))
    }

    /// Why its device is gone, if it is.
    pub(super) fn fault(&self) -> Option<DeviceError> {
        self.gpu.as_ref()?.check().err()
    }

    /// Pictures that go through the model at once.
    pub(super) fn batch(&self) -> usize {
        self.batch
    }

    pub(super) fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    pub(super) async fn set_labels(
        &mut self,
        labels: &[String],
        templates: &[String],
    ) -> Result<(), Error> {
        self.labels = on!(&mut self.model, c => c.labels(labels, templates).await)?;
        Ok(())
    }

    pub(super) async fn embed_images(&mut self, pixels: &[f32]) -> Result<Vec<Vec<f32>>, Error> {
        on!(&self.model, c => c.embed_images(pixels).await)
    }

    pub(super) fn scores(&self, embedding: &[f32]) -> Scores {
        let scores = on!(&self.model, c => c.scores(embedding, &self.labels));
        Scores {
            cosine: scores.cosine,
            probability: scores.probability,
        }
    }

    /// Every operation on this session's device against its reference, and the
    /// model against what is known of it: the picture is the one that something
    /// is published about.
    pub(super) async fn check(&mut self, picture: Option<&Rgb8>) -> Result<Checked, Error> {
        let outcomes = match &self.model {
            Model::Cpu(_) => plume_core::contract::run(&Candle::new(), true).await?,
            Model::Gpu(_) => plume_core::contract::run(&Gpu::new().await?, true).await?,
        };
        let failed = outcomes.iter().filter(|outcome| !outcome.passed());
        let failed = failed.map(|outcome| outcome.name.clone()).collect();
        let (findings, notes) = on!(&mut self.model, c => self.known.check(c, picture).await)?;
        Ok(Checked {
            cases: outcomes.len(),
            failed,
            findings,
            notes,
        })
    }
}

/// Every operation against its reference, on both devices, as JSON.
pub(super) async fn self_test() -> String {
    let cpu = outcomes(plume_core::contract::run(&Candle::new(), true).await);
    let gpu = match Gpu::new().await {
        Ok(gpu) => outcomes(plume_core::contract::run(&gpu, true).await),
        Err(error) => json!({ "none": error.to_string() }),
    };
    json!({ "cpu": cpu, "gpu": gpu }).to_string()
}

fn outcomes(done: Result<Vec<Outcome>, Error>) -> Value {
    match done {
        Ok(all) => {
            let failed: Vec<_> = all.iter().filter(|outcome| !outcome.passed()).collect();
            json!({ "cases": all.len(), "failed": failed })
        }
        Err(error) => json!({ "error": error.to_string() }),
    }
}
