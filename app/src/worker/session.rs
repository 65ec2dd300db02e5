//! A model on a device: the one place where the device is chosen.

use plume_core::Result;
use plume_core::backend::Backend;
use plume_core::checkpoint::{Checkpoint, Init, Layout, clip_config};
use plume_core::config::ClipConfig;
use plume_core::contract::Outcome;
use plume_core::cpu::Candle;
use plume_core::gpu::Gpu;
use plume_core::image::{Family, Preprocess};
use plume_core::models::clip::Clip;
use plume_core::tasks::classify::{Classifier, Labels};
use plume_core::tokens::{Tokenizer, Tokens};
use serde_json::{Value, json};
use wasm_bindgen::JsValue;

use super::files::ModelFiles;
use super::now;
use crate::protocol::{Device, Loaded, Scores};

enum Model {
    Cpu(Classifier<Candle>),
    Gpu(Classifier<Gpu>),
}

/// A model, ready, and the labels it scores against.
pub(super) struct Session {
    model: Model,
    labels: Labels,
}

/// Calls the same method on whichever device there is.
macro_rules! on {
    ($session:expr, $classifier:ident => $body:expr) => {
        match $session {
            Model::Cpu($classifier) => $body,
            Model::Gpu($classifier) => $body,
        }
    };
}

/// The graphics processor where it is wanted and there is one; beside it, why
/// the CPU computes where the person might wonder.
async fn choose(device: Device) -> (Option<Gpu>, Option<String>) {
    if device == Device::Cpu {
        return (None, None);
    }
    match Gpu::new().await {
        Ok(gpu) if gpu.info().software && device == Device::Best => {
            let note =
                "WebGPU is only computed in software here, which is slower than the CPU itself";
            (None, Some(note.to_owned()))
        }
        Ok(gpu) => (Some(gpu), None),
        Err(_) if device == Device::Best => (None, None),
        Err(error) => (None, Some(error.to_string())),
    }
}

fn classifier<B: Backend>(backend: &B, files: ModelFiles) -> Result<Classifier<B>> {
    let config = clip_config(&files.config)?;
    let checkpoint = Checkpoint::open(files.weights)?;
    let size = config.vision.image_size;
    let preprocess = match files.preprocessor {
        Some(json) => Preprocess::from_json(&json, size)?,
        None if checkpoint.layout() == Layout::OpenClip => Preprocess::clip(size, Family::OpenClip),
        None => Preprocess::clip(size, Family::Transformers),
    };
    let tokenizer = Tokenizer::from_json(files.tokenizer.as_bytes(), config.text.context)?;
    let clip = Clip::load(backend, &config, &checkpoint)?;
    Classifier::new(clip, tokenizer, preprocess)
}

impl Session {
    /// Puts a model on a device.
    pub(super) async fn load(device: Device, files: ModelFiles) -> Result<(Self, Loaded)> {
        let start = now();
        let (name, demo) = (files.name.clone(), files.demo);
        let (chosen, note) = choose(device).await;
        let (model, gpu, device) = match chosen {
            Some(gpu) => {
                let info = gpu.info();
                let slow = if info.software { ", in software" } else { "" };
                let device = format!("WebGPU · {}{slow}", info.name);
                (Model::Gpu(classifier(&gpu, files)?), true, device)
            }
            None => {
                let model = Model::Cpu(classifier(&Candle::new(), files)?);
                (model, false, "CPU · WebAssembly SIMD".to_owned())
            }
        };
        let image_size = on!(&model, c => c.preprocess().size());
        let loaded = Loaded {
            name,
            demo,
            gpu,
            device,
            note,
            image_size,
            milliseconds: now() - start,
        };
        let labels = Labels::default();
        Ok((Self { model, labels }, loaded))
    }

    /// Pictures that go through the model at once: few on the CPU, where
    /// there is nothing to gain and an answer to wait for.
    pub(super) fn batch(&self) -> usize {
        match self.model {
            Model::Cpu(_) => 2,
            Model::Gpu(_) => 8,
        }
    }

    pub(super) fn preprocess(&self) -> &Preprocess {
        on!(&self.model, c => c.preprocess())
    }

    pub(super) async fn set_labels(
        &mut self,
        labels: &[String],
        templates: &[String],
    ) -> Result<()> {
        self.labels = on!(&mut self.model, c => c.labels(labels, templates).await)?;
        Ok(())
    }

    pub(super) async fn embed_images(&mut self, pixels: &[f32]) -> Result<Vec<Vec<f32>>> {
        on!(&self.model, c => c.embed_images(pixels).await)
    }

    pub(super) fn scores(&self, embedding: &[f32]) -> Scores {
        let scores = on!(&self.model, c => c.scores(embedding, &self.labels));
        Scores {
            cosine: scores.cosine,
            probability: scores.probability,
        }
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

fn outcomes(done: Result<Vec<Outcome>>) -> Value {
    match done {
        Ok(all) => {
            let failed: Vec<_> = all.iter().filter(|outcome| !outcome.passed()).collect();
            json!({ "cases": all.len(), "failed": failed })
        }
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// A picture and a text through a model, `TURNS` times; milliseconds, sorted.
const TURNS: usize = 15;

/// Times, as JSON: milliseconds by device, model and batch.
pub(super) async fn bench(demo: bool) -> String {
    let config = if demo {
        match ModelFiles::open(&JsValue::NULL)
            .await
            .map(|files| clip_config(&files.config))
        {
            Ok(Ok(config)) => config,
            _ => return json!({ "error": "the demo's config.json cannot be read" }).to_string(),
        }
    } else {
        ClipConfig::vit_b_32()
    };
    let cpu = times(&Candle::new(), &config, demo).await;
    let gpu = match Gpu::new().await {
        Ok(gpu) => times(&gpu, &config, demo)
            .await
            .map(|t| json!([gpu.info().name, t])),
        Err(error) => Err(error.into()),
    };
    let told = |times: Result<Value>| times.unwrap_or_else(|e| json!({ "error": e.to_string() }));
    json!({ "cpu": told(cpu), "gpu": told(gpu) }).to_string()
}

async fn times<B: Backend>(backend: &B, config: &ClipConfig, demo: bool) -> Result<Value> {
    let start = now();
    let clip = Clip::load(backend, config, &Init::new(config.clone(), 1))?;
    let load = now() - start;
    let side = config.vision.image_size;
    let turns = if demo { TURNS } else { 3 };
    let mut images = serde_json::Map::new();
    for batch in if demo { [1, 4, 16] } else { [1, 2, 4] } {
        let pixels = vec![0.1f32; batch * side * side * 3];
        let mut all = Vec::new();
        for turn in 0..=turns {
            let start = now();
            clip.embed_images(&pixels)?.read().await?;
            // The first turn builds what later ones find.
            if turn > 0 {
                all.push(now() - start);
            }
        }
        images.insert(batch.to_string(), spread(all));
    }
    let text = Tokens {
        ids: vec![1, 2, 3, 4, 5, 6, 7, 8],
        eot: 7,
        truncated: false,
    };
    let mut all = Vec::new();
    for turn in 0..=turns {
        let start = now();
        clip.embed_texts(std::slice::from_ref(&text))?
            .read()
            .await?;
        if turn > 0 {
            all.push(now() - start);
        }
    }
    Ok(json!({ "load": load, "images": images, "text": spread(all) }))
}

/// Least, median and most.
fn spread(mut all: Vec<f64>) -> Value {
    all.sort_by(f64::total_cmp);
    json!([all.first(), all.get(all.len() / 2), all.last()])
}
