//! Models that people have, given to the page as files, and the check of a
//! model on this device, in a real Chromium.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

use plume_tests::browser::{Browser, page, sample, serve};
use plume_tests::command::{classified, printed, same, well};
use plume_tests::{plume, root};
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// One browser at a time: two cores are soon busy.
static TURN: Mutex<()> = Mutex::const_new(());

/// What the page begins with.
const LABELS: [&str; 8] = [
    "cat", "house", "fish", "tree", "star", "umbrella", "rocket", "bird",
];
const TEMPLATES: [&str; 4] = [
    "a {}",
    "a drawing of a {}",
    "a sketch of a {}",
    "this is a {}",
];

/// A tokenizer of whole words for a vocabulary of 48.
fn tokenizer(specials: &[(&str, u32)]) -> String {
    let words = ["a", "drawing", "of", "sketch", "this", "is"];
    let words = words.into_iter().chain(LABELS).zip(10u32..);
    let all = words.chain(specials.iter().copied());
    let vocab: serde_json::Map<_, _> = all.map(|(word, id)| (word.to_owned(), id.into())).collect();
    let added: Vec<Value> = specials
        .iter()
        .map(|(content, id)| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            })
        })
        .collect();
    json!({
        "version": "1.0", "added_tokens": added, "normalizer": { "type": "Lowercase" },
        "pre_tokenizer": { "type": "WhitespaceSplit" },
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "<unk>" },
    })
    .to_string()
}

fn folder(name: &str) -> PathBuf {
    let folder = root().join("target/tmp-browser-models").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A folder with copies of a model's files.
fn copy(name: &str, from: &str, files: &[&str]) -> PathBuf {
    let to = folder(name);
    for file in files {
        let from = root().join(from).join(file);
        std::fs::copy(from, to.join(file)).unwrap();
    }
    to
}

/// Gives the page every file of a folder, and waits for the model.
async fn give(browser: &Browser, folder: &Path, name: &str) {
    let files = std::fs::read_dir(folder).unwrap();
    let files: Vec<_> = files
        .map(|file| file.unwrap().path().canonicalize().unwrap())
        .collect();
    browser.choose_files("#model-input", &files).await.unwrap();
    let there = format!(
        "return document.querySelector('.model-name')?.textContent === {}",
        json!(name)
    );
    browser.until(&there).await.unwrap();
    browser.device().await.unwrap();
}

/// Presses the check, and gives what it says and its rows: what, expected,
/// found, largest difference, and whether that is right.
async fn check(browser: &Browser) -> (String, Vec<[String; 5]>) {
    let press = "document.querySelector('#check-model').click()";
    browser.script(press, vec![]).await.unwrap();
    let said = "const t = document.querySelector('#check-outcome').textContent;
        return t.startsWith('Comparing') ? null : t";
    let said = browser.until(said).await.unwrap();
    let rows = "return [...document.querySelectorAll('#check-findings tbody tr')].map(row =>
        [...row.children].map(cell => cell.textContent))";
    let rows = browser.script(rows, vec![]).await.unwrap();
    let rows = serde_json::from_value(rows).unwrap();
    (said.as_str().unwrap().to_owned(), rows)
}

const NOTES: &str =
    "return [...document.querySelectorAll('.check-note')].map(note => note.textContent)";

#[tokio::test]
async fn the_demo_gives_on_this_device_what_was_recorded() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    browser.open(&server.address()).await.unwrap();
    browser.choose_device("cpu").await.unwrap();
    let (said, rows) = check(&browser).await;
    println!("{said}\n{rows:#?}");
    assert!(said.contains("give what their references give"), "{said}");
    let golden = std::fs::read(root().join("www/demo/clip/golden.json")).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    let known = ["pictures", "texts"].map(|side| golden[side].as_object().unwrap().len());
    assert_eq!(rows.len(), known[0] + known[1]);
    for [what, expected, found, difference, outcome] in &rows {
        assert!(what.starts_with("cosine of the "), "{what}");
        assert_eq!(expected, "1.000000");
        let cosine: f32 = found.parse().unwrap();
        assert!((cosine - 1.0).abs() <= 1e-5, "{what}: {cosine}");
        let difference: f32 = difference.parse().unwrap();
        assert!(difference < 1e-4, "{what}: {difference}");
        assert_eq!(outcome, "right");
    }
    assert_eq!(browser.script(NOTES, vec![]).await.unwrap(), json!([]));
}

/// The demo with one number of its record changed.
fn changed(name: &str) -> PathBuf {
    let files = [
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "preprocessor_config.json",
    ];
    let changed = copy(name, "www/demo/clip", &files);
    let golden = std::fs::read(root().join("www/demo/clip/golden.json")).unwrap();
    let mut golden: Value = serde_json::from_slice(&golden).unwrap();
    golden["pictures"]["rings"][0] = 0.5.into();
    std::fs::write(changed.join("golden.json"), golden.to_string()).unwrap();
    changed
}

#[tokio::test]
async fn a_model_that_gives_something_else_is_told_of() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let changed = changed("changed");
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    browser.open(&server.address()).await.unwrap();
    browser.choose_device("cpu").await.unwrap();
    give(&browser, &changed, "model.safetensors").await;
    let (said, rows) = check(&browser).await;
    println!("{said}\n{rows:#?}");
    assert!(
        said.starts_with("1 of 6 known numbers") && said.contains("Do not trust its numbers"),
        "{said}"
    );
    let wrong: Vec<_> = rows.iter().filter(|row| row[4] == "wrong").collect();
    assert_eq!(wrong.len(), 1);
    assert_eq!(wrong[0][0], "cosine of the picture \"rings\"");
    let error = "return document.querySelector('#error')?.textContent.includes('known numbers')";
    browser.until(error).await.unwrap();
}

/// Numbers that are recorded and not found on the graphics processor: the page
/// says so, and the CPU answers from then on, checked or not.
#[tokio::test]
async fn other_numbers_than_recorded_send_the_model_to_the_cpu() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let changed = changed("changed-on-gpu");
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    browser.open(&server.address()).await.unwrap();
    browser.choose_device("gpu").await.unwrap();
    give(&browser, &changed, "model.safetensors").await;
    let device = browser.device().await.unwrap();
    assert!(device.starts_with("WebGPU"), "{device}");
    let picture = std::fs::read(sample("red-house.png")).unwrap();
    browser
        .drop_files(&[("house.png", &picture)])
        .await
        .unwrap();
    let before = browser.scores("house.png").await.unwrap();
    assert_eq!(before[0].0, "house");

    let (said, rows) = check(&browser).await;
    println!("{said}\n{rows:#?}");
    assert!(said.starts_with("1 of 6 known numbers"), "{said}");
    assert!(said.contains("The CPU computes from now on"), "{said}");
    assert_eq!(rows.iter().filter(|row| row[4] == "wrong").count(), 1);
    let on_cpu = "return document.querySelector('#device-badge').dataset.kind === 'cpu'";
    browser.until(on_cpu).await.unwrap();
    same(&browser.scores("house.png").await.unwrap(), &before);
    // It is the record that is wrong, and so it is here; there is no way further down.
    let (said, _) = check(&browser).await;
    assert!(said.starts_with("1 of 6 known numbers"), "{said}");
    assert!(said.contains("Do not trust its numbers"), "{said}");
}

/// What is published about a model, looked for and found in the page: with its
/// picture among the pictures, and without.
#[tokio::test]
async fn what_is_published_is_held_against_what_is_found() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let stand_in = root().join("tests/golden/openai/vit");
    let model = copy(
        "published",
        "tests/golden/openai/vit",
        &["model.pt", "published.json"],
    );
    let tokenizer = root().join("www/demo/clip/tokenizer.json");
    std::fs::copy(tokenizer, model.join("tokenizer.json")).unwrap();
    // The page reads no pickles: as it says, the archive is packed.
    let packed = model.join("model.gguf");
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let archive = path(&model.join("model.pt"));
    well(&[
        "pack",
        "--from",
        &archive,
        "--to",
        &path(&packed),
        "--dtype",
        "f16",
    ]);
    std::fs::remove_file(model.join("model.pt")).unwrap();

    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    browser.open(&server.address()).await.unwrap();
    browser.choose_device("cpu").await.unwrap();
    give(&browser, &model, "model.gguf").await;
    let (_, rows) = check(&browser).await;
    assert!(rows.is_empty(), "{rows:#?}");
    let notes = browser.script(NOTES, vec![]).await.unwrap();
    assert!(
        notes[0]
            .as_str()
            .unwrap()
            .contains("add picture.png beside it"),
        "{notes}"
    );

    let picture = std::fs::read(stand_in.join("picture.png")).unwrap();
    browser
        .drop_files(&[("picture.png", &picture)])
        .await
        .unwrap();
    browser.scores("picture.png").await.unwrap();
    let (said, rows) = check(&browser).await;
    println!("{said}\n{rows:#?}");
    assert!(said.contains("give what their references give"), "{said}");
    let published = std::fs::read(stand_in.join("published.json")).unwrap();
    let published: Value = serde_json::from_slice(&published).unwrap();
    assert_eq!(rows.len(), 3);
    for (i, [what, expected, found, _, outcome]) in rows.iter().enumerate() {
        let text = published["texts"][i].as_str().unwrap();
        assert_eq!(*what, format!("probability of \"{text}\""));
        let probability = published["probabilities"][i].as_f64().unwrap();
        assert_eq!(*expected, format!("{probability:.6}"));
        let found: f64 = found.parse().unwrap();
        assert!((found - probability).abs() < 1e-3, "{what}: {found}");
        assert_eq!(outcome, "right");
    }
}

#[tokio::test]
async fn a_resnet_and_a_siglip_given_as_files_answer_as_the_command() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let resnet = copy(
        "resnet",
        "tests/golden/clip/rn",
        &["open_clip_model.safetensors", "open_clip_config.json"],
    );
    let specials = [("<unk>", 0), ("<|startoftext|>", 46), ("<|endoftext|>", 47)];
    std::fs::write(resnet.join("tokenizer.json"), tokenizer(&specials)).unwrap();
    let siglip = copy(
        "siglip",
        "tests/golden/clip/siglip",
        &[
            "model.safetensors",
            "config.json",
            "preprocessor_config.json",
        ],
    );
    let specials = [("<unk>", 2), ("</s>", 1)];
    std::fs::write(siglip.join("tokenizer.json"), tokenizer(&specials)).unwrap();
    let mut record = Command::new(plume());
    record.arg("verify").arg(&siglip).arg("--record");
    let record = record.arg(siglip.join("golden.json")).output();
    printed(record.unwrap()).unwrap();

    // Wide, so that cutting its middle out and squashing it differ.
    let picture = folder("picture").join("wide.png");
    image::RgbImage::from_fn(90, 40, |x, y| {
        image::Rgb([x as u8 * 2, y as u8 * 6, ((x / 9 + y / 8) % 2 * 200) as u8])
    })
    .save(&picture)
    .unwrap();
    let bytes = std::fs::read(&picture).unwrap();

    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    browser.open(&server.address()).await.unwrap();
    browser.choose_device("cpu").await.unwrap();
    browser.drop_files(&[("wide.png", &bytes)]).await.unwrap();
    browser.scores("wide.png").await.unwrap();
    for (model, name, sum) in [
        (&resnet, "open_clip_model.safetensors", true),
        (&siglip, "model.safetensors", false),
    ] {
        give(&browser, model, name).await;
        let expected = classified(model, &picture, &LABELS, &TEMPLATES);
        let whole: f32 = expected.iter().map(|row| row.2).sum();
        assert_eq!((whole - 1.0).abs() < 1e-3, sum, "{name}: {whole}");
        let best = format!(
            "const bar = document.querySelector('.picture-card [data-label=\"{}\"]');
             return bar && Math.abs(+bar.dataset.cosine - {}) < 1e-4",
            expected[0].0, expected[0].1
        );
        browser.until(&best).await.unwrap();
        same(&browser.scores("wide.png").await.unwrap(), &expected);
        println!("{name}: {expected:?}");
    }

    // Beside the SigLIP lies what was recorded of it; of the ResNet nothing is.
    let (said, rows) = check(&browser).await;
    assert!(said.contains("give what their references give"), "{said}");
    assert_eq!(rows.len(), 6);
    assert!(rows.iter().all(|row| row[4] == "right"), "{rows:#?}");
    give(&browser, &resnet, "open_clip_model.safetensors").await;
    let (said, rows) = check(&browser).await;
    assert!(said.contains("give what their references give"), "{said}");
    assert!(rows.is_empty(), "{rows:#?}");
    assert_eq!(
        browser.script(NOTES, vec![]).await.unwrap(),
        json!(["No embeddings are recorded for this model."])
    );
}
