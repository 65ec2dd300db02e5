//! The contract of both devices, and invariants of the sources.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use plume_core::backend::Backend;
use plume_core::contract;
use plume_core::cpu::Candle;
use plume_tests::{gpu, root};

fn holds<B: Backend>(backend: &B) {
    let outcomes = pollster::block_on(contract::run(backend, false)).unwrap();
    let wrong: Vec<_> = outcomes
        .iter()
        .filter(|outcome| !outcome.passed())
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(outcomes.len() > 150, "only {} cases ran", outcomes.len());
}

#[test]
fn the_cpu_keeps_the_contract() {
    holds(&Candle::new());
}

#[test]
fn the_gpu_keeps_the_contract() {
    if let Some(gpu) = gpu() {
        holds(&gpu);
    }
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

#[test]
fn every_shader_lies_beside_the_rust_of_its_name() {
    let folder = root().join("core/src/gpu/kernels");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // What several shaders share has no dispatch of its own.
        let shared = path.file_stem().is_some_and(|stem| stem == "activations");
        if path
            .extension()
            .is_some_and(|extension| extension == "wgsl")
            && !shared
        {
            assert!(path.with_extension("rs").exists(), "{}", path.display());
        }
    }
}
