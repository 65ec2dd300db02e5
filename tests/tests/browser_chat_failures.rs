//! What goes wrong while an answer is written, in a real Chromium: words say
//! what happened and what to do, the answer so far stays, and one can go on.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::{Path, PathBuf};

use plume_core::config::flamingo::FlamingoConfig;
use plume_tests::browser::{Browser, page, serve};
use plume_tests::chatting::{
    NAME, act, answer, choose_task, click, give, open, put_sample, reading, send, set, small,
    type_into, visit,
};
use plume_tests::root;
use plume_tests::writers::{Endless, small_flamingo, write_flamingo};
use serde_json::json;
use tokio::sync::Mutex;

/// One browser at a time: two cores are soon busy.
static TURN: Mutex<()> = Mutex::const_new(());

const ERROR: &str = "return document.querySelector('#error')?.textContent";
/// Why the last answer is not whole.
const FAILED: &str = "return document.querySelector('.turn:last-child .failed')?.textContent";

/// Waits for a message with these words.
async fn told(browser: &Browser, script: &str, words: &[&str]) {
    let message = browser.until(script).await.unwrap();
    let message = message.as_str().unwrap();
    println!("{message}");
    for word in words {
        assert!(message.contains(word), "no “{word}” in: {message}");
    }
}

/// Begins an answer that is far from done → what of it is on the page.
async fn begin(browser: &Browser) -> String {
    set(browser, "#most", "2000").await;
    put_sample(browser, 1).await;
    click(browser, "#send").await;
    let said = "return document.querySelector('.turn:last-child .answer')?.dataset.answer";
    let said = browser.until(said).await.unwrap();
    said.as_str().unwrap().to_owned()
}

/// Goes on with the last answer, which must keep its beginning.
async fn go_on(browser: &Browser, begun: &str) -> String {
    set(browser, "#most", "12").await;
    click(browser, ".turn:last-child [data-act='go-on']").await;
    let whole = answer(browser).await;
    assert!(
        whole.starts_with(begun) && whole.len() > begun.len(),
        "{begun}\n{whole}"
    );
    let failed = browser.script(FAILED, vec![]).await.unwrap();
    assert!(failed.is_null(), "{failed}");
    whole
}

#[tokio::test]
async fn a_device_lost_in_mid_answer_leaves_what_was_written() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    open(&browser, &server.address(), &reading("lost", 4096)).await;
    browser.choose_device("gpu").await.unwrap();
    let lose = async || {
        // The command ends its own connection now and then; what counts is what
        // the page sees.
        let tools = browser.driver.cdp();
        let _ = tools.send_raw("Browser.crashGpuProcess", json!({})).await;
        answer(&browser).await
    };

    let first = begin(&browser).await;
    let begun = lose().await;
    assert!(begun.starts_with(&first), "{begun}");
    told(&browser, FAILED, &["the GPU was lost"]).await;
    told(&browser, ERROR, &["opened again now", "gone on with"]).await;
    let device = browser.device().await.unwrap();
    assert!(device.contains("WebGPU"), "{device}");
    let whole = go_on(&browser, &begun).await;

    // Lost again, it is left to the person what computes.
    let first = begin(&browser).await;
    let begun = lose().await;
    assert!(begun.starts_with(&first), "{begun}");
    let offer = "return document.querySelector('#model-error button')?.textContent";
    assert_eq!(browser.until(offer).await.unwrap(), "Compute on the CPU");
    act(
        &browser,
        "document.querySelector('#model-error button').click()",
    )
    .await;
    let device = browser.device().await.unwrap();
    assert!(device.starts_with("CPU"), "{device}");
    go_on(&browser, &begun).await;
    let before = "return document.querySelector('.turn .answer').dataset.answer";
    assert_eq!(browser.script(before, vec![]).await.unwrap(), json!(whole));
}

/// A model whose text takes much memory: 32 KiB for each token, so that 2,048
/// of them alone are more than there is.
fn hungry() -> PathBuf {
    let folder = root().join("target/tmp-chat/hungry");
    let mut config: FlamingoConfig = small_flamingo();
    config.lm.context = 4096;
    config.lm.layers = 64;
    write_flamingo(&folder, &config, &Endless(5)).unwrap();
    folder.canonicalize().unwrap()
}

#[tokio::test]
async fn memory_that_runs_out_leaves_what_was_written() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    // 48 MiB are all that WebAssembly may have.
    let little = "--js-flags=--wasm-max-mem-pages=768";
    let browser = Browser::with(&[little]).await.unwrap();
    open(&browser, &server.address(), &hungry()).await;
    browser.choose_device("cpu").await.unwrap();
    set(&browser, "#most", "12").await;
    put_sample(&browser, 1).await;
    let begun = send(&browser).await;
    assert!(!begun.is_empty());

    set(&browser, "#most", "2048").await;
    click(&browser, ".turn:last-child [data-act='go-on']").await;
    assert_eq!(answer(&browser).await, begun);
    told(&browser, FAILED, &["enough memory", "is kept"]).await;
    told(&browser, ERROR, &["enough memory", "tried again"]).await;
    // Asked at once: the model is on its way back.
    go_on(&browser, &begun).await;
    assert_eq!(browser.until(NAME).await.unwrap(), "model.safetensors");
}

/// The page, whose worker can be told that its graphics processor is full.
fn full_device() -> PathBuf {
    let from = root().join("dist");
    let to = root().join("target/tmp-chat/full");
    let _ = std::fs::remove_dir_all(&to);
    copy(&from, &to);
    let loader = to.join("worker_loader.js");
    let script = "const ask = GPUAdapter.prototype.requestDevice;
        GPUAdapter.prototype.requestDevice = async function (...how) {
            return self.device = await ask.apply(this, how);
        };
        self.addEventListener('message', event => {
            if (event.data !== 'full') return;
            event.stopImmediatePropagation();
            const error = new GPUOutOfMemoryError('no room for a buffer');
            device.dispatchEvent(new GPUUncapturedErrorEvent('uncapturederror', { error }));
        });\n";
    let loaded = std::fs::read_to_string(&loader).unwrap();
    std::fs::write(loader, format!("{script}{loaded}")).unwrap();
    to
}

fn copy(from: &Path, to: &Path) {
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

#[tokio::test]
async fn a_device_that_is_full_in_mid_answer_leaves_what_was_written() {
    if page().is_none() {
        return;
    }
    let _turn = TURN.lock().await;
    let server = serve(&full_device());
    let browser = Browser::start().await.unwrap();
    let script = "const Native = Worker;
        window.Worker = class extends Native { constructor(...a) { super(...a); window.theWorker = this; } }";
    let tools = browser.driver.cdp();
    tools
        .send_raw(
            "Page.addScriptToEvaluateOnNewDocument",
            json!({ "source": script }),
        )
        .await
        .unwrap();
    open(&browser, &server.address(), &reading("full", 4096)).await;
    browser.choose_device("gpu").await.unwrap();
    let first = begin(&browser).await;
    act(&browser, "window.theWorker.postMessage('full')").await;
    let begun = answer(&browser).await;
    assert!(begun.starts_with(&first), "{begun}");
    told(&browser, FAILED, &["ran out of memory", "on the CPU"]).await;
    told(&browser, ERROR, &["ran out of memory", "opened again now"]).await;
    go_on(&browser, &begun).await;
}

#[tokio::test]
async fn a_model_that_is_not_there_is_told_and_another_goes_on() {
    if page().is_none() {
        return;
    }
    let _turn = TURN.lock().await;
    // Its own model is missing: what is asked waits for one that is there.
    let dist = root().join("target/tmp-chat/without");
    let _ = std::fs::remove_dir_all(&dist);
    copy(&root().join("dist"), &dist);
    std::fs::remove_dir_all(dist.join("demo/flamingo")).unwrap();
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    visit(&browser, &server.address()).await;
    let missing = "return document.querySelector('#model-error')?.textContent";
    told(&browser, missing, &["could not be fetched", "again"]).await;
    choose_task(&browser, 4).await;
    type_into(&browser, "#composer", "w1 w2").await;
    click(&browser, "#send").await;
    answer(&browser).await;
    told(&browser, FAILED, &["could not be fetched"]).await;
    give(&browser, &small("without")).await;
    set(&browser, "#most", "6").await;
    click(&browser, ".turn:last-child [data-act='again']").await;
    assert!(!answer(&browser).await.is_empty());
    drop(server);
    drop(browser);

    // One that was kept and is gone: the page's own takes its place.
    let server = serve(&root().join("dist"));
    let browser = Browser::start().await.unwrap();
    browser
        .driver
        .goto(format!("{}precache.json", server.address()))
        .await
        .unwrap();
    act(
        &browser,
        "localStorage.setItem('plume-chat-model', '\"someone/gone\"')",
    )
    .await;
    visit(&browser, &server.address()).await;
    told(&browser, ERROR, &["someone/gone", "Download it again"]).await;
    browser.device().await.unwrap();
    put_sample(&browser, 2).await;
    assert!(!send(&browser).await.is_empty());
}
