//! OpenAI's own archives, which come without a configuration: the sizes are
//! told by the shapes, half of the weights are stored in f16, and numbers that
//! are no weights lie among them. Small ones, written and read by open_clip
//! (`tests/golden/make_openai.py`).

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::{Path, PathBuf};

use plume_cli::model::ModelFiles;
use plume_core::backend::Backend;
use plume_core::cpu::Candle;
use plume_core::models::clip::Clip;
use plume_core::tokens::Tokens;
use plume_tests::command::{badly, well};
use plume_tests::{Golden, channels_last, gpu, max_error, root};

fn folder(name: &str) -> PathBuf {
    root().join("tests/golden/openai").join(name)
}

/// Largest differences of a picture's and a text's embedding to the reference.
fn errors<B: Backend>(backend: &B, model: &Path, golden: &Golden) -> [f32; 2] {
    let files = ModelFiles::find(model).unwrap();
    let checkpoint = files.checkpoint().unwrap();
    let clip = Clip::load(backend, &files.config().unwrap(), &checkpoint).unwrap();
    assert_eq!(checkpoint.left_over(), [""; 0]);
    let of = |what: &str| golden.tensor(what).unwrap();
    let ids: Vec<u32> = of("input_ids").1.iter().map(|&id| id as u32).collect();
    let tokens = Tokens {
        eot: ids.len() - 1,
        ids,
        truncated: false,
    };
    let images = clip.embed_images(&channels_last(&of("pixels"))).unwrap();
    let texts = clip.embed_texts(&[tokens]).unwrap();
    [(images, "image_embeds"), (texts, "text_embeds")].map(|(ours, theirs)| {
        let ours = pollster::block_on(ours.read()).unwrap();
        max_error(&ours, &of(theirs).1)
    })
}

#[test]
fn archives_alone_are_whole_models() {
    for name in ["vit", "rn"] {
        let model = folder(name).join("model.pt");
        let golden = Golden::open(&folder(name).join("io.safetensors")).unwrap();
        let on_cpu = errors(&Candle::new(), &model, &golden);
        println!("{name} on the CPU: {on_cpu:?}");
        assert!(on_cpu.iter().all(|&error| error < 1e-4), "{on_cpu:?}");
        if let Some(gpu) = gpu() {
            let on_gpu = errors(&gpu, &model, &golden);
            println!("{name} on the GPU: {on_gpu:?}");
            assert!(on_gpu.iter().all(|&error| error < 1e-4), "{on_gpu:?}");
        }
        let report = well(&["inspect", model.to_str().unwrap(), "--json"]);
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["format"], "PyTorch");
        assert_eq!(report["missing"], serde_json::json!([]));
        assert_eq!(report["left_over"], serde_json::json!([]));
        let stored = |tensor: &str| {
            let all = report["tensors"].as_array().unwrap();
            let found = all.iter().find(|stored| stored["name"] == tensor).unwrap();
            found["dtype"].as_str().unwrap().to_owned()
        };
        assert_eq!(stored("visual.conv1.weight"), "F16");
        assert_eq!(stored("token_embedding.weight"), "F32");
        assert_eq!(stored("input_resolution"), "I64");
    }
}

/// A folder with the archive, the demo's tokenizer and what is published.
fn published(name: &str) -> PathBuf {
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&to);
    std::fs::create_dir_all(&to).unwrap();
    let vit = folder("vit");
    for file in ["model.pt", "picture.png", "published.json"] {
        std::fs::copy(vit.join(file), to.join(file)).unwrap();
    }
    let tokenizer = root().join("www/demo/clip/tokenizer.json");
    std::fs::copy(tokenizer, to.join("tokenizer.json")).unwrap();
    to
}

#[test]
fn what_is_published_is_held_against_what_is_found() {
    let folder = published("openai-published");
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (archive, picture) = (path("model.pt"), path("picture.png"));
    // As it came, then packed: the picture is prepared, the texts tokenised and
    // the probabilities found as open_clip does it.
    let packed = path("model.gguf");
    well(&[
        "pack", "--from", &archive, "--to", &packed, "--dtype", "f16",
    ]);
    for model in [&archive, &packed] {
        let told = well(&["verify", model, "--picture", &picture]);
        let rows: Vec<&str> = told.lines().filter(|l| l.contains("probability")).collect();
        println!("{}", rows.join("\n"));
        assert_eq!(rows.len(), 3, "{told}");
        assert!(rows.iter().all(|row| row.contains("right")), "{told}");
    }
    let told = well(&["verify", &archive]);
    assert!(told.contains("not checked; give --picture"), "{told}");

    // Another picture gives other numbers.
    let other = root().join("www/demo/samples/red-house.png");
    let error = badly(&["verify", &archive, "--picture", other.to_str().unwrap()]);
    assert!(error.contains("are not as they should be"), "{error}");
    std::fs::write(path("published.json"), "{}").unwrap();
    let error = badly(&["verify", &archive, "--picture", &picture]);
    assert!(error.contains("published.json cannot be read"), "{error}");
}
