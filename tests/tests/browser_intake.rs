//! Every way in and out of the page, in a real Chromium: clipboard, folder,
//! camera, and the results as files.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::Path;
use std::time::{Duration, Instant};

use plume_tests::browser::{Browser, CAMERA, page, sample, serve};
use serde_json::{Value, json};
use thirtyfour::prelude::*;
use tokio::sync::Mutex;

/// One browser at a time: two cores are soon busy.
static TURN: Mutex<()> = Mutex::const_new(());

/// An empty folder of the test's own.
fn folder(name: &str) -> std::path::PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[tokio::test]
async fn a_picture_is_pasted_from_the_clipboard() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    browser.open(&server.address()).await.unwrap();
    let permissions = json!({"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]});
    let tools = browser.driver.cdp();
    tools
        .send_raw("Browser.grantPermissions", permissions)
        .await
        .unwrap();
    let copy = "window.copied = null;
        fetch('./demo/samples/red-house.png').then(answer => answer.blob()).then(blob =>
            navigator.clipboard.write([new ClipboardItem({ 'image/png': blob })]))
            .then(() => window.copied = 'yes', error => window.copied = `${error}`)";
    browser.script(copy, vec![]).await.unwrap();
    assert_eq!(browser.until("return window.copied").await.unwrap(), "yes");
    let keys = browser.driver.action_chain();
    keys.key_down(Key::Control)
        .send_keys("v")
        .key_up(Key::Control)
        .perform()
        .await
        .unwrap();
    // The clipboard knows no names: browsers call it so.
    let scores = browser.scores("image.png").await.unwrap();
    assert_eq!(scores[0].0, "house");
}

#[tokio::test]
async fn a_folder_is_chosen_with_all_that_is_in_it() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let folder = folder("folder-of-pictures");
    std::fs::create_dir_all(folder.join("deeper")).unwrap();
    std::fs::copy(sample("red-house.png"), folder.join("house.png")).unwrap();
    std::fs::copy(sample("blue-fish.png"), folder.join("deeper/fish.png")).unwrap();
    std::fs::write(folder.join("notes.txt"), "a list of things").unwrap();
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    browser.open(&server.address()).await.unwrap();
    browser
        .choose_files("#folder-input", std::slice::from_ref(&folder))
        .await
        .unwrap();
    assert_eq!(browser.scores("house.png").await.unwrap()[0].0, "house");
    assert_eq!(browser.scores("fish.png").await.unwrap()[0].0, "fish");
    let names =
        "return [...document.querySelectorAll('.picture-card')].map(c => c.dataset.name).sort()";
    let found = browser.script(names, vec![]).await.unwrap();
    assert_eq!(
        found,
        json!(["fish.png", "house.png"]),
        "notes are no picture"
    );
}

#[tokio::test]
async fn the_camera_takes_a_picture_and_is_off_afterwards() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::with(&CAMERA).await.unwrap();
    browser.open(&server.address()).await.unwrap();
    browser
        .script("document.querySelector('#camera').click()", vec![])
        .await
        .unwrap();
    let ready = "const video = document.querySelector('dialog.camera video');
        window.track = video?.srcObject?.getTracks()[0];
        return video?.videoWidth > 0 && !document.querySelector('#take-picture').disabled";
    browser.until(ready).await.unwrap();
    browser
        .script("document.querySelector('#take-picture').click()", vec![])
        .await
        .unwrap();
    // What the pretended camera shows fits no label well; it is a picture.
    assert_eq!(browser.scores("camera.png").await.unwrap().len(), 8);
    let size = "const picture = document.querySelector('.picture-card img');
        return picture.naturalWidth > 100 && picture.naturalHeight > 100";
    browser.until(size).await.unwrap();
    let off =
        "return window.track.readyState === 'ended' && !document.querySelector('dialog.camera')";
    browser.until(off).await.unwrap();
}

#[tokio::test]
async fn a_camera_that_is_refused_is_told_in_words() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    // This machine has no camera, or nobody who would allow it.
    let browser = Browser::with(&["--deny-permission-prompts"]).await.unwrap();
    browser.open(&server.address()).await.unwrap();
    browser
        .script("document.querySelector('#camera').click()", vec![])
        .await
        .unwrap();
    let told = "return document.querySelector('dialog.camera [role=alert]')?.textContent";
    let message = browser.until(told).await.unwrap();
    assert!(
        message.as_str().unwrap().contains("choose a file"),
        "{message}"
    );
    let disabled = "return document.querySelector('#take-picture').disabled";
    assert_eq!(browser.script(disabled, vec![]).await.unwrap(), true);
}

/// Waits for a file that the browser saves: an empty one holds the name until all of it is there.
async fn saved(path: &Path) -> String {
    let begun = Instant::now();
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if !text.is_empty() => return text,
            _ => {}
        }
        assert!(
            begun.elapsed() < Duration::from_secs(100),
            "{path:?} does not come"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn the_results_are_saved_as_they_are_shown() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let folder = folder("downloads");
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    browser.open(&server.address()).await.unwrap();
    let behaviour = json!({"behavior": "allow", "downloadPath": folder.canonicalize().unwrap()});
    let tools = browser.driver.cdp();
    tools
        .send_raw("Browser.setDownloadBehavior", behaviour)
        .await
        .unwrap();
    let names = ["a \"quoted\", name.png", "cat.png"];
    let house = std::fs::read(sample("red-house.png")).unwrap();
    let cat = std::fs::read(sample("orange-cat.png")).unwrap();
    browser
        .drop_files(&[
            (names[0], &house),
            (names[1], &cat),
            ("letter.png", b"Dear Plume"),
        ])
        .await
        .unwrap();
    // In the order of the labels, as the page knows them.
    let shown = "const cards = [...document.querySelectorAll('.picture-card')];
        if (cards.filter(card => card.querySelector('.bars')).length !== 2) return null;
        return Object.fromEntries(cards.map(card => [card.dataset.name, Object.fromEntries(
            [...card.querySelectorAll('[data-label]')].map(bar =>
                [bar.dataset.label, [+bar.dataset.cosine, +bar.dataset.probability]]))]))";
    let shown = browser.until(shown).await.unwrap();
    browser
        .until("return document.querySelector('.picture-card .failed')")
        .await
        .unwrap();
    browser
        .script("document.querySelector('#export-csv').click()", vec![])
        .await
        .unwrap();
    let csv = saved(&folder.join("plume.csv")).await;
    browser
        .script("document.querySelector('#export-json').click()", vec![])
        .await
        .unwrap();
    let json: Value = serde_json::from_str(&saved(&folder.join("plume.json")).await).unwrap();

    let labels: Vec<&str> = json["labels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l.as_str().unwrap())
        .collect();
    let equal = |name: &str, label: &str, cosine: f64, probability: f64| {
        let row = &shown[name][label];
        let (a, b) = (row[0].as_f64().unwrap(), row[1].as_f64().unwrap());
        assert!(
            (a - cosine).abs() < 1e-6 && (b - probability).abs() < 1e-6,
            "{name}, {label}"
        );
    };
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert_eq!(lines[0], "picture,label,cosine,probability");
    assert_eq!(lines.len(), 1 + 2 * labels.len() + 1, "{csv}");
    let mut rows = lines[1..].iter();
    for name in names {
        let written = name.replace('"', "\"\"");
        let head = if name == written {
            name.to_owned()
        } else {
            format!("\"{written}\"")
        };
        for label in &labels {
            let line = rows.next().unwrap();
            let rest = line
                .strip_prefix(&format!("{head},{label},"))
                .unwrap_or_else(|| panic!("{line}"));
            let (cosine, probability) = rest.split_once(',').unwrap();
            equal(
                name,
                label,
                cosine.parse().unwrap(),
                probability.parse().unwrap(),
            );
        }
    }

    assert_eq!(json["model"]["name"], "Plume's drawings");
    assert_eq!(json["templates"][1], "a drawing of a {}");
    let images = json["images"].as_array().unwrap();
    assert_eq!(images.len(), 3);
    for image in images {
        let name = image["image"].as_str().unwrap();
        let Some(scores) = image["scores"].as_array() else {
            assert_eq!(name, "letter.png");
            assert!(image["error"].as_str().unwrap().contains("not a picture"));
            continue;
        };
        assert_eq!(scores.len(), labels.len());
        for score in scores {
            let number = |key: &str| score[key].as_f64().unwrap();
            equal(
                name,
                score["label"].as_str().unwrap(),
                number("cosine"),
                number("probability"),
            );
        }
    }
}
