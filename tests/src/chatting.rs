//! The steps of a person in the chat, for its tests and measurements.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test stops where it fails"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use thirtyfour::By;

use crate::browser::Browser;
use crate::command::printed;
use crate::writers::{Endless, small_flamingo, write_flamingo};
use crate::{plume, root};

/// A small Flamingo of random weights, in its files.
pub fn small(name: &str) -> PathBuf {
    reading(name, 64)
}

/// The same for texts of so many tokens.
pub fn reading(name: &str, context: usize) -> PathBuf {
    let folder = root().join("target/tmp-chat").join(name);
    let mut config = small_flamingo();
    config.lm.context = context;
    write_flamingo(&folder, &config, &Endless(5)).unwrap();
    folder.canonicalize().unwrap()
}

/// A copy of the page whose worker first runs a script.
pub fn page_whose_worker(name: &str, script: &str) -> PathBuf {
    let to = root().join("target/tmp-chat").join(name);
    let _ = std::fs::remove_dir_all(&to);
    copy(&root().join("dist"), &to);
    let loader = to.join("worker_loader.js");
    let loaded = std::fs::read_to_string(&loader).unwrap();
    std::fs::write(loader, format!("{script}{loaded}")).unwrap();
    to
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Gives the name of the model of now.
pub const NAME: &str = "return document.querySelector('.model-name')?.textContent";

/// Runs a script.
pub async fn act(browser: &Browser, script: &str) {
    browser.script(script, vec![]).await.unwrap();
}

/// Clicks as a person does, where the element can be seen.
pub async fn click(browser: &Browser, css: &str) {
    let element = browser.driver.find(By::Css(css)).await.unwrap();
    element.scroll_into_view().await.unwrap();
    element.click().await.unwrap();
}

/// Types at the end of a field.
pub async fn type_into(browser: &Browser, css: &str, text: &str) {
    let element = browser.driver.find(By::Css(css)).await.unwrap();
    element.send_keys(text).await.unwrap();
}

/// Sets a field to a value.
pub async fn set(browser: &Browser, css: &str, value: &str) {
    let script = "const field = document.querySelector(arguments[0]);
        field.value = arguments[1];
        field.dispatchEvent(new Event('input', { bubbles: true }));
        field.dispatchEvent(new Event('change', { bubbles: true }));";
    let arguments = vec![json!(css), json!(value)];
    browser.script(script, arguments).await.unwrap();
}

/// Opens the chat and gives it a model from disk: a folder, or a packed file.
pub async fn open(browser: &Browser, address: &str, model: &Path) {
    visit(browser, address).await;
    give(browser, model).await;
}

/// Opens the chat, and waits for the model that comes with the page, or until it
/// is told to be missing.
pub async fn visit(browser: &Browser, address: &str) {
    browser
        .driver
        .goto(format!("{address}#chat"))
        .await
        .unwrap();
    browser
        .until("return document.querySelector('main.chat')")
        .await
        .unwrap();
    browser
        .until("return document.querySelector('#device-badge').dataset.kind !== 'loading'")
        .await
        .unwrap();
}

/// Gives the page a model from disk, as [`open`].
pub async fn give(browser: &Browser, model: &Path) {
    let files = if model.is_dir() {
        let files = ["model.safetensors", "config.json", "tokenizer.json"];
        files.map(|name| model.join(name)).to_vec()
    } else {
        vec![model.to_owned()]
    };
    browser.choose_files("#model-input", &files).await.unwrap();
    let name = json!(files[0].file_name().unwrap().to_str());
    browser
        .until(&format!("return (() => {{ {NAME} }})() === {name}"))
        .await
        .unwrap();
}

/// Puts one of the page's samples into the composer.
pub async fn put_sample(browser: &Browser, nth: usize) {
    let sample = format!(".composer-samples .sample:nth-child({nth})");
    let there = format!("return document.querySelector('{sample}') !== null");
    if browser.script(&there, vec![]).await.unwrap() == json!(false) {
        click(browser, "#chat-samples").await;
        browser.until(&there).await.unwrap();
    }
    let pictures = "return document.querySelectorAll('#composer .media').length";
    let before = browser.script(pictures, vec![]).await.unwrap();
    click(browser, &sample).await;
    let more = format!("return document.querySelectorAll('#composer .media').length > {before}");
    browser.until(&more).await.unwrap();
}

/// Chooses a task by its place.
pub async fn choose_task(browser: &Browser, nth: usize) {
    let button = format!("document.querySelector('#tasks button:nth-child({nth})').click()");
    act(browser, &button).await;
}

/// Loads a set that comes with the page.
pub async fn ready_made(browser: &Browser, name: &str, shots: usize) {
    let button = format!("document.querySelector('.ready-made [data-set=\"{name}\"]')");
    browser.until(&format!("return {button}")).await.unwrap();
    act(browser, &format!("{button}.click()")).await;
    let there = format!(
        "return document.querySelectorAll('.shot .media').length === {shots}
            && document.querySelector('#composer .media') !== null"
    );
    browser.until(&there).await.unwrap();
}

/// Sends what the composer holds → the answer, as it was written.
pub async fn send(browser: &Browser) -> String {
    click(browser, "#send").await;
    answer(browser).await
}

/// Waits for the last answer.
pub async fn answer(browser: &Browser) -> String {
    browser
        .until(
            "const last = [...document.querySelectorAll('.turn')].pop();
             return last?.getAttribute('aria-busy') === 'false'
                && (last.querySelector('.timings') ?? last.querySelector('.failed')) !== null",
        )
        .await
        .unwrap();
    let text = "return [...document.querySelectorAll('.turn .answer')].pop().dataset.answer";
    let text = browser.script(text, vec![]).await.unwrap();
    text.as_str().unwrap().to_owned()
}

/// The prompt that the page shows, as a file for the command, with the
/// pictures that stand in it.
pub async fn prompt_file(browser: &Browser, pictures: &[PathBuf], folder: &Path) -> PathBuf {
    let text = browser
        .until("return document.querySelector('#raw-prompt').textContent")
        .await
        .unwrap();
    let mut pictures = pictures.iter();
    let mut segments = Vec::new();
    for (i, words) in text.as_str().unwrap().split("<image>").enumerate() {
        if i > 0 {
            segments.push(json!({"image": pictures.next().unwrap().canonicalize().unwrap()}));
        }
        if !words.is_empty() {
            segments.push(json!({"text": words}));
        }
    }
    assert!(pictures.next().is_none(), "{text}");
    let path = folder.join("prompt.json");
    std::fs::write(&path, json!({"segments": segments}).to_string()).unwrap();
    path
}

/// The pictures of a set that comes with the page, the one to try it on last.
pub fn pictures_of(set: &str) -> Vec<PathBuf> {
    let demo = root().join("www/demo");
    let json = std::fs::read_to_string(demo.join("shots/index.json")).unwrap();
    let sets: Vec<Value> = serde_json::from_str(&json).unwrap();
    let set = sets.iter().find(|one| one["name"] == set).unwrap();
    let shots = set["shots"].as_array().unwrap().iter();
    let shots = shots.chain([&set["try"]]);
    let picture = |shot: &Value| demo.join(shot["picture"].as_str().unwrap());
    shots.map(picture).collect()
}

/// What `plume generate` writes after a prompt, with its options.
pub fn generated(model: &Path, prompt: &Path, options: &[&str]) -> String {
    let mut command = Command::new(plume());
    command.args(["generate", "--json", "--model"]);
    command.arg(model).arg("--prompt").arg(prompt).args(options);
    let json = printed(command.output().unwrap()).unwrap();
    let written: Value = serde_json::from_str(&json).unwrap();
    written["text"].as_str().unwrap().trim().to_owned()
}

/// The text of the last file that the page saved.
pub async fn saved(browser: &Browser, css: &str) -> String {
    let listen = "window.saved = null;
        const make = URL.createObjectURL;
        URL.createObjectURL = blob => {
            if (blob.type === 'application/json') blob.text().then(text => { window.saved = text; });
            return make.call(URL, blob);
        };
        document.querySelector(arguments[0]).click();";
    browser.script(listen, vec![json!(css)]).await.unwrap();
    let text = browser.until("return window.saved").await.unwrap();
    text.as_str().unwrap().to_owned()
}

/// Draws a house on the pad of a dialogue, and puts it in.
pub async fn draw(browser: &Browser) {
    let pad = browser.driver.find(By::Id("chat-canvas")).await.unwrap();
    let mut chain = browser
        .driver
        .action_chain()
        .move_to_element_with_offset(&pad, -90, -10)
        .click_and_hold();
    for (x, y) in [(0, -100), (90, -10), (-90, -10)] {
        chain = chain.move_to_element_with_offset(&pad, x, y);
    }
    chain.release().perform().await.unwrap();
    click(browser, "#put-drawing").await;
}

/// Drops a clip of a second on the page, `clip.webm`, recorded by the browser
/// itself.
pub async fn record_clip(browser: &Browser) {
    let record = "const canvas = document.createElement('canvas');
        canvas.width = 96; canvas.height = 64;
        const context = canvas.getContext('2d');
        const recorder = new MediaRecorder(canvas.captureStream(20), { mimeType: 'video/webm' });
        const parts = [];
        recorder.ondataavailable = event => parts.push(event.data);
        recorder.onstop = () => {
            const data = new DataTransfer();
            data.items.add(new File(parts, 'clip.webm', { type: 'video/webm' }));
            document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
        };
        recorder.start();
        let n = 0;
        const paint = setInterval(() => {
            context.fillStyle = n % 2 ? 'red' : 'blue';
            context.fillRect(0, 0, 96, 64);
            if (++n === 24) { clearInterval(paint); recorder.stop(); }
        }, 50);";
    act(browser, record).await;
}
