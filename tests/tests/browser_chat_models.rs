//! Packed Flamingos in the chat, from disk and through the library, and what a
//! long conversation costs, in a real Chromium.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::{Path, PathBuf};

use plume_core::config::flamingo::ResamplerKind;
use plume_tests::browser::{Browser, page, serve};
use plume_tests::chatting::{
    act, answer, click, generated, give, open, page_whose_worker, pictures_of, prompt_file,
    ready_made, send, set, small, visit,
};
use plume_tests::command::well;
use plume_tests::hub::Hub;
use plume_tests::root;
use plume_tests::writers::{Endless, small_flamingo, write_flamingo};
use tokio::sync::Mutex;

/// One browser at a time: two cores are soon busy.
static TURN: Mutex<()> = Mutex::const_new(());

/// A small Flamingo packed in one file.
fn packed(dtype: &str) -> PathBuf {
    let folder = small(&format!("packed-{dtype}"));
    let file = folder.join(format!("{dtype}.gguf"));
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let arguments = ["pack", "--dtype", dtype, "--from"].map(str::to_owned);
    let arguments = [&arguments[..], &[path(&folder), "--to".into(), path(&file)]].concat();
    well(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    file
}

/// Puts a set on the page → the prompt as a file.
async fn counting(browser: &Browser, folder: &Path) -> PathBuf {
    ready_made(browser, "Counting", 4).await;
    set(browser, "#most", "12").await;
    let whole =
        "return document.querySelector('#raw-prompt').textContent.split('<image>').length === 6";
    browser.until(whole).await.unwrap();
    prompt_file(browser, &pictures_of("Counting"), folder).await
}

#[tokio::test]
async fn a_packed_model_from_disk_writes_what_the_command_writes() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    visit(&browser, &server.address()).await;
    let models = ["q8_0", "q4_0"].map(packed);
    give(&browser, &models[0]).await;
    let prompt = counting(&browser, models[0].parent().unwrap()).await;
    let mut asked = false;
    for model in &models {
        give(&browser, model).await;
        for device in ["cpu", "gpu"] {
            browser.choose_device(device).await.unwrap();
            let written = if asked {
                click(&browser, ".turn [data-act='again']").await;
                answer(&browser).await
            } else {
                send(&browser).await
            };
            asked = true;
            let options = ["--greedy", "--max-new-tokens", "12", "--device", device];
            assert_eq!(
                written,
                generated(model, &prompt, &options),
                "{model:?} {device}"
            );
        }
    }
}

#[tokio::test]
async fn a_packed_model_is_opened_wherever_it_is_dropped() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    visit(&browser, &server.address()).await;
    let model = std::fs::read(packed("q4_0")).unwrap();
    for place in ["body", ".shots", "#composer"] {
        let name = format!("{}.gguf", place.trim_start_matches(['.', '#']));
        browser
            .drop_files_on(place, &[(&name, &model)])
            .await
            .unwrap();
        let named =
            format!("return document.querySelector('.model-name').textContent === '{name}'");
        browser.until(&named).await.unwrap();
    }
}

#[tokio::test]
async fn a_packed_model_comes_from_any_address_and_stays() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let model = packed("q8_0");
    let hub = Hub::start().unwrap();
    let bytes = std::fs::read(&model).unwrap();
    hub.publish("someone/flamingo", vec![("q8_0.gguf", bytes.into())]);
    let server = serve(&dist);
    let address = format!("{}?hub={}", server.address(), hub.address());
    let browser = Browser::start().await.unwrap();
    visit(&browser, &address).await;
    act(&browser, "document.querySelector('#model-button').click()").await;
    let add = async |address: &str| {
        let field = browser.driver.find(thirtyfour::By::Id("model-address"));
        let typed = format!("{address}\n");
        field.await.unwrap().send_keys(typed).await.unwrap();
    };
    let says = "return document.querySelector('#library-error, .offer[data-id=\"someone/none\"]')
        ?.textContent.includes('is not there')";
    add("someone/none").await;
    browser.until(says).await.unwrap();

    add("someone/flamingo").await;
    let offer = ".offer[data-id=\"someone/flamingo\"]";
    browser
        .until(&format!(
            "return document.querySelector('{offer}')?.dataset.place === 'here'"
        ))
        .await
        .unwrap();
    let used = format!("document.querySelector('{offer} [data-act=\"use\"]').click()");
    act(&browser, &used).await;
    let name = "return document.querySelector('.model-name').textContent === 'flamingo'";
    browser.until(name).await.unwrap();
    act(&browser, "document.querySelector('dialog[open]')?.close()").await;
    browser.choose_device("gpu").await.unwrap();
    let prompt = counting(&browser, model.parent().unwrap()).await;
    let options = ["--greedy", "--max-new-tokens", "12", "--device", "gpu"];
    assert_eq!(send(&browser).await, generated(&model, &prompt, &options));

    // The next visit begins with it, and the hub is not asked.
    hub.asked();
    browser.driver.goto("about:blank").await.unwrap();
    visit(&browser, &address).await;
    browser.until(name).await.unwrap();
    assert_eq!(hub.asked(), []);
}

#[tokio::test]
async fn a_model_from_disk_stays_where_a_copy_is_kept() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    visit(&browser, &server.address()).await;
    let [kept, other] = ["q8_0", "q4_0"].map(packed);
    let again = async || {
        browser.driver.goto("about:blank").await.unwrap();
        visit(&browser, &server.address()).await;
    };
    give(&browser, &kept).await;
    let there = "return document.querySelector('#keep-own') !== null";
    browser.until(there).await.unwrap();
    act(&browser, "document.querySelector('#keep-own').click()").await;
    let here = "return document.querySelector('.offer[data-id=\"disk/q8_0.gguf\"]')?.dataset.place === 'here'";
    browser.until(here).await.unwrap();
    let gone = "return document.querySelector('#keep-own') === null";
    browser.until(gone).await.unwrap();
    again().await;
    let named = "return document.querySelector('.model-name').textContent === 'q8_0.gguf'";
    browser.until(named).await.unwrap();
    let error = "return document.querySelector('#error')?.textContent";
    assert!(browser.script(error, vec![]).await.unwrap().is_null());

    // Of another one there is no copy: the page says which answers now.
    give(&browser, &other).await;
    again().await;
    let told = browser.until(error).await.unwrap();
    let told = told.as_str().unwrap();
    assert!(
        told.contains("q4_0.gguf") && told.contains("answers now"),
        "{told}"
    );
    browser.device().await.unwrap();
    let demo = "return document.querySelector('.model-name').textContent.includes('drawings')";
    browser.until(demo).await.unwrap();
}

/// The page on a machine of 256 MB, by what its worker is told.
fn little() -> PathBuf {
    page_whose_worker(
        "little",
        "Object.defineProperty(WorkerNavigator.prototype, 'deviceMemory', { get: () => 0.25 });\n",
    )
}

#[tokio::test]
async fn what_does_not_fit_comes_only_where_it_is_wanted_anyway() {
    if page().is_none() {
        return;
    }
    let _turn = TURN.lock().await;
    let model = packed("q8_0");
    let hub = Hub::start().unwrap();
    let bytes = std::fs::read(&model).unwrap();
    hub.publish("someone/large", vec![("q8_0.gguf", bytes.into())]);
    let server = serve(&little());
    let address = format!("{}?hub={}", server.address(), hub.address());
    let browser = Browser::start().await.unwrap();
    visit(&browser, &address).await;

    // From an address: it is judged before it is downloaded.
    act(&browser, "document.querySelector('#model-button').click()").await;
    let field = browser.driver.find(thirtyfour::By::Id("model-address"));
    field
        .await
        .unwrap()
        .send_keys("someone/large\n")
        .await
        .unwrap();
    let told = "return document.querySelector('#library-error')?.textContent";
    let told = browser.until(told).await.unwrap();
    let told = told.as_str().unwrap();
    assert!(
        told.contains("does not fit") && told.contains("Download anyway"),
        "{told}"
    );
    let offer = "document.querySelector('.offer[data-id=\"someone/large\"]')";
    let away = format!(
        "return {offer}.dataset.place === 'away' && {offer}.querySelector('.fit').dataset.fit === 'no'
            && {offer}.querySelector('[data-act=\"download\"]')?.textContent === 'Download anyway'"
    );
    browser.until(&away).await.unwrap();
    act(
        &browser,
        &format!("{offer}.querySelector('[data-act=\"download\"]').click()"),
    )
    .await;
    let here = format!("return {offer}.dataset.place === 'here'");
    browser.until(&here).await.unwrap();
    act(&browser, "document.querySelector('dialog[open]')?.close()").await;

    // From disk: it is opened the second time.
    let files = [model];
    browser.choose_files("#model-input", &files).await.unwrap();
    let told = "return document.querySelector('#error')?.textContent.includes('once more')";
    browser.until(told).await.unwrap();
    browser.choose_files("#model-input", &files).await.unwrap();
    let named = "return document.querySelector('.model-name').textContent === 'q8_0.gguf'";
    browser.until(named).await.unwrap();
}

/// A model that keeps 256 KiB of each picture, and reads six of them.
fn sightly() -> PathBuf {
    let folder = root().join("target/tmp-chat/sightly");
    let mut config = small_flamingo();
    config.resampler.kind = ResamplerKind::Perceiver { latents: 64 };
    (config.xattn.heads, config.xattn.head_dim) = (8, 64);
    write_flamingo(&folder, &config, &Endless(5)).unwrap();
    folder.canonicalize().unwrap()
}

/// Turns of the page's samples, one picture each, as fast as they are answered;
/// notes the bytes of WebAssembly's memory after each.
const TURNS: &str = "window.memory = [];
    const wait = async found => { while (!found()) await new Promise(done => setTimeout(done, 10)); };
    const last = css => [...document.querySelectorAll(css)].pop();
    (async () => {
        for (let n = 1; n <= 50; n++) {
            document.querySelector(`.composer-samples .sample:nth-child(${1 + n % 12})`).click();
            await wait(() => document.querySelector('#composer .media'));
            document.querySelector('#send').click();
            await wait(() => document.querySelectorAll('.turn').length === n
                && last('.turn').getAttribute('aria-busy') === 'false'
                && last('.turn').querySelector('.timings, .failed'));
            memory.push(+last('.turn').querySelector('.timings')?.dataset.memory);
        }
    })();";

#[tokio::test]
async fn a_long_conversation_takes_no_more_memory_than_what_is_read_of_it() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    open(&browser, &server.address(), &sightly()).await;
    browser.choose_device("cpu").await.unwrap();
    set(&browser, "#most", "6").await;
    click(&browser, "#chat-samples").await;
    browser
        .until("return document.querySelectorAll('.composer-samples .sample').length >= 13")
        .await
        .unwrap();
    act(&browser, TURNS).await;
    let memory = "return window.memory.length === 50 && window.memory";
    let memory = browser.until(memory).await.unwrap();
    let memory: Vec<f64> = serde_json::from_value(memory).unwrap();
    let mib = |turn: usize| memory[turn - 1] / f64::from(1 << 20);
    println!(
        "{:.1} MiB after 5 turns, {:.1} after 25, {:.1} after 50",
        mib(5),
        mib(25),
        mib(50)
    );
    // Pictures that are not read any more are kept for a while: 16 of them.
    assert!(mib(5) > 1.0 && mib(25) <= mib(5) + 12.0, "{memory:?}");
    assert!(mib(50) <= mib(25) + 1.0, "{memory:?}");
}
