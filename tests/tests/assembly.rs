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
use plume_core::tokens::TextTokenizer;
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

/// The tensors of a file that are kept, under the names that they are given, in
/// safetensors.
fn rewritten(from: &Path, to: &Path, named: impl Fn(&str) -> Option<String>, rows: usize) {
    let weights = open_weights(from).unwrap();
    let weights = weights.file();
    let mut tensors = Vec::new();
    for old in weights.names() {
        let Some(name) = named(old) else {
            continue;
        };
        let mut numbers = weights.read(old).unwrap().into_f32();
        let mut shape = weights.shape(old).unwrap().to_vec();
        if name.contains("embed") && shape[0] > rows {
            numbers.truncate(rows * shape[1]);
            shape[0] = rows;
        }
        let bytes: Vec<u8> = numbers.into_iter().flat_map(f32::to_le_bytes).collect();
        tensors.push((name, shape, bytes));
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    std::fs::write(to, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// The first version kept the gated layers in a list of their own, and its
/// checkpoint had no prefix.
fn first_version(old: &str) -> String {
    let name = old.strip_prefix("model_state_dict.module.").unwrap();
    name.replace(
        "lang_encoder.gpt_neox.layers.1.gated_cross_attn_layer.",
        "lang_encoder.gated_cross_attn_layers.1.",
    )
}

#[test]
fn a_checkpoint_of_the_first_version_is_the_same() {
    let folder = scratch("assembly-first");
    let first = folder.join("checkpoint.safetensors");
    let checkpoint = golden().join("checkpoint.pt");
    rewritten(
        &checkpoint,
        &first,
        |name| Some(first_version(name)),
        usize::MAX,
    );
    let names = open_weights(&first).unwrap();
    assert!(
        names
            .file()
            .names()
            .any(|name| name.contains("attn_layers.1.attn_gate"))
    );
    let (a, b) = (folder.join("a.gguf"), folder.join("b.gguf"));
    assembled(&first, &a, "f16");
    assembled(&checkpoint, &b, "f16");
    assert_eq!(logits(&Candle::new(), &a), logits(&Candle::new(), &b));
}

/// The reference saves what it trained and what is named after embeddings: a
/// LLaMA's head is neither. The known tokens' rows are the language model's own,
/// and the added ones foresee nothing.
#[test]
fn a_head_that_was_frozen_is_the_language_models_own() {
    const WORDS: usize = 94;
    let folder = scratch("assembly-head");
    // A language model whose tables are as long as its vocabulary.
    let (from, lm) = (golden().join("lm"), folder.join("lm"));
    std::fs::create_dir_all(&lm).unwrap();
    std::fs::copy(from.join("tokenizer.json"), lm.join("tokenizer.json")).unwrap();
    let config = std::fs::read(from.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    config["vocab_size"] = WORDS.into();
    std::fs::write(lm.join("config.json"), config.to_string()).unwrap();
    let (weights, index) = (
        lm.join("model.safetensors"),
        from.join("pytorch_model.bin.index.json"),
    );
    rewritten(&index, &weights, |name| Some(name.to_owned()), WORDS);
    let own = open_weights(&weights).unwrap();
    let own = own.file().read("embed_out.weight").unwrap().into_f32();

    let checkpoint = folder.join("checkpoint.safetensors");
    let kept = |name: &str| {
        let name = first_version(name);
        (!name.ends_with("embed_out.weight")).then_some(name)
    };
    rewritten(&golden().join("checkpoint.pt"), &checkpoint, kept, 97);
    for dtype in ["f32", "q8_0"] {
        let file = folder.join(format!("{dtype}.gguf"));
        let output = assemble(&lm, &checkpoint, &file, dtype);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        if dtype == "f32" {
            let gguf = Gguf::open(Box::new(std::fs::read(&file).unwrap())).unwrap();
            let table = gguf.read(TABLES[1]).unwrap().into_f32();
            assert_eq!(table[..own.len()], own);
            assert!(table.len() > own.len());
        }
        for row in logits(&Candle::new(), &file).chunks(97) {
            assert!(row[WORDS..].iter().all(|&x| x == 0.0));
            assert!(row[..WORDS].iter().all(|&x| x != 0.0));
        }
    }
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
    // A language model sees nothing.
    let mut command = Command::new(plume());
    command.args(["pack", "--from"]).arg(golden().join("lm"));
    command.arg("--vision").arg(golden().join("vision"));
    let output = command.arg("--to").arg(&to).output().unwrap();
    assert!(!output.status.success() && !to.exists());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--vision is for a Flamingo"));
}

/// The same model as Otter publishes its own: one model of transformers, whose
/// names are written out here. Its resampler has six layers: those that the
/// reference lacks pass on what they are given.
fn as_otter(folder: &Path) {
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    let mut put = |name: String, shape: &[usize], numbers: Vec<f32>| {
        assert_eq!(shape.iter().product::<usize>(), numbers.len(), "{name}");
        tensors.push((name, shape.to_vec(), numbers));
    };

    let vision = open_weights(&golden().join("vision/open_clip_model.safetensors")).unwrap();
    let vision = vision.file();
    for old in vision.names() {
        let Some(name) = old.strip_prefix("visual.") else {
            continue;
        };
        let (shape, numbers) = (vision.shape(old).unwrap(), vision.read(old).unwrap());
        let numbers = numbers.into_f32();
        let model = "vision_encoder.vision_model";
        let known = [
            ("class_embedding", "embeddings.class_embedding"),
            (
                "positional_embedding",
                "embeddings.position_embedding.weight",
            ),
            ("conv1.weight", "embeddings.patch_embedding.weight"),
            ("ln_pre.weight", "pre_layrnorm.weight"),
            ("ln_pre.bias", "pre_layrnorm.bias"),
            ("ln_post.weight", "post_layernorm.weight"),
            ("ln_post.bias", "post_layernorm.bias"),
        ];
        if let Some((_, new)) = known.iter().find(|(known, _)| *known == name) {
            put(format!("{model}.{new}"), shape, numbers);
        } else if let Some(name) = name.strip_prefix("transformer.resblocks.0.") {
            let layer = format!("{model}.encoder.layers.0");
            if let Some(leaf) = name.strip_prefix("attn.in_proj_") {
                let third = numbers.len() / 3;
                let mut part = shape.to_vec();
                part[0] /= 3;
                for (which, numbers) in ["q", "k", "v"].iter().zip(numbers.chunks(third)) {
                    let name = format!("{layer}.self_attn.{which}_proj.{leaf}");
                    put(name, &part, numbers.to_vec());
                }
                continue;
            }
            let name = name
                .replace("attn.out_proj", "self_attn.out_proj")
                .replace("ln_", "layer_norm")
                .replace("mlp.c_fc", "mlp.fc1")
                .replace("mlp.c_proj", "mlp.fc2");
            put(format!("{layer}.{name}"), shape, numbers);
        } else {
            assert_eq!(name, "proj");
        }
    }

    let joint = open_weights(&golden().join("checkpoint.pt")).unwrap();
    let joint = joint.file();
    let mut tables = Vec::new();
    for old in joint.names() {
        let name = old.strip_prefix("model_state_dict.module.").unwrap();
        let (shape, numbers) = (joint.shape(old).unwrap(), joint.read(old).unwrap());
        if name.contains("embed") {
            tables.push(name.to_owned());
        }
        let name = name
            .replace("perceiver.layers.0.0.", "perceiver.layers.0.")
            .replace("perceiver.layers.0.1.", "perceiver.layers.0.feed_forward.")
            .replace("attn_layer.ff.", "attn_layer.feed_forward.");
        let numbers = numbers.into_f32();
        if let Some(leaf) = name.strip_prefix("perceiver.layers.0.") {
            let silent = ["to_out.weight", "feed_forward.3.weight"].contains(&leaf);
            for layer in 1..6 {
                let mut numbers = numbers.clone();
                if silent {
                    numbers.fill(0.0);
                }
                put(format!("perceiver.layers.{layer}.{leaf}"), shape, numbers);
            }
        }
        put(name, shape, numbers);
    }

    let lm = golden().join("lm");
    let lm = open_weights(&lm.join("pytorch_model.bin.index.json")).unwrap();
    let lm = lm.file();
    for old in lm.names() {
        let name = format!("lang_encoder.{old}");
        if tables.contains(&name) {
            continue;
        }
        let numbers = lm.read(old).unwrap().into_f32();
        let name = [0, 1].iter().fold(name, |name, layer| {
            let block = format!("gpt_neox.layers.{layer}.");
            name.replace(&block, &format!("{block}decoder_layer."))
        });
        put(name, lm.shape(old).unwrap(), numbers);
    }

    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, numbers)| numbers.iter().flat_map(|x| x.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    let weights = safetensors::serialize(views, None).unwrap();
    std::fs::write(folder.join("model.safetensors"), weights).unwrap();
    let tokenizer = golden().join("lm/tokenizer.json");
    std::fs::copy(tokenizer, folder.join("tokenizer.json")).unwrap();
    let config = std::fs::read(golden().join("lm/config.json")).unwrap();
    let mut text: serde_json::Value = serde_json::from_slice(&config).unwrap();
    // Those of the three tokens and one for filling up.
    let rows = tensors.iter().find(|(name, ..)| *name == tables[0]);
    text["vocab_size"] = rows.unwrap().1[0].into();
    let config = serde_json::json!({
        "model_type": "otter",
        "architectures": ["OtterForConditionalGeneration"],
        "cross_attn_every_n_layers": 2,
        "text_config": text,
        "vision_config": {
            "model_type": "clip_vision_model", "hidden_act": "quick_gelu", "hidden_size": 32,
            "image_size": 16, "patch_size": 8, "intermediate_size": 128,
            "num_attention_heads": 2, "num_hidden_layers": 1, "layer_norm_eps": 1e-5
        }
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn an_otter_is_packed_and_gives_what_open_flamingo_gives() {
    let folder = scratch("assembly-otter");
    as_otter(&folder);
    let io = Golden::open(&golden().join("io.safetensors")).unwrap();
    let (_, expected) = io.tensor("logits").unwrap();
    // As it is published, and packed.
    let error = max_error(&logits(&Candle::new(), &folder), &expected);
    assert!(error <= 1e-4, "{error}");
    let file = folder.join("model.gguf");
    let mut command = Command::new(plume());
    command.args(["pack", "--dtype", "q8_0", "--from"]);
    let packed = command
        .arg(&folder)
        .arg("--to")
        .arg(&file)
        .output()
        .unwrap();
    assert!(
        packed.status.success(),
        "{}",
        String::from_utf8_lossy(&packed.stderr)
    );
    let likeness = cosine(&logits(&Candle::new(), &file), &expected);
    assert!(likeness >= 0.999, "{likeness}");
    // Its own words go with it, and its tokens were added in its order.
    let config = WriterFiles::open(&file).unwrap().config;
    assert!(config.style.question.1.ends_with("<answer>"));
    let vocabulary = TextTokenizer::from_json(config.tokenizer.as_bytes()).unwrap();
    let ids = ["<|endofchunk|>", "<image>", "<answer>"].map(|token| vocabulary.id(token));
    assert_eq!(ids, [Some(94), Some(95), Some(96)]);
}
