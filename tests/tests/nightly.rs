//! Every published size at its full size, with random weights, against
//! open_clip, transformers and timm: `cargo xtask nightly`. As published, and packed
//! in 8 and in 4 bits. Long and large, and so only where `PLUME_NIGHTLY` names
//! the models (`all`, or names separated by commas); `PLUME_PYTHON` is a Python
//! with `tests/golden/requirements.txt`, `PLUME_NIGHTLY_DEVICES` `cpu`, `gpu` or
//! both. `docs/full-size.md` is made of the lines that it prints.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use plume_cli::model::ModelFiles;
use plume_core::backend::Backend;
use plume_core::checkpoint::{Checkpoint, Packed, Precision, asked, pack};
use plume_core::config::ClipConfig;
use plume_core::cpu::Candle;
use plume_core::models::clip::Clip;
use plume_core::tensor::Tensor;
use plume_core::tokens::Tokens;
use plume_tests::{Golden, channels_last, cosine, gpu, root};

/// What embeddings have to reach: as published (in f32), and packed.
const COSINES: [(&str, f32, Option<Precision>); 3] = [
    ("f32", 0.99999, None),
    ("q8_0", 0.999, Some(Precision::Q8_0)),
    ("q4_0", 0.98, Some(Precision::Q4_0)),
];

/// Sizes that `full_size.py` leaves out: between those that it makes.
const WITHOUT: &[&str] = &[
    "ViT-B-16-SigLIP-256",
    "ViT-B-16-SigLIP-384",
    "ViT-L-16-SigLIP-256",
];

/// Image towers alone, of Flamingo: the least and the one that it has.
const TOWERS: [&str; 2] = ["dm_nfnet_f0", "dm_nfnet_f6"];

/// A model, and what its reference computes.
struct Reference {
    config: ClipConfig,
    golden: Golden,
}

impl Reference {
    /// The cosines of picture and, where it reads any, text to the reference,
    /// and the seconds that loading and both took.
    fn compare<B: Backend>(&self, backend: &B, checkpoint: &Checkpoint) -> (Vec<f32>, [f64; 2]) {
        let start = Instant::now();
        let clip = Clip::load(backend, &self.config, checkpoint).unwrap();
        assert_eq!(checkpoint.left_over(), [""; 0]);
        let loaded = start.elapsed().as_secs_f64();
        let of = |what: &str| self.golden.tensor(what).unwrap();
        let read = |tensor: Tensor<B>| pollster::block_on(tensor.read()).unwrap();

        let pixels = channels_last(&of("pixels"));
        let image = read(clip.embed_images(&pixels).unwrap());
        let mut found = vec![("image_embeds", image)];
        if clip.text.is_some() {
            let ids: Vec<u32> = of("input_ids").1.iter().map(|&id| id as u32).collect();
            let tokens = Tokens {
                eot: ids.len() - 1,
                ids,
                truncated: false,
            };
            found.push(("text_embeds", read(clip.embed_texts(&[tokens]).unwrap())));
        }
        let of = |(what, ours): &(&str, Vec<f32>)| cosine(ours, &of(what).1);
        let cosines = found.iter().map(of).collect();
        (cosines, [loaded, start.elapsed().as_secs_f64() - loaded])
    }
}

/// The same model as one file of `precision`.
fn packed(folder: &Path, config: &ClipConfig, precision: Precision) -> PathBuf {
    let files = ModelFiles::find(folder).unwrap();
    let path = folder.join("packed.gguf");
    let asked = asked(|device, nothing| Clip::load(device, config, nothing)).unwrap();
    let packed = Packed {
        config: config.to_json(),
        ..Packed::default()
    };
    let out = BufWriter::new(File::create(&path).unwrap());
    let source = files.checkpoint().unwrap();
    pack(out, &packed, &asked, &source, precision, |_| {}).unwrap();
    path
}

/// Prints a line for each device and type; those that are too far off.
fn all_of(name: &str, folder: &Path, devices: &str) -> Vec<String> {
    let config = ModelFiles::find(folder).unwrap().config().unwrap();
    let golden = Golden::open(&folder.join("io.safetensors")).unwrap();
    let reference = Reference { config, golden };
    let mut wrong = Vec::new();
    for (dtype, bound, precision) in COSINES {
        // No norm evens out what 4 bits leave of their convolutions.
        let bound = if TOWERS.contains(&name) && dtype == "q4_0" {
            0.95
        } else {
            bound
        };
        let path = precision.map_or_else(
            || folder.to_owned(),
            |precision| packed(folder, &reference.config, precision),
        );
        let checkpoint = || ModelFiles::find(&path).unwrap().checkpoint().unwrap();
        let mut told = |device: &str, (cosines, seconds): (Vec<f32>, [f64; 2])| {
            let told = |cosine: Option<&f32>| {
                cosine.map_or("–".to_owned(), |cosine| format!("{cosine:.7}"))
            };
            let (image, text) = (told(cosines.first()), told(cosines.get(1)));
            let [loaded, both] = seconds;
            let line = format!("| {name} | {dtype} | {device} | {image} | {text} |");
            println!("{line} {loaded:.1} | {both:.1} |");
            if !cosines.iter().all(|&cosine| cosine >= bound) {
                wrong.push(line);
            }
        };
        if devices.contains("cpu") {
            told("CPU", reference.compare(&Candle::new(), &checkpoint()));
        }
        if devices.contains("gpu")
            && let Some(gpu) = gpu()
        {
            told(&gpu.info().name, reference.compare(&gpu, &checkpoint()));
        }
    }
    wrong
}

#[test]
fn full_sizes_agree_with_the_references() {
    let Ok(asked) = std::env::var("PLUME_NIGHTLY") else {
        println!("skipped: PLUME_NIGHTLY names no models");
        return;
    };
    let all = || ClipConfig::presets().filter(|name| !WITHOUT.contains(name));
    let names: Vec<&str> = match asked.as_str() {
        "all" => all().chain(TOWERS).collect(),
        names => names.split(',').collect(),
    };
    let devices = std::env::var("PLUME_NIGHTLY_DEVICES").unwrap_or_else(|_| "cpu,gpu".to_owned());
    let python = std::env::var("PLUME_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let folder = std::env::temp_dir().join(format!("plume-nightly-{}", std::process::id()));
    let mut wrong = Vec::new();
    for name in names {
        let made = Command::new(&python)
            .arg(root().join("tests/golden/full_size.py"))
            .args([name.as_ref(), folder.as_os_str()])
            .status()
            .unwrap();
        assert!(made.success(), "full_size.py failed for {name}");
        wrong.extend(all_of(name, &folder, &devices));
        std::fs::remove_dir_all(&folder).unwrap();
    }
    assert!(wrong.is_empty(), "too far off:\n{}", wrong.join("\n"));
}
