//! Against the references: Pillow's pixels, the tokenizers' ids, and a small
//! CLIP that works on photographs.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::{Path, PathBuf};

use plume_cli::model::ModelFiles;
use plume_cli::pictures;
use plume_core::backend::Backend;
use plume_core::cpu::Candle;
use plume_core::image::{Family, Preprocess};
use plume_core::tokens::{TextTokenizer, Tokenizer};
use plume_tests::{Golden, cosine, gpu, max_error, root, shared};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Row {
    text: String,
    fast: Vec<u32>,
    fast_trunc77: Option<Vec<u32>>,
}

#[test]
fn tokens_equal_the_reference_on_awkward_strings() {
    let (Some(file), Some(table)) = (
        shared("tokenizer/tokenizer.json"),
        shared("tokenizer/clip_token_table.json"),
    ) else {
        return;
    };
    let json = std::fs::read(file).unwrap();
    let rows: Vec<Row> = serde_json::from_slice(&std::fs::read(table).unwrap()).unwrap();
    let whole = Tokenizer::from_json(&json, 100_000).unwrap();
    let cut = Tokenizer::from_json(&json, 77).unwrap();
    assert_eq!(rows.len(), 242);
    let mut truncated = 0;
    for row in &rows {
        assert_eq!(
            whole.encode(&row.text).unwrap().ids,
            row.fast,
            "{:?}",
            row.text
        );
        let tokens = cut.encode(&row.text).unwrap();
        if let Some(expected) = &row.fast_trunc77 {
            assert_eq!(&tokens.ids, expected, "{:?}", row.text);
            assert!(tokens.truncated);
            truncated += 1;
        }
    }
    assert_eq!(truncated, 9);
}

#[test]
fn tokens_of_siglip_equal_the_reference() {
    let folder = root().join("tests/golden/siglip-tokenizer");
    let json = std::fs::read(folder.join("tokenizer.json")).unwrap();
    let rows = std::fs::read(folder.join("ids.json")).unwrap();
    let rows: Vec<(String, Vec<u32>)> = serde_json::from_slice(&rows).unwrap();
    let whole = Tokenizer::from_json(&json, 100_000).unwrap();
    let cut = Tokenizer::from_json(&json, 64).unwrap();
    let mut truncated = 0;
    for (text, ids) in &rows {
        let tokens = whole.encode(text).unwrap();
        assert_eq!((&tokens.ids, tokens.eot), (ids, ids.len() - 1), "{text:?}");
        let tokens = cut.encode(text).unwrap();
        if ids.len() > 64 {
            // The end is kept.
            assert_eq!(tokens.ids[..63], ids[..63]);
            assert_eq!((tokens.ids.len(), tokens.ids[63]), (64, 1));
            truncated += 1;
        }
        assert_eq!(tokens.truncated, ids.len() > 64);
    }
    assert_eq!((rows.len(), truncated), (14, 1));
}

/// Ids of a text as a language model's tokenizer gives them, and back.
fn text_tokens_equal(json: &[u8], ids: &Path) {
    let rows = std::fs::read(ids).unwrap();
    let rows: Vec<(String, Vec<u32>)> = serde_json::from_slice(&rows).unwrap();
    assert_eq!(rows.len(), 13 + usize::from(ids.ends_with("opt/ids.json")));
    let tokenizer = TextTokenizer::from_json(json).unwrap();
    for (text, ids) in rows {
        assert_eq!(tokenizer.encode(&text, false).unwrap(), ids, "{text:?}");
        let special = text.contains("<s>") || text.contains("</s>") || text.contains("<EOC>");
        if !special {
            assert_eq!(tokenizer.decode(&ids).unwrap().trim(), text.trim());
        }
    }
}

/// OPT's is published in two files; flamingo-mini's processor adds a token.
#[test]
fn tokens_of_opt_equal_the_reference() {
    let folder = root().join("tests/golden/text-tokenizers/opt");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let json = TextTokenizer::json_of_bpe(&read("vocab.json"), &read("merges.txt")).unwrap();
    let json = TextTokenizer::with_special(json.as_bytes(), &["<EOC>"]).unwrap();
    text_tokens_equal(json.as_bytes(), &folder.join("ids.json"));
    let clip = TextTokenizer::json_of_bpe(r#"{"cat</w>": 0}"#, "").unwrap_err();
    assert!(clip.to_string().contains("that of a CLIP"), "{clip}");
}

#[test]
fn tokens_of_llama_equal_the_reference() {
    let folder = root().join("tests/golden/text-tokenizers/llama");
    let json = std::fs::read(folder.join("tokenizer.json")).unwrap();
    text_tokens_equal(&json, &folder.join("ids.json"));
}

/// SigLIP's are published as T5's, and with what its texts are put through
/// written into the file.
#[test]
fn siglips_tokenizer_may_be_published_in_other_forms() {
    let folder = root().join("tests/golden/siglip-tokenizer");
    let json = std::fs::read(folder.join("tokenizer.json")).unwrap();
    let rows = std::fs::read(folder.join("ids.json")).unwrap();
    let rows: Vec<(String, Vec<u32>)> = serde_json::from_slice(&rows).unwrap();
    let plain: Value = serde_json::from_slice(&json).unwrap();
    let size = Tokenizer::from_json(&json, 64).unwrap().vocab_size();

    let mut t5 = plain.clone();
    let added = t5["added_tokens"].as_array_mut().unwrap();
    for n in 0..100 {
        added.push(json!({
            "id": size + n, "content": format!("<extra_id_{}>", 99 - n), "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false, "special": true,
        }));
    }
    t5["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [
            { "Sequence": { "id": "A", "type_id": 0 } },
            { "SpecialToken": { "id": "</s>", "type_id": 0 } },
        ],
        "pair": [],
        "special_tokens": { "</s>": { "id": "</s>", "ids": [1], "tokens": ["</s>"] } },
    });
    let mut fast = plain;
    fast["normalizer"] = json!({ "type": "Sequence", "normalizers": [
        { "type": "Lowercase" },
        { "type": "Replace", "content": "",
          "pattern": { "Regex": "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]" } },
        { "type": "Replace", "pattern": { "Regex": "\\s+" }, "content": " " },
        { "type": "Strip", "strip_left": true, "strip_right": true },
    ] });
    for (form, json) in [("T5's", t5), ("with its own rules", fast)] {
        let tokenizer = Tokenizer::from_json(json.to_string().as_bytes(), 100_000).unwrap();
        assert_eq!(tokenizer.vocab_size(), size, "{form}");
        for (text, ids) in &rows {
            assert_eq!(
                tokenizer.encode(text).unwrap().ids,
                *ids,
                "{form}: {text:?}"
            );
        }
    }
}

#[test]
fn three_megabytes_of_prompt_are_cut_before_they_are_encoded() {
    let Some(file) = shared("tokenizer/tokenizer.json") else {
        return;
    };
    let tokenizer = Tokenizer::from_json(&std::fs::read(file).unwrap(), 77).unwrap();
    let words = "a cat ".repeat(500_000);
    let tokens = tokenizer.encode(&words).unwrap();
    assert_eq!(tokens.ids[..3], [49406, 320, 2368]);
    assert_eq!(
        (tokens.ids.len(), tokens.eot, tokens.truncated),
        (77, 76, true)
    );
    let one_word = "z".repeat(3_000_000);
    assert!(tokenizer.encode(&one_word).unwrap().ids.len() <= 77);
}

#[test]
fn prepared_pixels_equal_pillows() {
    let (Some(golden), Some(pictures)) = (
        shared("golden/preprocess_224.safetensors"),
        shared("images/scikit-image"),
    ) else {
        return;
    };
    let golden = Golden::open(&golden).unwrap();
    let preprocess = Preprocess::clip(224, Family::Transformers);
    let names = [
        "astronaut.png",
        "camera.png",
        "chelsea.png",
        "coffee.png",
        "motorcycle_left.png",
        "page.png",
        "palette_color.png",
        "rocket.jpg",
    ];
    for name in names {
        let (shape, planes) = golden.tensor(name).unwrap();
        assert_eq!(shape, [3, 224, 224]);
        let pixels = preprocess.apply(&pictures::open(&pictures.join(name)).unwrap());
        let ours: Vec<f32> = (0..planes.len())
            .map(|i| pixels[(i % (224 * 224)) * 3 + i / (224 * 224)])
            .collect();
        // One step of a byte is 0.0146: below it every byte is the same.
        let error = max_error(&ours, &planes);
        assert!(error < 1e-6, "{name} is off by {error}");
    }
}

#[derive(Deserialize)]
struct Photographs {
    files: Vec<String>,
    classes: Vec<String>,
}

/// Compares the logits of every shared photograph and the counts of right
/// answers with the reference's.
fn classify_photographs<B: Backend>(backend: &B, model: &Path, photographs: &Path) {
    let list = std::fs::read(model.join("golden.json")).unwrap();
    let list: Photographs = serde_json::from_slice(&list).unwrap();
    let golden = Golden::open(&model.join("golden.safetensors")).unwrap();
    let mut classifier = ModelFiles::find(model)
        .unwrap()
        .classifier(backend)
        .unwrap();

    let paths: Vec<PathBuf> = list.files.iter().map(|f| photographs.join(f)).collect();
    let mut embeddings = Vec::new();
    for batch in paths.chunks(50) {
        let mut pixels = Vec::new();
        for path in batch {
            pixels.extend(
                classifier
                    .preprocess()
                    .unwrap()
                    .apply(&pictures::open(path).unwrap()),
            );
        }
        embeddings.extend(pollster::block_on(classifier.embed_images(&pixels)).unwrap());
    }

    let expected = [
        ("a photo of a {}", 543, 925),
        ("a blurry photo of a {}.", 547, 932),
        ("{}", 547, 933),
    ];
    let scale = classifier.clip().scale();
    for (template, top_1, top_5) in expected {
        let templates = [template.to_owned()];
        let labels = pollster::block_on(classifier.labels(&list.classes, &templates)).unwrap();
        let (_, logits) = golden.tensor(&format!("logits|{template}")).unwrap();
        let (mut first, mut five) = (0, 0);
        for (i, embedding) in embeddings.iter().enumerate() {
            let scores = classifier.scores(embedding, &labels);
            let ours: Vec<f32> = scores.cosine.iter().map(|c| c * scale).collect();
            let theirs = &logits[i * 10..(i + 1) * 10];
            let error = max_error(&ours, theirs);
            assert!(error < 1e-4, "{}: logits are off by {error}", list.files[i]);
            assert!(cosine(&ours, theirs) > 0.99999);
            let truth = i / 100;
            let better = ours.iter().filter(|&&x| x > ours[truth]).count();
            first += usize::from(better == 0);
            five += usize::from(better < 5);
        }
        assert_eq!((first, five), (top_1, top_5), "{template}");
    }
}

#[test]
fn photographs_are_classified_as_by_the_reference_on_the_cpu() {
    let (Some(model), Some(photographs)) =
        (shared("ridge-clip-cifar10"), shared("images/cifar10-test"))
    else {
        return;
    };
    classify_photographs(&Candle::new(), &model, &photographs);
}

#[test]
fn photographs_are_classified_as_by_the_reference_on_the_gpu() {
    let (Some(model), Some(photographs)) =
        (shared("ridge-clip-cifar10"), shared("images/cifar10-test"))
    else {
        return;
    };
    if let Some(gpu) = gpu() {
        classify_photographs(&gpu, &model, &photographs);
    }
}
