//! What goes wrong in the middle of work, in a real Chromium: nothing that was
//! computed is lost, and there is a way on.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use plume_tests::browser::{Browser, page, sample, serve};
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// One browser at a time: two cores are soon busy.
static TURN: Mutex<()> = Mutex::const_new(());

const NAME: &str = "return document.querySelector('.model-name')?.textContent";

#[tokio::test]
async fn a_second_bad_model_while_the_good_one_comes_back_does_no_harm() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    browser.open(&server.address()).await.unwrap();
    let house = std::fs::read(sample("red-house.png")).unwrap();
    browser.drop_files(&[("house.png", &house)]).await.unwrap();
    let before = browser.scores("house.png").await.unwrap();

    // Each refusal is answered, in the same turn, with the next bad model: the
    // good one is on its way by then. Then good ones and bad ones at once.
    let script = "window.refused = [];
        const drop = name => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(9)], `${name}.safetensors`));
            data.items.add(new File(['{\"model_type\": \"' + name + '\"}'], 'config.json'));
            data.items.add(new File(['{}'], 'tokenizer.json'));
            document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
        };
        const names = ['bert', 'gpt2', 'vit'];
        new MutationObserver(() => {
            const error = document.querySelector('#error')?.textContent ?? '';
            const name = names[window.refused.length];
            if (name && error.includes(name)) {
                window.refused.push(name);
                if (names[window.refused.length]) drop(names[window.refused.length]);
            }
        }).observe(document.body, { childList: true, subtree: true, characterData: true });
        drop(names[0]);";
    browser.script(script, vec![]).await.unwrap();
    browser
        .until("return window.refused.length === 3")
        .await
        .unwrap();
    browser.device().await.unwrap();
    assert_eq!(browser.until(NAME).await.unwrap(), "Plume's drawings");
    let failed = "return document.querySelector('#model-error') !== null";
    assert_eq!(browser.script(failed, vec![]).await.unwrap(), false);
    assert_eq!(browser.scores("house.png").await.unwrap(), before);
    let fish = std::fs::read(sample("blue-fish.png")).unwrap();
    browser.drop_files(&[("fish.png", &fish)]).await.unwrap();
    assert_eq!(browser.scores("fish.png").await.unwrap()[0].0, "fish");

    // Many at once: the last one counts, and the demo is back after it.
    let many = "window.refused = ['', '', ''];
        document.querySelector('#error button')?.click();
        const drop = name => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(9)], `${name}.safetensors`));
            data.items.add(new File(['{\"model_type\": \"' + name + '\"}'], 'config.json'));
            data.items.add(new File(['{}'], 'tokenizer.json'));
            document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
        };
        ['bert', 'gpt2', 'vit', 't5'].forEach(drop);";
    browser.script(many, vec![]).await.unwrap();
    browser
        .until("return document.querySelector('#error')?.textContent.includes('t5')")
        .await
        .unwrap();
    browser.device().await.unwrap();
    assert_eq!(browser.until(NAME).await.unwrap(), "Plume's drawings");
}

/// `name` → what its bars say.
async fn all_scores(browser: &Browser, names: &[&str]) -> Vec<Vec<(String, f32, f32)>> {
    let mut all = Vec::new();
    for name in names {
        all.push(browser.scores(name).await.unwrap());
    }
    all
}

/// Ends the browser's GPU process, as a driver that crashes does.
async fn lose_the_gpu(browser: &Browser) {
    let tools = browser.driver.cdp();
    // The command ends its own connection now and then; what counts is what
    // the page sees.
    let _ = tools.send_raw("Browser.crashGpuProcess", json!({})).await;
}

#[tokio::test]
async fn a_lost_gpu_is_opened_again_once_and_then_the_cpu_is_offered() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    browser.open(&server.address()).await.unwrap();
    browser.choose_device("gpu").await.unwrap();
    let picture = |name: &str| std::fs::read(sample(name)).unwrap();
    browser
        .drop_files(&[("house.png", &picture("red-house.png"))])
        .await
        .unwrap();
    let before = browser.scores("house.png").await.unwrap();

    lose_the_gpu(&browser).await;
    browser
        .drop_files(&[("fish.png", &picture("blue-fish.png"))])
        .await
        .unwrap();
    browser
        .until("return document.querySelector('#error')?.textContent.includes('lost')")
        .await
        .unwrap();
    let shown: Value = browser
        .script("return document.querySelectorAll('.bars').length", vec![])
        .await
        .unwrap();
    assert_ne!(shown, 0, "the first answer stays while the GPU comes back");
    let after = all_scores(&browser, &["house.png", "fish.png"]).await;
    assert_eq!(after[0], before);
    assert_eq!(after[1][0].0, "fish");

    lose_the_gpu(&browser).await;
    browser
        .drop_files(&[("cat.png", &picture("orange-cat.png"))])
        .await
        .unwrap();
    let offer = "return document.querySelector('#model-error button')?.textContent";
    assert_eq!(browser.until(offer).await.unwrap(), "Compute on the CPU");
    assert_eq!(
        all_scores(&browser, &["house.png", "fish.png"]).await,
        after
    );
    browser
        .script(
            "document.querySelector('#model-error button').click()",
            vec![],
        )
        .await
        .unwrap();
    assert_eq!(browser.scores("cat.png").await.unwrap()[0].0, "cat");
    assert!(browser.device().await.unwrap().starts_with("CPU"));
}
