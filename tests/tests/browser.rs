//! The page, in a real Chromium, by the steps of a person.

use plume_tests::browser::{Browser, page, sample, serve};
use plume_tests::command::{classified as by_the_command_line, same};
use plume_tests::{root, shared};
use serde_json::Value;
use tokio::sync::Mutex;
use xtask::serve::Server;

/// One browser at a time: two cores are soon busy.
static TURN: Mutex<()> = Mutex::const_new(());

const LABELS: [&str; 8] = [
    "cat", "house", "fish", "tree", "star", "umbrella", "rocket", "bird",
];
const TEMPLATES: [&str; 4] = [
    "a {}",
    "a drawing of a {}",
    "a sketch of a {}",
    "this is a {}",
];

#[tokio::test]
async fn a_sample_is_classified_as_on_the_command_line_on_both_devices() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    let device = browser.open(&server.address()).await.unwrap();
    // A software adapter is slower than the CPU path, which is taken instead.
    assert!(device.starts_with("CPU"), "{device}");
    let first = browser
        .until("return document.querySelector('.sample')?.getAttribute('aria-label')")
        .await
        .unwrap();
    assert_eq!(first, "Classify the sample orange cat");
    browser
        .script("document.querySelector('.sample').click()", vec![])
        .await
        .unwrap();

    let expected = by_the_command_line(
        &root().join("www/demo/clip"),
        &sample("orange-cat.png"),
        &LABELS,
        &TEMPLATES,
    );
    let scores = browser.scores("orange-cat.png").await.unwrap();
    same(&scores, &expected);
    assert_eq!(scores[0].0, "cat");
    browser
        .until("return document.querySelector('#live').textContent.includes('cat')")
        .await
        .unwrap();

    let device = browser.choose_device("gpu").await.unwrap();
    assert!(device.contains("WebGPU"), "{device}");
    // Under another name: the first one shows the CPU's scores until others come.
    let bytes = std::fs::read(sample("orange-cat.png")).unwrap();
    browser.drop_files(&[("again.png", &bytes)]).await.unwrap();
    same(&browser.scores("again.png").await.unwrap(), &expected);
    let device = browser.choose_device("cpu").await.unwrap();
    assert!(device.starts_with("CPU"), "{device}");
}

#[tokio::test]
async fn labels_are_typed_removed_and_carried_in_the_link() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    browser.open(&server.address()).await.unwrap();
    browser
        .script("document.querySelector('#clear-labels').click()", vec![])
        .await
        .unwrap();
    let input = browser
        .driver
        .find(thirtyfour::By::Id("labels-input"))
        .await
        .unwrap();
    input.send_keys("house, umbrella\n").await.unwrap();
    input.send_keys("a red star\n").await.unwrap();
    let chips = "return [...document.querySelectorAll('.chip span')].map(x => x.textContent)";
    let three = serde_json::json!(["house", "umbrella", "a red star"]);
    assert_eq!(browser.until(chips).await.unwrap(), three);

    let bytes = std::fs::read(sample("purple-umbrella.png")).unwrap();
    browser.drop_files(&[("mine.png", &bytes)]).await.unwrap();
    let scores = browser.scores("mine.png").await.unwrap();
    assert_eq!((scores.len(), scores[0].0.as_str()), (3, "umbrella"));
    browser
        .script(
            "document.querySelector('[aria-label=\"Remove house\"]').click()",
            vec![],
        )
        .await
        .unwrap();
    browser
        .until("return document.querySelectorAll('.picture-card [data-label]').length === 2")
        .await
        .unwrap();

    let link = browser
        .script("return location.href", vec![])
        .await
        .unwrap();
    let link = link.as_str().unwrap().to_owned();
    browser.driver.goto("about:blank").await.unwrap();
    browser.open(&link).await.unwrap();
    let two = serde_json::json!(["umbrella", "a red star"]);
    assert_eq!(browser.until(chips).await.unwrap(), two);
}

#[tokio::test]
async fn what_cannot_be_used_is_told_in_words_and_nothing_is_lost() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    browser.open(&server.address()).await.unwrap();
    let good = std::fs::read(sample("red-house.png")).unwrap();
    let mut enormous = good[..64].to_vec();
    enormous[16..24].copy_from_slice(&[0, 0, 0xc3, 0x50, 0, 0, 0xc3, 0x50]);
    let mut flat = enormous.clone();
    flat[16..20].fill(0);
    browser
        .drop_files(&[
            ("good.png", &good),
            ("letter.png", b"Dear Plume, this is a letter."),
            ("empty.png", b""),
            ("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
            ("cut.png", &good[..good.len() / 3]),
            ("enormous.png", &enormous),
            ("flat.png", &flat),
            ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ])
        .await
        .unwrap();
    let expected = [
        ("letter.png", "not a picture"),
        ("empty.png", "empty"),
        ("phone.heic", "HEIC"),
        ("enormous.png", "50000 × 50000"),
        ("flat.png", "nothing to see"),
        ("drawing.svg", "SVG"),
    ];
    for (name, words) in expected {
        let script = format!(
            "return document.querySelector('.picture-card[data-name=\"{name}\"] .failed')?.textContent"
        );
        let message = browser.until(&script).await.unwrap();
        assert!(
            message.as_str().unwrap().contains(words),
            "{name}: {message}"
        );
    }
    assert_eq!(browser.scores("good.png").await.unwrap()[0].0, "house");

    // An address on another origin that does not let itself be read.
    let other = Server::start(&root().join("www"), 0, "/").unwrap();
    let address = browser
        .driver
        .find(thirtyfour::By::Id("url-input"))
        .await
        .unwrap();
    address
        .send_keys(format!("{}icon.svg\n", other.address()))
        .await
        .unwrap();
    let error = "return document.querySelector('#error')?.textContent";
    let message = browser.until(error).await.unwrap();
    assert!(
        message
            .as_str()
            .unwrap()
            .contains("save the picture and drop it"),
        "{message}"
    );
    let dismiss = "document.querySelector('#error button').click()";
    browser.script(dismiss, vec![]).await.unwrap();

    // A model that is cut short, and one of another kind.
    let model = |name: &str| std::fs::read(root().join("www/demo/clip").join(name)).unwrap();
    let (weights, config, tokenizer) = (
        model("model.safetensors"),
        model("config.json"),
        model("tokenizer.json"),
    );
    // A driver passes no megabytes: the beginning promises enough.
    let cut = &weights[..weights.len().min(60_000)];
    let files = [
        ("model.safetensors", cut),
        ("config.json", &config),
        ("tokenizer.json", &tokenizer),
    ];
    browser.drop_files(&files).await.unwrap();
    let message = browser.until(error).await.unwrap();
    assert!(message.as_str().unwrap().contains("cut short"), "{message}");
    browser.script(dismiss, vec![]).await.unwrap();
    let files = [
        ("model.safetensors", cut),
        ("config.json", b"{\"model_type\": \"bert\"}".as_slice()),
        ("tokenizer.json", &tokenizer),
    ];
    browser.drop_files(&files).await.unwrap();
    let message = browser.until(error).await.unwrap();
    assert!(message.as_str().unwrap().contains("bert"), "{message}");
    browser.device().await.unwrap();
    browser.script(dismiss, vec![]).await.unwrap();
    browser
        .drop_files(&[("model.safetensors", cut)])
        .await
        .unwrap();
    browser.until("return document.querySelector('#error')?.textContent.includes('config.json is missing')").await.unwrap();

    // The demo answers as before.
    browser.device().await.unwrap();
    assert_eq!(browser.scores("good.png").await.unwrap()[0].0, "house");
}

#[tokio::test]
async fn a_batch_can_be_cancelled_and_taken_up_again() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    browser.open(&server.address()).await.unwrap();
    let bytes = std::fs::read(sample("blue-fish.png")).unwrap();
    // The page copies one picture many times, and cancels as soon as one is
    // done: a driver might come when all are.
    let script = "const data = new DataTransfer();
        for (let i = 0; i < 150; i++)
            data.items.add(new File([new Uint8Array(arguments[0])], `fish-${i}.png`, { type: 'image/png' }));
        new MutationObserver((_, observer) => {
            if (!document.querySelector('.picture-card [data-label]')) return;
            observer.disconnect();
            document.querySelector('#cancel').click();
            window.cancelled = true;
        }).observe(document.body, { childList: true, subtree: true });
        document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));";
    browser
        .script(script, vec![serde_json::json!(bytes)])
        .await
        .unwrap();
    browser
        .until("return window.cancelled && !document.querySelector('.progress').classList.contains('shown')")
        .await
        .unwrap();
    let count = |selector: &str| format!("return document.querySelectorAll('{selector}').length");
    let left = browser
        .script(&count(".picture-card .state button"), vec![])
        .await
        .unwrap();
    let done = browser
        .script(&count(".picture-card .bars"), vec![])
        .await
        .unwrap();
    let (left, done) = (left.as_u64().unwrap(), done.as_u64().unwrap());
    assert!(
        left > 0 && done > 0 && left + done == 150,
        "{done} done, {left} left"
    );
    browser
        .script(
            "document.querySelector('.picture-card .state button').click()",
            vec![],
        )
        .await
        .unwrap();
    browser
        .until(&format!(
            "return document.querySelectorAll('.picture-card .bars').length === {}",
            done + 1
        ))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_page_works_offline_after_the_first_visit() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    let address = server.address();
    browser.open(&address).await.unwrap();
    browser
        .until("return navigator.serviceWorker.controller !== null")
        .await
        .unwrap();
    drop(server);
    browser.driver.goto("about:blank").await.unwrap();
    browser.open(&address).await.unwrap();
    browser
        .until("return document.querySelector('.sample')")
        .await
        .unwrap();
    browser
        .script("document.querySelector('.sample').click()", vec![])
        .await
        .unwrap();
    assert_eq!(browser.scores("orange-cat.png").await.unwrap()[0].0, "cat");
}

#[tokio::test]
async fn both_devices_keep_the_contract_in_the_browser() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    browser
        .open(&format!("{}?selftest", server.address()))
        .await
        .unwrap();
    let report = browser
        .until("return document.querySelector('#selftest').textContent")
        .await
        .unwrap();
    let report: Value = serde_json::from_str(report.as_str().unwrap()).unwrap();
    for device in ["cpu", "gpu"] {
        let outcome = &report[device];
        assert_eq!(
            outcome["failed"],
            serde_json::json!([]),
            "{device}: {outcome}"
        );
        assert!(
            outcome["cases"].as_u64().unwrap() > 60,
            "{device}: {outcome}"
        );
    }
}

#[tokio::test]
async fn a_drawing_is_classified_as_it_is_drawn() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    browser.open(&server.address()).await.unwrap();
    let pad = browser
        .driver
        .find(thirtyfour::By::Id("pad-canvas"))
        .await
        .unwrap();
    pad.scroll_into_view().await.unwrap();
    // A roof and walls, stroke by stroke.
    let strokes: [&[(i64, i64)]; 2] = [
        &[(-90, -10), (0, -100), (90, -10), (-90, -10)],
        &[(-70, -10), (-70, 100), (70, 100), (70, -10)],
    ];
    for stroke in strokes {
        let mut chain = browser
            .driver
            .action_chain()
            .move_to_element_with_offset(&pad, stroke[0].0, stroke[0].1)
            .click_and_hold();
        for point in &stroke[1..] {
            chain = chain.move_to_element_with_offset(&pad, point.0, point.1);
        }
        chain.release().perform().await.unwrap();
    }
    let scores = browser.scores("drawing.png").await.unwrap();
    assert_eq!(scores.len(), LABELS.len());
    let cards = browser
        .script(
            "return document.querySelectorAll('.picture-card').length",
            vec![],
        )
        .await
        .unwrap();
    assert_eq!(
        cards, 1,
        "each stroke takes the place of the drawing before"
    );
}

#[tokio::test]
async fn a_published_layout_is_dropped_and_scores_as_on_the_command_line() {
    let (Some(dist), Some(model), Some(photographs)) = (
        page(),
        shared("ridge-clip-cifar10"),
        shared("images/cifar10-test"),
    ) else {
        return;
    };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    browser.open(&server.address()).await.unwrap();
    let model = model.canonicalize().unwrap();
    let names = [
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "preprocessor_config.json",
    ];
    browser
        .choose_files("#file-input", &names.map(|name| model.join(name)))
        .await
        .unwrap();
    browser
        .until("return document.querySelector('.model-name')?.textContent === 'model.safetensors'")
        .await
        .unwrap();
    let photograph = photographs.canonicalize().unwrap().join("ship/0003.jpg");
    browser
        .choose_files("#file-input", std::slice::from_ref(&photograph))
        .await
        .unwrap();
    let expected = by_the_command_line(&model, &photograph, &LABELS, &TEMPLATES);
    same(&browser.scores("0003.jpg").await.unwrap(), &expected);
}

#[tokio::test]
async fn pictures_of_the_page_for_eyes() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    browser.open(&server.address()).await.unwrap();
    browser
        .until("return document.querySelectorAll('.sample').length > 5")
        .await
        .unwrap();
    browser
        .script(
            "document.querySelectorAll('.sample').forEach((b, i) => i < 6 && b.click())",
            vec![],
        )
        .await
        .unwrap();
    browser
        .until("return document.querySelectorAll('.bars').length === 6")
        .await
        .unwrap();
    let folder = root().join("target/shots");
    std::fs::create_dir_all(&folder).unwrap();
    for (size, dark) in [(1280, false), (1280, true), (390, false), (390, true)] {
        let path = folder.join(format!(
            "page-{size}-{}.png",
            if dark { "dark" } else { "light" }
        ));
        browser.shot(&path, size, dark).await.unwrap();
    }
}
