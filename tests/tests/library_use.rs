//! Models of the library in use, in a real Chromium: from the hub, from any
//! address, large ones, and what is known of them.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::Path;
use std::process::Command;

use plume_tests::browser::{Browser, page};
use plume_tests::chatting;
use plume_tests::checkpoint::Sizes;
use plume_tests::command::{printed, well};
use plume_tests::hub::{Hub, Manners};
use plume_tests::scene::{FIRST, SECOND, SMALL, Scene, on_disk, repository, sharded};
use plume_tests::{plume, root};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use xtask::serve::Server;

/// One browser at a time: two cores are soon busy.
static TURN: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn without_room_the_model_runs_from_the_hub() {
    let _turn = TURN.lock().await;
    let Some(scene) = Scene::open().await else {
        return;
    };
    let model = on_disk("first", repository(SMALL, 1).0);
    let origin = scene.server.address();
    let origin = origin.trim_end_matches("/plume/");
    let quota = json!({ "origin": origin, "quotaSize": 4_000_000 });
    let tools = scene.browser.driver.cdp();
    tools
        .send_raw("Storage.overrideQuotaForOrigin", quota)
        .await
        .unwrap();
    scene.press(FIRST, "download").await;
    let said = scene.says(FIRST, "There is no room").await;
    assert!(said.contains("it has 14 MB"), "{said}");
    // A part that came before the room ran out waits for more of it.
    let before = scene.stored().await;
    scene.press(FIRST, "stream").await;
    scene.computes("CLIP ViT-B/32").await;
    scene.agrees(&model).await;
    assert_eq!(scene.stored().await, before);
    let whole = |asked: &plume_tests::hub::Asked| {
        asked.method == "GET" && asked.from.is_none() && asked.path.ends_with(".safetensors")
    };
    let asked = scene.hub.asked();
    assert!(
        !asked.iter().any(|a| whole(a) && a.path.starts_with("/cdn")),
        "{asked:?}"
    );

    // A window that keeps nothing, and a hub without ranges.
    scene.hub.behave(Manners {
        ranges: false,
        ..Manners::default()
    });
    scene.visit("&keep=off").await;
    scene.press(SECOND, "stream").await;
    scene.computes("CLIP ViT-B/16").await;
    scene
        .agrees(&on_disk("second", repository(SMALL, 2).0))
        .await;
}

/// Types an address.
async fn add(scene: &Scene, address: &str) {
    let field = thirtyfour::By::Id("model-address");
    let field = scene.browser.driver.find(field).await.unwrap();
    field.send_keys(format!("{address}\n")).await.unwrap();
}

#[tokio::test]
async fn a_model_is_had_from_any_address() {
    let _turn = TURN.lock().await;
    let Some(scene) = Scene::open().await else {
        return;
    };
    scene.hub.publish("someone/else", repository(SMALL, 3).0);
    let other = Hub::start().unwrap();
    other.publish("an/other", repository(SMALL, 4).0);
    other.behave(Manners {
        lists: false,
        ..Manners::default()
    });
    let file = format!(
        "{}/an/other/resolve/main/model.safetensors",
        other.address()
    );
    let model = on_disk("fourth", repository(SMALL, 4).0);
    for (address, name) in [("someone/else", "else"), (&file, "model.safetensors")] {
        add(&scene, address).await;
        scene.until(address, "here").await;
        scene.press(address, "use").await;
        scene.computes(name).await;
    }
    scene.agrees(&model).await;

    // Weights in several files, and everything packed in one. (Not in eight
    // bits: processors round the products of those each in their own way.)
    scene.hub.publish("someone/shards", sharded(SMALL, 6));
    let shards = on_disk("shards", sharded(SMALL, 6));
    let packed = shards.join("f16.gguf");
    let pack = Command::new(plume())
        .args(["pack", "--dtype", "f16", "--from"])
        .arg(&shards)
        .arg("--to")
        .arg(&packed)
        .output();
    printed(pack.unwrap()).unwrap();
    let bytes = std::fs::read(&packed).unwrap();
    scene
        .hub
        .publish("someone/packed", vec![("f16.gguf", bytes.into())]);
    for (address, name, model) in [
        ("someone/shards", "shards", &shards),
        ("someone/packed", "packed", &packed),
    ] {
        add(&scene, address).await;
        scene.until(address, "here").await;
        scene.press(address, "use").await;
        scene.computes(name).await;
        scene.agrees(model).await;
    }

    add(&scene, "what is this").await;
    let said = "return document.querySelector('#library-error')?.textContent";
    let said = scene.browser.until(said).await.unwrap();
    assert!(
        said.as_str().unwrap().contains("is no address of a model"),
        "{said}"
    );
    // What came from elsewhere is remembered, and goes when it is deleted.
    scene.visit("").await;
    scene.until("someone/else", "here").await;
    scene.press("someone/else", "delete").await;
    let gone = "return document.querySelector('.offer[data-id=\"someone/else\"]') === null";
    scene.browser.until(gone).await.unwrap();
}

#[tokio::test]
async fn a_large_model_takes_little_more_memory_than_its_largest_tensor() {
    let _turn = TURN.lock().await;
    // A gigabyte takes minutes on a busy machine: PLUME_FULL asks for it.
    let full = std::env::var_os("PLUME_FULL").is_some();
    let sizes = Sizes {
        embed: 512,
        image: 224,
        patch: 14,
        vision: [1024, if full { 16 } else { 2 }, 16],
        text: [512, if full { 12 } else { 1 }, 8],
        vocabulary: [49408, 77],
    };
    let Some(scene) = Scene::open().await else {
        return;
    };
    scene.browser.choose_device("gpu").await.unwrap();
    let (files, weights) = repository(sizes, 5);
    scene.hub.publish("openai/clip-vit-large-patch14", files);
    scene.press("vit-l-14", "download").await;
    scene.until("vit-l-14", "here").await;
    scene.press("vit-l-14", "use").await;
    scene.computes("CLIP ViT-L/14").await;
    let memory = "return document.querySelector('.now').dataset.memory";
    let memory: u64 = scene
        .browser
        .until(memory)
        .await
        .unwrap()
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "a checkpoint of {:.0} MiB, largest tensor {:.0} MiB: peak of wasm memory {:.0} MiB",
        mib(weights.len()),
        mib(weights.largest()),
        mib(memory)
    );
    assert!(memory <= weights.largest() + (64 << 20));
}

#[tokio::test]
async fn a_device_that_computes_wrongly_is_left() {
    let _turn = TURN.lock().await;
    let Some(dist) = page() else { return };
    let server = Server::start(&dist, 0, "/").unwrap();
    let browser = Browser::start().await.unwrap();
    // Keeps hold of the worker, to speak in its name.
    let script = "const Native = Worker;
        window.Worker = class extends Native { constructor(...a) { super(...a); window.theWorker = this; } }";
    let source = json!({ "source": script });
    let tools = browser.driver.cdp();
    tools
        .send_raw("Page.addScriptToEvaluateOnNewDocument", source)
        .await
        .unwrap();
    browser.open(&server.address()).await.unwrap();
    browser.choose_device("gpu").await.unwrap();
    browser
        .script("document.querySelector('#check-model').click()", vec![])
        .await
        .unwrap();
    let right = "const t = document.querySelector('#check-outcome').textContent;
        return t.includes('give what their references give') ? t : null";
    println!("{}", browser.until(right).await.unwrap());

    let event: Value = json!({ "Checked": {
        "cases": 80, "failed": ["linear 17 × 64"], "findings": [], "notes": [],
    } });
    let speak =
        "window.theWorker.onmessage(new MessageEvent('message', { data: [arguments[0], null] }))";
    browser.script(speak, vec![event]).await.unwrap();
    let said = browser
        .until("return document.querySelector('#error')?.textContent")
        .await
        .unwrap();
    let said = said.as_str().unwrap();
    assert!(
        said.contains("linear 17 × 64") && said.contains("The CPU computes from now on"),
        "{said}"
    );
    browser
        .until("return document.querySelector('#device-badge').dataset.kind === 'cpu'")
        .await
        .unwrap();
}

#[tokio::test]
async fn pictures_of_the_library_for_eyes() {
    let _turn = TURN.lock().await;
    let Some(scene) = Scene::open().await else {
        return;
    };
    scene.press(FIRST, "download").await;
    scene.until(FIRST, "here").await;
    scene.hub.behave(Manners {
        bytes_per_second: Some(1_000_000),
        ..Manners::default()
    });
    scene.press(SECOND, "download").await;
    scene.says(SECOND, "left").await;
    let folder = root().join("target/shots");
    std::fs::create_dir_all(&folder).unwrap();
    for (size, dark) in [(1280, false), (1280, true), (390, false), (390, true)] {
        let scheme = if dark { "dark" } else { "light" };
        for (part, script) in [
            ("top", "document.querySelector('dialog').scrollTop = 0"),
            (
                "here",
                "document.querySelector('.offer[data-place=here]').scrollIntoView()",
            ),
            (
                "end",
                "const d = document.querySelector('dialog'); d.scrollTop = d.scrollHeight",
            ),
        ] {
            scene.browser.script(script, vec![]).await.unwrap();
            let path = folder.join(format!("library-{size}-{scheme}-{part}.png"));
            scene.browser.shot(&path, size, dark).await.unwrap();
        }
        let fits = "const d = document.querySelector('#model-dialog');
            return d.scrollWidth <= d.clientWidth && d.getBoundingClientRect().right <= innerWidth";
        let fits = scene.browser.script(fits, vec![]).await.unwrap();
        assert_eq!(fits, true, "the library is wider than {size}");
    }
}

/// What was recorded of a model and published beside it comes with the model,
/// and is held against it.
#[tokio::test]
async fn what_is_recorded_comes_from_the_hub() {
    let _turn = TURN.lock().await;
    let Some(scene) = Scene::open().await else {
        return;
    };
    let model = on_disk("recorded", repository(SMALL, 1).0);
    let golden = model.join("golden.json");
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    well(&["verify", &path(&model), "--record", &path(&golden)]);
    let (mut files, _) = repository(SMALL, 1);
    let golden = std::fs::read(golden).unwrap();
    files.push(("golden.json", golden.into()));
    scene.hub.publish("openai/clip-vit-base-patch32", files);

    scene.press(FIRST, "download").await;
    scene.until(FIRST, "here").await;
    assert_eq!(scene.stored().await.len(), 5);
    scene.press(FIRST, "use").await;
    scene.computes("CLIP ViT-B/32").await;
    let press = "document.querySelector('#check-model').click()";
    scene.browser.script(press, vec![]).await.unwrap();
    let rows = "const rows = [...document.querySelectorAll('#check-findings tbody tr')];
        return rows.length > 0 && rows.map(row => row.dataset.right)";
    let rows = scene.browser.until(rows).await.unwrap();
    assert_eq!(rows, json!(vec!["true"; 6]));
}

/// What is published in parts is said in the chat alone: how large it would be
/// packed, whether it would fit, and the commands that make it.
#[tokio::test]
async fn flamingos_are_listed_with_the_commands_that_pack_them() {
    const THREE: &str = ".to-pack[data-id='openflamingo-3b']";
    let _turn = TURN.lock().await;
    let Some(scene) = Scene::open().await else {
        return;
    };
    let browser = &scene.browser;
    let none = "return document.querySelectorAll('.to-pack').length";
    assert_eq!(browser.script(none, vec![]).await.unwrap(), 0);

    let permissions = json!({"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]});
    let tools = browser.driver.cdp();
    tools
        .send_raw("Browser.grantPermissions", permissions)
        .await
        .unwrap();
    browser.driver.goto("about:blank").await.unwrap();
    let address = format!("{}?hub={}", scene.server.address(), scene.hub.address());
    chatting::visit(browser, &address).await;
    chatting::act(browser, "document.querySelector('#model-button').click()").await;
    let all = "return document.querySelectorAll('.to-pack').length === 10";
    browser.until(all).await.unwrap();

    // Without a graphics processor 16 bits are widened to more than a page has.
    let sizes = format!(
        "return [...document.querySelectorAll(\"{THREE} .fit\")]
            .map(one => [one.dataset.dtype, one.dataset.fit, one.textContent])"
    );
    let sizes = browser.script(&sizes, vec![]).await.unwrap();
    let sizes: Vec<[String; 3]> = serde_json::from_value(sizes).unwrap();
    let [four, eight, sixteen] = sizes.as_slice() else {
        panic!("{sizes:?}");
    };
    assert_eq!([&four[0], &eight[0], &sixteen[0]], ["q4_0", "q8_0", "f16"]);
    assert!(four[2].contains("1.50 GB") && eight[2].contains("2.72 GB"));
    assert_ne!(four[1], "no", "{four:?}");
    assert_eq!(sixteen[1], "no", "{sixteen:?}");
    assert!(sixteen[2].contains("Does not fit this device: needs 10.9 GB"));
    let page = format!("return document.querySelector(\"{THREE} h4 a\").href");
    let page = browser.script(&page, vec![]).await.unwrap();
    let published = "/openflamingo/OpenFlamingo-3B-vitl-mpt1b";
    assert_eq!(page, format!("{}{published}", scene.hub.address()));

    chatting::click(browser, &format!("{THREE} summary")).await;
    chatting::click(browser, &format!("{THREE} details button")).await;
    let copied = format!(
        "return document.querySelector(\"{THREE} details button\").textContent.includes('Copied')"
    );
    browser.until(&copied).await.unwrap();
    let shown = format!("return document.querySelector(\"{THREE} pre\").textContent");
    let shown = browser.script(&shown, vec![]).await.unwrap();
    let clipboard = "window.copied = null;
        navigator.clipboard.readText().then(text => window.copied = text)";
    chatting::act(browser, clipboard).await;
    assert_eq!(browser.until("return window.copied").await.unwrap(), shown);
    let commands = shown.as_str().unwrap();
    assert!(
        commands.starts_with("hf download openflamingo/OpenFlamingo-3B-vitl-mpt1b checkpoint.pt")
            && commands.contains("\nplume pack --from OpenFlamingo-3B-vitl-mpt1b/checkpoint.pt"),
        "{commands}"
    );

    let folder = root().join("target/shots");
    std::fs::create_dir_all(&folder).unwrap();
    let see = "document.querySelector('#to-pack').scrollIntoView()";
    for (size, dark) in [(1280, false), (1280, true), (390, false), (390, true)] {
        chatting::act(browser, see).await;
        let scheme = if dark { "dark" } else { "light" };
        let path = folder.join(format!("flamingos-{size}-{scheme}.png"));
        browser.shot(&path, size, dark).await.unwrap();
        let fits = "const d = document.querySelector('#model-dialog');
            return d.scrollWidth <= d.clientWidth && d.getBoundingClientRect().right <= innerWidth";
        let fits = browser.script(fits, vec![]).await.unwrap();
        assert_eq!(fits, true, "the library is wider than {size}");
    }
}
