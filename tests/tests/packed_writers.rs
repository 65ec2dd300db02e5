//! Packed language models and Flamingos: what comes out of a file of `plume
//! pack` is what went in, and files are read as publishers leave them.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use plume_cli::model::{ModelFiles, open_weights};
use plume_cli::writer::{self, WriterFiles};
use plume_core::backend::Backend;
use plume_core::checkpoint::{Assembly, Layout, Precision, flamingo_config, packed_bytes, writes};
use plume_core::cpu::Candle;
use plume_core::models::lm::{Decoder, Pass};
use plume_core::prompts::{Ask, Segment, Shot};
use plume_core::tasks::writer::{Writer, WriterModel};
use plume_tests::command::well;
use plume_tests::gguf::package_agrees;
use plume_tests::tiny::write_flamingo_tiny;
use plume_tests::writers::{Drawn, small_flamingo, write_flamingo, write_idefics, write_pictures};
use plume_tests::{cosine, gpu, max_error, root};
use serde_json::{Value, json};

/// A folder for one test, empty.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn pack(from: &Path, to: &Path, dtype: &str) {
    let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
    well(&["pack", "--from", from, "--to", to, "--dtype", dtype]);
}

/// Two pictures with words, and a third that is asked about.
fn segments(folder: &Path) -> Vec<Segment> {
    let config = WriterFiles::open(folder).unwrap().config;
    let shot = |image: &str, answer: &str| Shot {
        image: image.into(),
        ask: Ask::Class,
        answer: answer.into(),
    };
    let shots = [shot("a.png", "w7"), shot("b.png", "w9")];
    config.style.few_shot(&shots, "a.png", &Ask::Class)
}

/// The logits after every token of a prompt.
fn logits<B: Backend>(backend: &B, model: &Path, segments: &[Segment], folder: &Path) -> Vec<f32> {
    let writer = writer::open(backend, model).unwrap();
    logits_of(&writer, segments, folder)
}

fn logits_of<B: Backend>(writer: &Writer<B>, segments: &[Segment], folder: &Path) -> Vec<f32> {
    let prompt = writer::prompt(writer, segments, folder).unwrap();
    let reading = writer.reading(&prompt).unwrap();
    let pass = Pass::whole(writer.lm().backend(), prompt.ids.len(), &[0]).unwrap();
    let x = reading.forward(&prompt.ids, &pass, None).unwrap();
    pollster::block_on(writer.lm().logits(&x).unwrap().read()).unwrap()
}

fn a_packed_flamingo_is_the_same<B: Backend>(backend: &B, name: &str) {
    let folder = scratch(&format!("packed-flamingo-{name}"));
    write_flamingo(&folder, &small_flamingo(), &Drawn(3)).unwrap();
    let segments = segments(&folder);
    let whole = logits(backend, &folder, &segments, &folder);
    for (dtype, precision, least) in [
        ("f32", Precision::F32, 1.0),
        ("f16", Precision::F16, 0.999_999),
        ("q8_0", Precision::Q8_0, 0.999),
        ("q4_0", Precision::Q4_0, 0.9),
    ] {
        let file = folder.join(format!("{dtype}.gguf"));
        pack(&folder, &file, dtype);
        let before = WriterFiles::open(&folder).unwrap().config;
        let packed = WriterFiles::open(&file).unwrap();
        let tensors = packed.checkpoint.file();
        let stored = tensors.names().filter_map(|name| tensors.stored(name));
        let bytes: u64 = stored.map(|tensor| tensor.bytes).sum();
        let foretold = packed_bytes(&before.asked().unwrap(), precision);
        assert_eq!(bytes, foretold, "{dtype}");
        let mut after = packed.config;
        assert_eq!(after.to_packed(), before.to_packed(), "{dtype}");
        after.layout = before.layout;
        assert_eq!(after, before, "{dtype}");
        let packed = logits(backend, &file, &segments, &folder);
        if dtype == "f32" {
            assert_eq!(packed, whole);
        }
        let likeness = cosine(&packed, &whole);
        println!(
            "{name}, {dtype}: cosine {likeness}, largest difference {}",
            max_error(&packed, &whole)
        );
        assert!(likeness >= least, "{dtype}: {likeness}");
    }
}

#[test]
fn a_packed_flamingo_is_the_same_on_the_cpu() {
    a_packed_flamingo_is_the_same(&Candle::new(), "cpu");
}

#[test]
fn a_packed_flamingo_is_the_same_on_the_gpu() {
    if let Some(gpu) = gpu() {
        a_packed_flamingo_is_the_same(&gpu, "gpu");
    }
}

/// `plume generate`, `score` and `inspect` take a packed file for a folder.
#[test]
fn commands_take_packed_files() {
    let folder = scratch("packed-commands");
    write_flamingo(&folder, &small_flamingo(), &Drawn(4)).unwrap();
    let file = folder.join("model.gguf");
    pack(&folder, &file, "f32");
    std::fs::rename(folder.join("model.safetensors"), folder.join("kept")).unwrap();
    let prompt = folder.join("prompt.json");
    let json = serde_json::json!({ "segments": segments(&folder) });
    std::fs::write(&prompt, json.to_string()).unwrap();
    let asked = |command: &str, model: &Path, rest: &[&str]| {
        let (model, prompt) = (model.to_str().unwrap(), prompt.to_str().unwrap());
        let first = [command, "--model", model, "--prompt", prompt, "--json"];
        well(&[first.as_slice(), rest].concat())
    };
    let generate = |model: &Path| asked("generate", model, &["--max-new-tokens", "8"]);
    let score = |model: &Path| asked("score", model, &["--options", "w7,w9"]);
    let packed = (generate(&file), score(&file));
    std::fs::rename(folder.join("kept"), folder.join("model.safetensors")).unwrap();
    assert_eq!((generate(&folder), score(&folder)), packed);

    let told = well(&["inspect", file.to_str().unwrap(), "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["config"]["model_type"], "plume_flamingo");
    assert_eq!(told["config"]["prompts"]["output"], "Output:");
    assert_eq!(told["tokenizer"], true);
    assert_eq!(told["preprocess"]["size"], 16);
    for list in ["missing", "left_over", "problems"] {
        assert_eq!(told[list], serde_json::json!([]), "{list}");
    }
}

/// Every family of language models, packed: no name of a publisher is left.
#[test]
fn packed_language_models_are_the_same() {
    let segments = [Segment::Text("w3 w1 w4 w1 w5".into())];
    let tokenizer = plume_tests::writers::tokenizer().to_string();
    for name in [
        "mpt",
        "mosaic-gpt",
        "neox",
        "neox-parallel",
        "opt",
        "opt-post",
        "llama",
    ] {
        let from = root().join("tests/golden/lm").join(name);
        let folder = scratch(&format!("packed-lm-{name}"));
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(from.join(file), folder.join(file)).unwrap();
        }
        std::fs::write(folder.join("tokenizer.json"), &tokenizer).unwrap();
        let file = folder.join("packed.gguf");
        pack(&folder, &file, "f32");
        let stops = WriterFiles::open(&folder).unwrap().config.stops;
        assert_eq!(WriterFiles::open(&file).unwrap().config.stops, stops);
        let [whole, packed] =
            [&folder, &file].map(|model| logits(&Candle::new(), model, &segments, &folder));
        assert_eq!(packed, whole, "{name}");
    }
}

#[test]
fn the_gguf_package_reads_a_packed_flamingo() {
    let folder = scratch("packed-flamingo-package");
    write_flamingo(&folder, &small_flamingo(), &Drawn(5)).unwrap();
    for dtype in ["f32", "f16", "q8_0", "q4_0"] {
        let file = folder.join(format!("{dtype}.gguf"));
        pack(&folder, &file, dtype);
        let Some(metadata) = package_agrees(&file).unwrap() else {
            return;
        };
        assert_eq!(metadata["general.architecture"], "plumeflamingo");
        assert_eq!(metadata["plumeflamingo.lm.positions.kind"], "alibi");
        assert_eq!(
            metadata["plumeflamingo.xattn.layers"],
            serde_json::json!([1])
        );
        let question = &metadata["plumeflamingo.prompts.question"];
        assert_eq!(
            question,
            &serde_json::json!(["Question:", " Short answer:"])
        );
    }
}

/// `plume eval agreement`, counted again.
#[test]
fn agreement_is_counted() {
    let folder = scratch("agreement");
    write_flamingo(&folder, &small_flamingo(), &Drawn(6)).unwrap();
    let segments = segments(&folder);
    let prompts = folder.join("prompts.jsonl");
    let line = serde_json::json!({ "segments": segments }).to_string();
    std::fs::write(&prompts, format!("{line}\n\n{line}\n")).unwrap();
    let agreement = |model: &Path, new: &str| -> Value {
        let [model, reference, prompts] = [model, &folder, &prompts].map(|p| p.to_str().unwrap());
        let told = well(&[
            "eval",
            "agreement",
            "--json",
            "--model",
            model,
            "--reference",
            reference,
            "--prompts",
            prompts,
            "--max-new-tokens",
            new,
        ]);
        serde_json::from_str(&told).unwrap()
    };
    let files = ["f32", "q4_0"].map(|dtype| {
        let file = folder.join(format!("{dtype}.gguf"));
        pack(&folder, &file, dtype);
        file
    });
    let same = agreement(&files[0], "5");
    assert_eq!(
        (&same["prompts"], &same["tokens"], &same["same"]),
        (&2.into(), &10.into(), &10.into())
    );

    // Of the prompts' own tokens.
    let device = Candle::new();
    let likeliest = |model: &Path| -> Vec<usize> {
        let logits = logits(&device, model, &segments, &folder);
        let rows = logits.chunks_exact(160);
        let best = |row: &[f32]| (0..160).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        rows.map(best).collect()
    };
    let (whole, small) = (likeliest(&folder), likeliest(&files[1]));
    let same = whole.iter().zip(&small).filter(|(a, b)| a == b).count();
    let found = agreement(&files[1], "0");
    assert_eq!(found["tokens"], 2 * whole.len());
    assert_eq!(found["same"], 2 * same);
    assert!(same < whole.len(), "4 bits change nothing");
}

/// IDEFICS as it is published: one folder, tables of tokens in two parts, a
/// prompt style and a preparation of pictures of its own. All of it is in the
/// packed file.
#[test]
fn idefics_is_read_and_packed_as_published() {
    let folder = scratch("packed-idefics");
    write_idefics(&folder).unwrap();

    let device = Candle::new();
    let segments = [
        Segment::Text(" w5 w6 ".into()),
        Segment::Image("a.png".into()),
        Segment::Text(" w7".into()),
    ];
    let writer = writer::open(&device, &folder).unwrap();
    // Texts are trimmed; the mark stands between two others.
    assert_eq!(writer.ids(&segments).unwrap(), [1, 5, 6, 40, 41, 40, 7]);
    let whole = logits(&device, &folder, &segments, &folder);
    for (dtype, least) in [("f32", 1.0), ("q8_0", 0.99)] {
        let file = folder.join(format!("{dtype}.gguf"));
        pack(&folder, &file, dtype);
        let config = WriterFiles::open(&file).unwrap().config;
        assert_eq!(config.style, writer.style().clone());
        assert_eq!(
            config.to_packed().preprocess.unwrap()["resize"]["squash"][0],
            16
        );
        let packed = logits(&device, &file, &segments, &folder);
        assert!(cosine(&packed, &whole) >= least, "{dtype}");
        if dtype == "f32" {
            assert_eq!(packed, whole);
        }
    }
}

/// Forced decoding of the page's own Flamingo, by what it would be asked of its
/// drawings: in 8 bits it would write the same, in 4 nearly so.
#[test]
fn the_demo_writes_the_same_in_fewer_bits() {
    const ASKED: [&str; 3] = [
        "Output:",
        "Question:what color is it? Short answer:",
        "Question:how many are there? Short answer:",
    ];
    let (demo, folder) = (root().join("www/demo"), scratch("packed-demo"));
    let mut prompts = String::new();
    for pictures in ["samples", "shots"] {
        let files = std::fs::read_dir(demo.join(pictures)).unwrap();
        let files = files.map(|file| file.unwrap().path());
        for picture in files.filter(|path| path.extension().is_some_and(|end| end == "png")) {
            for asked in ASKED {
                let line = json!({ "segments": [{ "image": picture }, { "text": asked }] });
                prompts += &format!("{line}\n");
            }
        }
    }
    let path = |path: PathBuf| path.to_str().unwrap().to_owned();
    let (asked, reference) = (
        path(folder.join("prompts.jsonl")),
        path(demo.join("flamingo")),
    );
    std::fs::write(&asked, prompts).unwrap();
    for (dtype, least) in [("q8_0", 99.0), ("q4_0", 95.0)] {
        let file = path(folder.join(format!("{dtype}.gguf")));
        pack(Path::new(&reference), Path::new(&file), dtype);
        let models = ["--model", &file, "--reference", &reference];
        let told = well(
            &[
                &["eval", "agreement", "--prompts", &asked, "--json"],
                &models[..],
            ]
            .concat(),
        );
        let told: Value = serde_json::from_str(&told).unwrap();
        println!("the demo in {dtype}: {told}");
        assert_eq!(told["prompts"], 147);
        assert!(told["percent"].as_f64().unwrap() >= least, "{told}");
    }
}

/// flamingo-mini's configuration names its parts; its tokens are its
/// tokenizer's.
#[test]
fn flamingo_mini_is_known_by_its_configuration() {
    let json = serde_json::json!({
        "lm": "facebook/opt-125m", "clip_model_type": "openai/clip-vit-large-patch14",
        "xattn_act": "sqrelu", "resampler_act": "sqrelu", "dim": 768, "dim_visual": 1024,
    });
    assert!(writes(&json));
    let ids = |token: &str| match token {
        "<" => Some(5),
        "Ġ<" => Some(28_696),
        "<EOC>" => Some(50_265),
        _ => None,
    };
    let (config, layout) = flamingo_config(&json.to_string(), &ids).unwrap().unwrap();
    assert_eq!(layout, Layout::FlamingoMini);
    assert!([5, 28_696].iter().all(|&id| config.is_image(id)));
    assert_eq!((config.end_of_chunk, config.lm.layers), (50_265, 12));
    let error = flamingo_config(&json.to_string(), &|_| None).unwrap_err();
    assert!(error.to_string().contains("no token `<`"), "{error}");
}

/// The names of the tensors of a file, but for the numbers of layers.
fn names(path: &Path) -> BTreeSet<String> {
    let weights = open_weights(path).unwrap();
    let names = weights.file().names();
    let plain = |name: &str| {
        let mut parts: Vec<&str> = name.split('.').collect();
        for at in 1..parts.len() {
            if parts[at - 1] == "layers" {
                parts[at] = "0";
            }
        }
        parts.join(".")
    };
    names.map(plain).collect()
}

/// A Flamingo that is published without its image tower, and the CLIP that it
/// sees with, become one file.
#[test]
fn flamingo_tiny_is_packed_with_its_image_tower() {
    let folder = scratch("packed-tiny");
    write_flamingo_tiny(&folder, &Drawn(8)).unwrap();
    write_pictures(&folder).unwrap();
    let (from, vision) = (folder.join("flamingo"), folder.join("clip"));
    // As the references have them.
    let mini = root().join("tests/golden/flamingo/mini/model.safetensors");
    let mut published = names(&mini);
    published.retain(|name| !name.starts_with("vision_encoder."));
    assert_eq!(names(&from.join("model.safetensors")), published);

    let file = folder.join("tiny.gguf");
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (from_path, vision_path, to) = (path(&from), path(&vision), path(&file));
    well(&[
        "pack",
        "--from",
        &from_path,
        "--vision",
        &vision_path,
        "--to",
        &to,
    ]);

    let device = Candle::new();
    let segments = |picture: &str| {
        [
            Segment::Image(picture.into()),
            Segment::Text("dax<EOC>".into()),
        ]
    };
    let apart = {
        let files = WriterFiles::open(&from).unwrap();
        let WriterModel::Flamingo(sizes, _) = &files.config.model else {
            panic!("a Flamingo sees");
        };
        let clip = ModelFiles::find(&vision).unwrap();
        let tower = clip.config().unwrap().vision.unwrap();
        let tower = (clip.checkpoint().unwrap(), tower);
        let source = Assembly::with_tower(tower, files.checkpoint, sizes).unwrap();
        let writer = Writer::load(&device, &files.config, &source).unwrap();
        assert_eq!(source.left_over(), [""; 0]);
        logits_of(&writer, &segments("a.png"), &folder)
    };
    // f16 was published and f16 is packed: the same numbers, but for the order
    // in which rows of added tokens, a tensor of their own then, are summed.
    let writer = writer::open(&device, &file).unwrap();
    let packed = logits_of(&writer, &segments("a.png"), &folder);
    let error = max_error(&packed, &apart);
    assert!(error <= 1e-4, "{error}");
    // It is seen, too.
    let other = logits_of(&writer, &segments("b.png"), &folder);
    let change = max_error(&other, &apart);
    println!("flamingo-tiny: largest difference {error}, of another picture {change}");
    assert!(change.is_finite() && change > 1e-3, "{change}");
    std::fs::remove_dir_all(&folder).unwrap();
}
