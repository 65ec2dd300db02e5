//! Every published size at its full size, with random weights, against
//! open_clip and transformers: `cargo xtask nightly`. Long and large, and so
//! only where `PLUME_NIGHTLY` names the models (`all`, or names separated by
//! commas); `PLUME_PYTHON` is a Python with `tests/golden/requirements.txt`,
//! `PLUME_NIGHTLY_DEVICES` `cpu`, `gpu` or both.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use plume_cli::model::ModelFiles;
use plume_core::backend::Backend;
use plume_core::config::ClipConfig;
use plume_core::cpu::Candle;
use plume_core::models::clip::Clip;
use plume_core::tensor::Tensor;
use plume_core::tokens::Tokens;
use plume_tests::{Golden, channels_last, cosine, gpu, root};

/// What an embedding in f32 has to reach.
const COSINE: f32 = 0.99999;

/// Sizes that `full_size.py` leaves out: between those that it makes.
const WITHOUT: &[&str] = &[
    "ViT-B-16-SigLIP-256",
    "ViT-B-16-SigLIP-384",
    "ViT-L-16-SigLIP-256",
];

fn compare<B: Backend>(backend: &B, device: &str, name: &str, folder: &Path) {
    let start = Instant::now();
    let files = ModelFiles::find(folder).unwrap();
    let (config, checkpoint) = (files.config().unwrap(), files.checkpoint().unwrap());
    let clip = Clip::load(backend, &config, &checkpoint).unwrap();
    assert_eq!(checkpoint.left_over(), [""; 0], "{name}");
    let loaded = start.elapsed();
    let golden = Golden::open(&folder.join("io.safetensors")).unwrap();
    let of = |what: &str| golden.tensor(what).unwrap();
    let read = |tensor: Tensor<B>| pollster::block_on(tensor.read()).unwrap();

    let pixels = channels_last(&of("pixels"));
    let image = read(clip.embed_images(&pixels).unwrap());
    let ids: Vec<u32> = of("input_ids").1.iter().map(|&id| id as u32).collect();
    let tokens = Tokens {
        eot: ids.len() - 1,
        ids,
        truncated: false,
    };
    let text = read(clip.embed_texts(&[tokens]).unwrap());
    let found = [("image", image), ("text", text)];
    let cosines = found.map(|(what, ours)| cosine(&ours, &of(&format!("{what}_embeds")).1));
    println!(
        "{name} on {device}: cosine of image {:.8}, of text {:.8}; loaded in {:.1} s, both in {:.1} s",
        cosines[0],
        cosines[1],
        loaded.as_secs_f64(),
        (start.elapsed() - loaded).as_secs_f64(),
    );
    assert!(cosines.iter().all(|&c| c >= COSINE), "{name} on {device}");
}

#[test]
fn full_sizes_agree_with_the_references() {
    let Ok(asked) = std::env::var("PLUME_NIGHTLY") else {
        println!("skipped: PLUME_NIGHTLY names no models");
        return;
    };
    let all = || ClipConfig::presets().filter(|name| !WITHOUT.contains(name));
    let names: Vec<&str> = match asked.as_str() {
        "all" => all().collect(),
        names => names.split(',').collect(),
    };
    let devices = std::env::var("PLUME_NIGHTLY_DEVICES").unwrap_or_else(|_| "cpu,gpu".to_owned());
    let python = std::env::var("PLUME_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let folder = std::env::temp_dir().join(format!("plume-nightly-{}", std::process::id()));
    for name in names {
        let made = Command::new(&python)
            .arg(root().join("tests/golden/full_size.py"))
            .args([name.as_ref(), folder.as_os_str()])
            .status()
            .unwrap();
        assert!(made.success(), "full_size.py failed for {name}");
        if devices.contains("cpu") {
            compare(&Candle::new(), "the CPU", name, &folder);
        }
        if devices.contains("gpu")
            && let Some(gpu) = gpu()
        {
            compare(&gpu, &gpu.info().name, name, &folder);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
