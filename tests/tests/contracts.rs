//! The contract of both devices, and invariants of the sources.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use plume_cli::model::ModelFiles;
use plume_core::backend::{Backend, WeightData};
use plume_core::contract::{self, Outcome};
use plume_core::cpu::Candle;
use plume_core::gpu::{Counters, Gpu, MemoryLimits};
use plume_core::models::clip::Clip;
use plume_core::tensor::{After, Tensor, Weight};
use plume_core::tokens::Tokens;
use plume_tests::{gpu, root};
use pollster::block_on;

fn hold(outcomes: &[Outcome], at_least: usize) {
    let wrong: Vec<_> = outcomes
        .iter()
        .filter(|outcome| !outcome.passed())
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let ran = outcomes.len();
    assert!(ran >= at_least, "only {ran} cases ran");
}

#[test]
fn the_cpu_keeps_the_contract() {
    let cpu = Candle::new();
    hold(&block_on(contract::run(&cpu, false)).unwrap(), 150);
    hold(&block_on(contract::products(&cpu, false)).unwrap(), 54);
    hold(&block_on(contract::attentions(&cpu, false)).unwrap(), 15);
}

#[test]
fn the_gpu_keeps_the_contract_in_every_variant() {
    if let Some(gpu) = gpu() {
        let outcomes = block_on(plume_core::gpu::contract(&gpu, false)).unwrap();
        hold(&outcomes, 400);
        println!("{} cases, {:?}", outcomes.len(), gpu.counters());
    }
}

#[test]
fn weights_larger_than_a_binding_lie_in_several_buffers() {
    if gpu().is_none() {
        return;
    }
    let open = |limits| block_on(Gpu::with_limits(limits)).unwrap();
    let limits = MemoryLimits {
        binding: Some(1 << 19),
        buffer: None,
    };
    hold(
        &block_on(contract::large_weights(&open(limits))).unwrap(),
        20,
    );
    hold(
        &block_on(contract::large_weights(&Candle::new())).unwrap(),
        20,
    );

    // CLIP's vocabulary by a width of 768, with what every device offers.
    let gpu = open(MemoryLimits {
        binding: Some(128 << 20),
        buffer: Some(256 << 20),
    });
    let (rows, cols) = (49_408, 768);
    let data = (0..rows * cols).map(|i| (i / cols) as f32).collect();
    let table = gpu
        .weight("token_embedding", WeightData::F32(data), rows, cols)
        .unwrap();
    let ids = [0, 49_407, 43_000, 44_000, 1];
    let found = Weight::new(table, rows, cols).embed(&gpu, &ids).unwrap();
    let want: Vec<f32> = ids.iter().flat_map(|&id| [id as f32; 768]).collect();
    assert_eq!(block_on(found.read()).unwrap(), want);

    // No device splits a row.
    let Err(error) = gpu.weight("proj", WeightData::F32(vec![0.0; 1 << 26]), 1, 1 << 26) else {
        panic!("a row of 256 MiB was taken");
    };
    let told = error.to_string();
    assert!(
        told.contains("proj") && told.contains("134217728"),
        "{told}"
    );
}

#[test]
fn a_second_pass_makes_no_object_on_the_gpu() {
    let Some(gpu) = gpu() else { return };
    let folder = root().join("tests/golden/clip/hf-quick");
    let files = ModelFiles::find(&folder).unwrap();
    let config = files.config().unwrap();
    let clip = Clip::load(&gpu, &config, &files.checkpoint().unwrap()).unwrap();
    let size = config.vision().unwrap().image_size();
    let tokens = Tokens {
        ids: (1..6).collect(),
        eot: 4,
        truncated: false,
    };
    let pass = || {
        let before = gpu.counters();
        let pixels = vec![0.5; 2 * size * size * 3];
        let pixels = Tensor::upload(&gpu, &pixels, &[2, size, size, 3]).unwrap();
        block_on(
            clip.vision
                .as_ref()
                .unwrap()
                .forward(&pixels)
                .unwrap()
                .read(),
        )
        .unwrap();
        block_on(
            clip.text
                .as_ref()
                .unwrap()
                .forward(std::slice::from_ref(&tokens))
                .unwrap()
                .read(),
        )
        .unwrap();
        gpu.counters().since(before)
    };
    let first = pass();
    assert!(first.objects > 20, "{first:?}");
    assert_eq!(first.submits, 2, "one for each tower");
    assert_eq!(
        pass(),
        Counters {
            objects: 0,
            ..first
        }
    );
}

#[test]
fn a_model_that_goes_gives_its_memory_back() {
    let Some(gpu) = gpu() else { return };
    let (rows, cols) = (64, 64);
    let mut held = Vec::new();
    for _ in 0..3 {
        let data = WeightData::F32(vec![1.0; rows * cols]);
        let weight = Weight::new(gpu.weight("w", data, rows, cols).unwrap(), rows, cols);
        let x = Tensor::upload(&gpu, &[1.0; 64], &[1, 64]).unwrap();
        let y = x.linear(&weight, &After::default()).unwrap();
        // Gone before the product is submitted.
        drop(weight);
        assert_eq!(block_on(y.read()).unwrap(), [64.0; 64]);
        held.push(gpu.counters().held);
    }
    assert!(held[0] < 64 * 64 * 4 && held[2] == held[0], "{held:?}");
}

/// Every `.rs` file below a folder, with its text.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut open = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.display().to_string(), text));
            }
        }
    }
    found
}

#[test]
fn core_names_no_web_type_and_wgpu_only_in_its_own_folder() {
    for (path, text) in sources("core/src") {
        for word in ["web_sys", "js_sys", "wasm_bindgen"] {
            assert!(!text.contains(word), "{path} names {word}");
        }
        let gpu = path.contains("core/src/gpu/");
        assert!(gpu || !text.contains("wgpu::"), "{path} names wgpu");
    }
}

#[test]
fn models_know_no_layout_and_the_page_knows_no_model() {
    for (path, text) in sources("core/src/models") {
        for word in ["vision_model", "resblocks", "safetensors"] {
            assert!(!text.contains(word), "{path} names {word}");
        }
    }
    for (path, text) in sources("app/src/ui") {
        assert!(!text.contains("plume_core"), "{path} names the core");
    }
    for (path, text) in sources("core/src/checkpoint/layouts") {
        assert!(!text.contains("Tensor<"), "{path} touches a tensor");
    }
}

const SHARED_SHADERS: [&str; 8] = [
    "activations",
    "angle",
    "attention_inputs",
    "matrix",
    "number_one",
    "number_quad",
    "store_ones",
    "store_quads",
];

#[test]
fn every_shader_lies_beside_the_rust_of_its_name() {
    let folder = root().join("core/src/gpu/kernels");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // What several shaders share has no dispatch of its own.
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let shared = stem.is_some_and(|stem| SHARED_SHADERS.contains(&stem));
        if path
            .extension()
            .is_some_and(|extension| extension == "wgsl")
            && !shared
        {
            assert!(path.with_extension("rs").exists(), "{}", path.display());
        }
    }
}
