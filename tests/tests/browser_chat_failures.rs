//! What goes wrong while an answer is written, in a real Chromium: words say
//! what happened and what to do, the answer so far stays, and one can go on.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::PathBuf;

use plume_core::config::flamingo::FlamingoConfig;
use plume_tests::browser::{Browser, page, serve};
use plume_tests::chatting::{
    NAME, act, answer, choose_task, click, copy, give, open, page_whose_worker, put_sample,
    reading, ready_made, send, set, small, type_into, visit,
};
use plume_tests::root;
use plume_tests::writers::{Endless, small_flamingo, write_flamingo};
use serde_json::json;
use tokio::sync::Mutex;

/// One browser at a time: two cores are soon busy.
static TURN: Mutex<()> = Mutex::const_new(());

/// What will be left out.
const CUT: &str = "return document.querySelector('#cut .cut')?.textContent";
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

/// A model's coming is held back from the page while `holding`.
const HOLD: &str = "const Native = Worker;
    window.held = []; window.holding = true; window.wishes = [];
    window.Worker = class extends Native {
        set onmessage(handle) {
            super.onmessage = handle && (event => {
                const held = window.holding && event.data[0]?.Chat?.Loaded;
                if (held) window.held.push(() => handle(event)); else handle(event);
            });
        }
        postMessage(message, ...more) {
            wishes.push(Object.keys(message[0]?.Chat ?? {})[0]);
            super.postMessage(message, ...more);
        }
    };
    window.letGo = () => { window.holding = false; held.splice(0).forEach(go => go()); };";

/// Stops what is being answered, which ends at once.
async fn stop(browser: &Browser, said: &str) {
    browser
        .until("return document.querySelector('#stop')")
        .await
        .unwrap();
    click(browser, "#stop").await;
    let soon = std::time::Duration::from_secs(5);
    browser
        .until_within("return document.querySelector('#send')", soon)
        .await
        .unwrap();
    told(browser, FAILED, &[said]).await;
}

#[tokio::test]
async fn what_waits_for_a_model_stops_at_once_and_the_answer_before_stays() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    let tools = browser.driver.cdp();
    tools
        .send_raw(
            "Page.addScriptToEvaluateOnNewDocument",
            json!({ "source": HOLD }),
        )
        .await
        .unwrap();
    let address = server.address();
    let chat = format!("{address}#chat");
    browser.driver.goto(chat).await.unwrap();
    browser
        .until("return document.querySelector('main.chat')")
        .await
        .unwrap();
    choose_task(&browser, 4).await;
    type_into(&browser, "#composer", "w1 w2").await;
    click(&browser, "#send").await;
    stop(&browser, "Stopped.").await;

    // The model comes: nothing is written any more.
    browser
        .until("return window.held.length > 0")
        .await
        .unwrap();
    act(&browser, "window.letGo()").await;
    browser.device().await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let asked = "return window.wishes.includes('Write')";
    assert_eq!(browser.script(asked, vec![]).await.unwrap(), json!(false));
    give(&browser, &small("stopped")).await;
    set(&browser, "#most", "6").await;
    click(&browser, ".turn [data-act='again']").await;
    let written = answer(&browser).await;
    assert!(!written.is_empty());

    // Answered once more while the next model is on its way.
    act(
        &browser,
        "window.holding = true;
        const select = document.querySelector('#device-select');
        select.value = 'gpu'; select.dispatchEvent(new Event('change', { bubbles: true }))",
    )
    .await;
    browser
        .until("return document.querySelector('#device-badge').dataset.kind === 'loading'")
        .await
        .unwrap();
    click(&browser, ".turn [data-act='again']").await;
    let before = format!(
        "return document.querySelector('.turn .answered.before .answer')?.dataset.answer === {}",
        json!(written)
    );
    browser.until(&before).await.unwrap();
    stop(&browser, "Stopped.").await;
    let said = "return document.querySelector('.turn .answer').dataset.answer";
    assert_eq!(browser.script(said, vec![]).await.unwrap(), json!(written));
    let versions = "return document.querySelector('.turn .versions')";
    assert!(browser.script(versions, vec![]).await.unwrap().is_null());
}

#[tokio::test]
async fn a_comparison_stops_at_once() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    open(&browser, &server.address(), &reading("compared", 4096)).await;
    act(
        &browser,
        "document.querySelector('#modes button:nth-child(2)').click()",
    )
    .await;
    let answer = |n: usize| format!("w{} w{} w{}\n", n % 150, n / 150, n % 7);
    let answers: String = (0..5_000).map(answer).collect();
    set(&browser, "#choices-input", &answers).await;
    put_sample(&browser, 1).await;
    click(&browser, "#send").await;
    stop(&browser, "Stopped.").await;

    // The worker is free as well.
    act(
        &browser,
        "document.querySelector('#modes button:nth-child(1)').click()",
    )
    .await;
    set(&browser, "#most", "4").await;
    put_sample(&browser, 2).await;
    click(&browser, "#send").await;
    let soon = std::time::Duration::from_secs(10);
    let said = "return document.querySelector('.turn:last-child .timings')";
    browser.until_within(said, soon).await.unwrap();
}

#[tokio::test]
async fn what_is_half_written_is_found_after_a_reload() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    let model = reading("half", 16384);
    open(&browser, &server.address(), &model).await;
    begin(&browser).await;
    let kept = "return (async () => {
        const asked = request => new Promise((done, failed) => {
            request.onsuccess = () => done(request.result); request.onerror = failed; });
        const database = await asked(indexedDB.open('plume-chat'));
        const records = database.transaction('records').objectStore('records');
        const all = await asked(records.getAll());
        database.close();
        const turn = all.map(record => JSON.parse(record).turns?.[0]).find(turn => turn);
        return turn?.outcome === 'Busy' && turn.answer.trim(); })()";
    let kept = browser.until(kept).await.unwrap();
    browser.driver.goto("about:blank").await.unwrap();
    visit(&browser, &server.address()).await;
    let said = "return document.querySelector('.turn .answer')?.dataset.answer";
    let begun = browser.until(said).await.unwrap();
    let begun = begun.as_str().unwrap();
    assert!(begun.starts_with(kept.as_str().unwrap()), "{begun} {kept}");
    browser
        .until("return document.querySelector('.turn .timings').textContent.includes('stopped')")
        .await
        .unwrap();
    give(&browser, &model).await;
    go_on(&browser, begun).await;
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
    page_whose_worker("full", script)
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

#[tokio::test]
async fn a_turn_that_is_changed_waits_for_the_answer_that_is_written() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    open(&browser, &server.address(), &reading("waits", 4096)).await;
    set(&browser, "#most", "4").await;
    put_sample(&browser, 1).await;
    send(&browser).await;
    click(&browser, ".turn [data-act='edit']").await;
    let begun = begin(&browser).await;
    // To go on from the first turn would cut the second away in mid-answer.
    let state = "const acts = ['ask-again', 'save'].map(act =>
            document.querySelector(`.edit [data-act=\"${act}\"]`));
        const disabled = acts.map(button => button.disabled);
        acts.forEach(button => button.click());
        return [...disabled, document.querySelectorAll('.turn').length]";
    let state = browser.script(state, vec![]).await.unwrap();
    assert_eq!(state, json!([true, true, 2]));
    click(&browser, "#stop").await;
    assert!(answer(&browser).await.starts_with(&begun));
    set(&browser, "#most", "4").await;
    click(&browser, ".edit [data-act='ask-again']").await;
    let alone = "const turns = document.querySelectorAll('.turn');
        return turns.length === 1 && turns[0].querySelector('.edit') === null";
    browser.until(alone).await.unwrap();
    assert!(!answer(&browser).await.is_empty());
}

#[tokio::test]
async fn what_does_not_fit_is_told_before_and_after() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    open(&browser, &server.address(), &small("cut")).await;
    ready_made(&browser, "Made-up kinds", 8).await;
    act(
        &browser,
        "document.querySelectorAll('.shot [title=\"Duplicate\"]').forEach(b => b.click())",
    )
    .await;
    let told = browser.until(CUT).await.unwrap();
    assert!(
        told.as_str().unwrap().contains("will be left out"),
        "{told}"
    );

    // Answers that are compared need no more room than the longest of them.
    act(
        &browser,
        "document.querySelector('#modes button:nth-child(2)').click()",
    )
    .await;
    set(&browser, "#choices-input", "w3\nw4 w5 w6").await;
    let fits = |pictures: usize| {
        format!(
            "return document.querySelector('#cut .cut') === null
                && document.querySelector('#raw-prompt').textContent.split('<image>').length === {}",
            pictures + 1
        )
    };
    browser.until(&fits(17)).await.unwrap();
    let left_out = "return document.querySelector('.turn:last-child .left-out')?.textContent";
    let likely = "return document.querySelectorAll('.turn:last-child .likely').length";
    send(&browser).await;
    assert_eq!(browser.script(likely, vec![]).await.unwrap(), 2);
    assert!(browser.script(left_out, vec![]).await.unwrap().is_null());

    // A long one needs all of its room; what made it is told with the answer.
    put_sample(&browser, 1).await;
    browser.until(&fits(18)).await.unwrap();
    set(
        &browser,
        "#choices-input",
        &format!("w3\n{}", "w4 ".repeat(20)),
    )
    .await;
    let before = browser.until(CUT).await.unwrap();
    let before = before.as_str().unwrap();
    assert!(before.contains("examples will be left out"), "{before}");
    send(&browser).await;
    assert_eq!(browser.script(likely, vec![]).await.unwrap(), 2);
    let after = browser.script(left_out, vec![]).await.unwrap();
    assert_eq!(after, before.replace("will be", "were"));

    // The same is told of a turn that is changed.
    click(&browser, ".turn:last-child [data-act='edit']").await;
    let of_turn = "return document.querySelector('.edit .cut')?.textContent";
    assert_eq!(browser.until(of_turn).await.unwrap(), before);
}
