//! What the page measures for `?bench`, as JSON.

use plume_core::backend::Backend;
use plume_core::bench::chat::{PICTURES, chat_times};
use plume_core::bench::language::Counters;
use plume_core::bench::{Plan, times};
use plume_core::checkpoint::Init;
use plume_core::config::ClipConfig;
use plume_core::cpu::Candle;
use plume_core::gpu::Gpu;
use plume_core::models::clip::Clip;
use plume_core::tasks::writer::Writer;
use serde_json::{Value, json};

use super::device::memory;
use super::files::{CLIP, FLAMINGO, ModelFiles, fetched, loading};
use super::{decode, now};
use crate::protocol::{Device, Subject};

/// Measures a model on a device.
pub(super) async fn run(subject: Subject, device: Device) -> String {
    let report = match device {
        Device::Cpu => {
            let device = "CPU · WebAssembly SIMD";
            measured(&Candle::new(), subject, device, &|| None).await
        }
        Device::Best | Device::Gpu => match Gpu::new().await {
            Ok(gpu) => {
                let device = format!("WebGPU · {}", gpu.info().name);
                let counters = || {
                    let counters = gpu.counters();
                    Some([counters.dispatches, counters.submits])
                };
                measured(&gpu, subject, &device, &counters).await
            }
            Err(error) => Err(error.to_string()),
        },
    };
    let report = report.unwrap_or_else(|error| json!({ "error": error }));
    report.to_string()
}

async fn measured<B: Backend>(
    backend: &B,
    subject: Subject,
    device: &str,
    counters: Counters<'_>,
) -> Result<Value, String> {
    let before = memory();
    let (model, found) = match subject {
        Subject::Demo => ("demo", demo(backend).await),
        Subject::VitB32 => {
            let config = ClipConfig::vit_b_32();
            let clip = Clip::load(backend, &config, &Init::new(config.clone(), 1));
            ("ViT-B/32", clip_times(clip).await)
        }
        Subject::Chat => ("demo", chat(backend, counters).await),
    };
    let (mut report, loaded) = found?;
    report["model"] = model.into();
    report["device"] = device.into();
    report["memory_before"] = before.into();
    report["memory_loaded"] = loaded.into();
    report["memory_after"] = memory().into();
    Ok(report)
}

/// What was found, and the memory once the model was loaded.
type Found = Result<(Value, u32), String>;

async fn demo<B: Backend>(backend: &B) -> Found {
    let files = ModelFiles::served(&CLIP, loading).await?;
    let opened = files.open().map_err(|error| error.to_string())?;
    clip_times(Clip::load(backend, &opened.config, &opened.checkpoint)).await
}

async fn clip_times<B: Backend>(clip: plume_core::Result<Clip<B>>) -> Found {
    let clip = clip.map_err(|error| error.to_string())?;
    let loaded = memory();
    let times = times(&clip, &Plan::usual(), &now).await;
    let times = times.map_err(|error| error.to_string())?;
    let report = serde_json::to_value(&times).map_err(|error| error.to_string())?;
    Ok((report, loaded))
}

async fn chat<B: Backend>(backend: &B, counters: Counters<'_>) -> Found {
    let mut pictures = Vec::with_capacity(PICTURES);
    for i in 1..=PICTURES {
        let blob = fetched(&format!("./demo/shots/{i:02}.png")).await;
        let blob = blob.ok_or("the page's own pictures cannot be fetched")?;
        pictures.push(decode::decode(&blob).await?);
    }
    let files = ModelFiles::served(&FLAMINGO, loading).await?;
    let opened = files.writer();
    let (config, checkpoint) = opened.map_err(|error| error.to_string())?;
    let writer = Writer::load(backend, &config, &checkpoint);
    let writer = writer.map_err(|error| error.to_string())?;
    let loaded = memory();
    let clock = (&now as &dyn Fn() -> f64, counters);
    let times = chat_times(writer, &pictures, &Plan::usual(), clock).await;
    let times = times.map_err(|error| error.to_string())?;
    let report = serde_json::to_value(&times).map_err(|error| error.to_string())?;
    Ok((report, loaded))
}
