//! Packed Flamingos in the chat, from disk and through the library, and what a
//! long conversation costs, in a real Chromium.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use plume_core::checkpoint::Precision;
use plume_core::config::flamingo::ResamplerKind;
use plume_tests::browser::{Browser, page, sample, serve};
use plume_tests::chatting::{
    act, answer, click, generated, give, open, page_whose_worker, pictures_of, prompt_file,
    put_sample, ready_made, send, set, small, visit,
};
use plume_tests::command::well;
use plume_tests::hub::Hub;
use plume_tests::root;
use plume_tests::writers::{Endless, small_flamingo, write_flamingo, write_idefics, write_packed};
use serde_json::json;
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

/// Words, marks and ends of another kind of model, and another preparation of
/// pictures.
#[tokio::test]
async fn an_idefics_from_disk_writes_what_the_command_writes() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    visit(&browser, &server.address()).await;
    let folder = root().join("target/tmp-chat/idefics");
    write_idefics(&folder).unwrap();
    let folder = folder.canonicalize().unwrap();
    give(&browser, &folder).await;
    // It reads little.
    set(&browser, "#most", "8").await;
    put_sample(&browser, 1).await;
    // The page shows what the model reads; the command adds the marks itself.
    let marks = "<s><fake_token_around_image><image><fake_token_around_image>Output:";
    let planned = format!("return document.querySelector('#raw-prompt').textContent === '{marks}'");
    browser.until(&planned).await.unwrap();
    let prompt = folder.join("prompt.json");
    let segments = json!([{ "image": sample("orange-cat.png") }, { "text": "Output:" }]);
    std::fs::write(&prompt, json!({ "segments": segments }).to_string()).unwrap();
    for device in ["cpu", "gpu"] {
        browser.choose_device(device).await.unwrap();
        let written = if device == "cpu" {
            send(&browser).await
        } else {
            click(&browser, ".turn [data-act='again']").await;
            answer(&browser).await
        };
        let options = ["--greedy", "--max-new-tokens", "8", "--device", device];
        assert_eq!(written, generated(&folder, &prompt, &options), "{device}");
        assert!(!written.is_empty());
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

/// A model of OpenFlamingo-3B's widths with a small image tower, in f16: more
/// bytes than WebAssembly can address.
fn vast() -> PathBuf {
    let folder = root().join("target/tmp-chat/vast");
    let mut config = small_flamingo();
    (config.lm.width, config.lm.embed_width) = (2048, 2048);
    (config.lm.heads, config.lm.mlp_width, config.lm.layers) = (16, 8192, 28);
    let xattn = &mut config.xattn;
    (xattn.heads, xattn.head_dim, xattn.mlp_width) = (8, 64, 8192);
    xattn.layers = (0..28).collect();
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("vast.gguf");
    write_packed(&file, &config, &Endless(5), Precision::F16).unwrap();
    file.canonicalize().unwrap()
}

/// Takes minutes and 16 GB of memory, and so runs only where `PLUME_FULL` asks.
#[tokio::test]
async fn more_weights_than_wasm_addresses_pass_on_to_the_graphics_processor() {
    if std::env::var_os("PLUME_FULL").is_none() {
        println!("skipped: PLUME_FULL does not ask for it");
        return;
    }
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let model = vast();
    let bytes = std::fs::metadata(&model).unwrap().len();
    assert!(bytes > 1 << 32, "{bytes}");
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    visit(&browser, &server.address()).await;
    browser.choose_device("gpu").await.unwrap();
    // A processor that only software plays is not counted on: it is asked twice.
    let files = [model.clone()];
    browser.choose_files("#model-input", &files).await.unwrap();
    let told = "return document.querySelector('#error')?.textContent.includes('once more')";
    browser.until(told).await.unwrap();
    browser.choose_files("#model-input", &files).await.unwrap();
    let hours = Duration::from_secs(1800);
    let named = "return document.querySelector('.model-name').textContent === 'vast.gguf'";
    browser.until_within(named, hours).await.unwrap();

    set(&browser, "#most", "4").await;
    put_sample(&browser, 1).await;
    let picture = "return document.querySelector('#raw-prompt').textContent.includes('<image>')";
    browser.until(picture).await.unwrap();
    let first = sample("orange-cat.png");
    let prompt = prompt_file(&browser, &[first], model.parent().unwrap()).await;
    click(&browser, "#send").await;
    let done = "return document.querySelector('.turn .timings, .turn .failed') !== null";
    browser.until_within(done, hours).await.unwrap();
    let memory = "return +document.querySelector('.turn .timings').dataset.memory";
    let memory = browser.script(memory, vec![]).await.unwrap();
    let memory = memory.as_f64().unwrap();
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    println!(
        "a Flamingo of {:.0} MiB writes with {:.0} MiB of wasm memory",
        mib(bytes as f64),
        mib(memory)
    );
    let written = answer(&browser).await;
    // Before the command takes as much again.
    drop(browser);
    let options = ["--greedy", "--max-new-tokens", "4", "--device", "cpu"];
    assert_eq!(written, generated(&model, &prompt, &options));
    assert!(mib(memory) < 256.0, "{memory}");
    std::fs::remove_file(&model).unwrap();
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
/// notes the bytes of WebAssembly's memory after each, and those of buffers on
/// the graphics processor.
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
            const { memory: wasm, gpu } = last('.turn').querySelector('.timings')?.dataset ?? {};
            memory.push([+wasm, +gpu]);
        }
    })();";

#[tokio::test]
async fn a_long_conversation_takes_no_more_memory_than_what_is_read_of_it() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let model = sightly();
    for device in ["cpu", "gpu"] {
        let browser = Browser::start().await.unwrap();
        open(&browser, &server.address(), &model).await;
        browser.choose_device(device).await.unwrap();
        set(&browser, "#most", "6").await;
        click(&browser, "#chat-samples").await;
        browser
            .until("return document.querySelectorAll('.composer-samples .sample').length >= 13")
            .await
            .unwrap();
        act(&browser, TURNS).await;
        let memory = "return window.memory.length === 50 && window.memory";
        let minutes = Duration::from_secs(600);
        let memory = browser.until_within(memory, minutes).await.unwrap();
        let memory: Vec<[f64; 2]> = serde_json::from_value(memory).unwrap();
        let mib = |turn: usize, of: usize| memory[turn - 1][of] / f64::from(1 << 20);
        for (of, name) in ["WebAssembly", "buffers"].into_iter().enumerate() {
            println!(
                "{device}, {name}: {:.1} MiB after 5 turns, {:.1} after 25, {:.1} after 50",
                mib(5, of),
                mib(25, of),
                mib(50, of)
            );
            // Pictures that are not read any more are kept for a while: 16 of them.
            assert!(mib(25, of) <= mib(5, of) + 16.0, "{memory:?}");
            assert!(mib(50, of) <= mib(25, of) + 1.0, "{memory:?}");
        }
        assert!(mib(5, 0) > 1.0 && (mib(5, 1) > 1.0) == (device == "gpu"));
    }
}
