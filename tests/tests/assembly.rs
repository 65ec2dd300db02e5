//! OpenFlamingo, put together from the files of three publishers by `plume
//! pack`, against what the reference code computes with them.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use half::f16;
use plume_cli::model::open_weights;
use plume_cli::writer::WriterFiles;
use plume_core::backend::Backend;
use plume_core::checkpoint::{Gguf, TensorFile};
use plume_core::cpu::Candle;
use plume_core::models::flamingo::{Flamingo, Illustrated};
use plume_core::models::lm::{Decoder, Pass};
use plume_core::tasks::writer::WriterModel;
use plume_tests::gguf::package_agrees;
use plume_tests::{Golden, channels_last, cosine, gpu, max_error, plume, root};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

const TABLES: [&str; 2] = ["lm.token_embedding", "lm.head"];

fn golden() -> PathBuf {
    root().join("tests/golden/open-flamingo")
}

/// A folder for one test, empty.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn assemble(lm: &Path, checkpoint: &Path, to: &Path, dtype: &str) -> Output {
    let mut command = Command::new(plume());
    command.args(["pack", "--dtype", dtype, "--vision"]);
    command.arg(golden().join("vision")).arg("--lm").arg(lm);
    command.arg("--from").arg(checkpoint).arg("--to").arg(to);
    command.output().unwrap()
}

fn assembled(checkpoint: &Path, to: &Path, dtype: &str) {
    let output = assemble(&golden().join("lm"), checkpoint, to, dtype);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
}

/// The logits of the golden prompt.
fn logits<B: Backend>(backend: &B, model: &Path) -> Vec<f32> {
    let io = Golden::open(&golden().join("io.safetensors")).unwrap();
    let WriterFiles { config, checkpoint } = WriterFiles::open(model).unwrap();
    let WriterModel::Flamingo(config, _) = config.model else {
        panic!("{:?}", config.model);
    };
    let flamingo = Flamingo::load(backend, &config, &checkpoint).unwrap();
    assert_eq!(checkpoint.left_over(), Vec::<String>::new());
    let pixels = io.tensor("pixels").unwrap();
    let seen = flamingo
        .see(&channels_last(&pixels), &vec![1; pixels.0[0]])
        .unwrap();
    let media = flamingo.media(&seen, 1).unwrap();
    let ids: Vec<u32> = io
        .tensor("input_ids")
        .unwrap()
        .1
        .iter()
        .map(|&id| id as u32)
        .collect();
    let reading = Illustrated::new(&flamingo, &media, &ids).unwrap();
    let pass = Pass::whole(backend, ids.len(), &[0]).unwrap();
    let x = reading.forward(&ids, &pass, None).unwrap();
    pollster::block_on(flamingo.lm().logits(&x).unwrap().read()).unwrap()
}

fn an_open_flamingo_is_put_together<B: Backend>(backend: &B, name: &str) {
    let folder = scratch(&format!("assembly-{name}"));
    let io = Golden::open(&golden().join("io.safetensors")).unwrap();
    let (_, expected) = io.tensor("logits").unwrap();
    for (dtype, least) in [
        ("f32", 0.999_999_9),
        ("f16", 0.999_99),
        ("q8_0", 0.999),
        ("q4_0", 0.9),
    ] {
        let file = folder.join(format!("{dtype}.gguf"));
        assembled(&golden().join("checkpoint.pt"), &file, dtype);
        let found = logits(backend, &file);
        let (likeness, error) = (cosine(&found, &expected), max_error(&found, &expected));
        println!("{name}, {dtype}: cosine {likeness}, largest difference {error}");
        assert!(likeness >= least, "{dtype}: {likeness}");
        if dtype == "f32" {
            assert!(error <= 1e-4, "{error}");
        }
    }
}

#[test]
fn an_open_flamingo_is_put_together_on_the_cpu() {
    an_open_flamingo_is_put_together(&Candle::new(), "cpu");
}

#[test]
fn an_open_flamingo_is_put_together_on_the_gpu() {
    if let Some(gpu) = gpu() {
        an_open_flamingo_is_put_together(&gpu, "gpu");
    }
}

/// Whatever the others are stored as: to the bit.
#[test]
fn rows_of_added_tokens_are_exact() {
    let folder = scratch("assembly-added");
    let io = Golden::open(&golden().join("io.safetensors")).unwrap();
    let (shape, added) = io.tensor("added").unwrap();
    assert!(added.iter().any(|&x| f16::from_f32(x).to_f32() != x));
    let (rows, each) = (shape[1], added.len() / 2);
    for dtype in ["f32", "f16", "q8_0", "q4_0"] {
        let file = folder.join(format!("{dtype}.gguf"));
        assembled(&golden().join("checkpoint.pt"), &file, dtype);
        let gguf = Gguf::open(Box::new(std::fs::read(&file).unwrap())).unwrap();
        for (table, expected) in TABLES.iter().zip(added.chunks_exact(each)) {
            let apart = format!("{table}.added");
            let found = if dtype == "f32" {
                assert!(gguf.shape(&apart).is_none());
                gguf.read(table).unwrap().into_f32()
            } else {
                assert_eq!(gguf.stored(&apart).unwrap().dtype, "F32");
                assert_eq!(gguf.shape(&apart).unwrap()[0], rows);
                gguf.read(&apart).unwrap().into_f32()
            };
            let end = found.len() - expected.len();
            assert_eq!(found[end..], *expected, "{dtype}: {table}");
        }
        let _ = package_agrees(&file).unwrap();
        // Packed again, and whole.
        let again = folder.join("again.gguf");
        let mut command = Command::new(plume());
        command
            .args(["pack", "--dtype", "f32", "--from"])
            .arg(&file);
        assert!(command.arg("--to").arg(&again).status().unwrap().success());
        let whole = Gguf::open(Box::new(std::fs::read(&again).unwrap())).unwrap();
        let table = whole.read(TABLES[1]).unwrap().into_f32();
        assert_eq!(table[table.len() - each..], added[each..], "{dtype}");
        assert_eq!(
            logits(&Candle::new(), &again).len(),
            logits(&Candle::new(), &file).len()
        );
    }
}

/// The first version kept the gated layers in a list of their own, and its
/// checkpoint had no prefix; here in safetensors.
#[test]
fn a_checkpoint_of_the_first_version_is_the_same() {
    let folder = scratch("assembly-first");
    let weights = open_weights(&golden().join("checkpoint.pt")).unwrap();
    let file = weights.file();
    let mut tensors = Vec::new();
    for old in file.names() {
        let name = old.strip_prefix("model_state_dict.module.").unwrap();
        let name = name.replace(
            "lang_encoder.gpt_neox.layers.1.gated_cross_attn_layer.",
            "lang_encoder.gated_cross_attn_layers.1.",
        );
        let numbers = file.read(old).unwrap().into_f32();
        let bytes: Vec<u8> = numbers.into_iter().flat_map(f32::to_le_bytes).collect();
        tensors.push((name, file.shape(old).unwrap().to_vec(), bytes));
    }
    assert!(
        tensors
            .iter()
            .any(|(name, ..)| name.contains("attn_layers.1.attn_gate"))
    );
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (
            name.as_str(),
            TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
        )
    });
    let first = folder.join("checkpoint.safetensors");
    std::fs::write(&first, safetensors::serialize(views, None).unwrap()).unwrap();
    let (a, b) = (folder.join("a.gguf"), folder.join("b.gguf"));
    assembled(&first, &a, "f16");
    assembled(&golden().join("checkpoint.pt"), &b, "f16");
    assert_eq!(logits(&Candle::new(), &a), logits(&Candle::new(), &b));
}

#[test]
fn parts_that_do_not_belong_together_are_told() {
    let folder = scratch("assembly-faults");
    let to = folder.join("model.gguf");
    let told = |lm: &Path, checkpoint: &Path| {
        let output = assemble(lm, checkpoint, &to, "f16");
        assert!(!output.status.success());
        assert!(!to.exists());
        String::from_utf8(output.stderr).unwrap()
    };
    let checkpoint = golden().join("checkpoint.pt");
    // Another family, whose blocks have other names.
    let llama = root().join("tests/golden/lm/llama");
    assert!(told(&llama, &checkpoint).contains("belong together"));
    let clip = golden().join("vision/open_clip_model.safetensors");
    assert!(told(&golden().join("lm"), &clip).contains("perceiver.latents"));
}
