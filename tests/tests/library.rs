//! The library of models, in a real Chromium, against a hub that misbehaves.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use plume_tests::browser::{Browser, page, sample};
use plume_tests::checkpoint::{Seeded, Sizes};
use plume_tests::command::{classified, printed, same};
use plume_tests::hub::{Content, Hub, Manners};
use plume_tests::{plume, root};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use xtask::serve::Server;

/// One browser at a time: two cores are soon busy.
static TURN: Mutex<()> = Mutex::const_new(());

/// A model of some 13 MB, in transformers' layout, with room for the tokens of
/// the page's own tokenizer.
const SMALL: Sizes = Sizes {
    embed: 32,
    image: 32,
    patch: 8,
    vision: [256, 4, 4],
    text: [64, 2, 2],
    vocabulary: [1024, 32],
};

/// The files of a repository, as transformers publishes them.
fn repository(sizes: Sizes, seed: u64) -> (Vec<(&'static str, Content)>, Arc<Seeded>) {
    let weights = Arc::new(Seeded::new(&sizes.tensors(), seed));
    let tokenizer = std::fs::read(root().join("www/demo/clip/tokenizer.json")).unwrap();
    let preprocessor = json!({
        "size": { "shortest_edge": sizes.image }, "do_center_crop": true,
        "crop_size": { "height": sizes.image, "width": sizes.image },
        "do_resize": true, "resample": 3, "do_normalize": true, "do_rescale": true,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    });
    let files = vec![
        ("model.safetensors", Content::Seeded(weights.clone())),
        (
            "config.json",
            sizes.config().to_string().into_bytes().into(),
        ),
        ("tokenizer.json", tokenizer.into()),
        (
            "preprocessor_config.json",
            preprocessor.to_string().into_bytes().into(),
        ),
        ("README.md", b"A model of random numbers.".to_vec().into()),
    ];
    (files, weights)
}

/// The same with its weights in two files, beside an index.
fn sharded(sizes: Sizes, seed: u64) -> Vec<(&'static str, Content)> {
    let names = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    let tensors = sizes.tensors();
    let halves = [&tensors[..tensors.len() / 2], &tensors[tensors.len() / 2..]];
    let mut places = serde_json::Map::new();
    let (mut files, _) = repository(sizes, seed);
    files.retain(|(name, _)| *name != "model.safetensors");
    for (name, half) in names.into_iter().zip(halves) {
        places.extend(half.iter().map(|(tensor, _)| (tensor.clone(), json!(name))));
        files.push((name, Content::Seeded(Arc::new(Seeded::new(half, seed)))));
    }
    let index = json!({ "metadata": {}, "weight_map": places });
    let index = index.to_string().into_bytes();
    files.push(("model.safetensors.index.json", index.into()));
    files
}

/// Files on disk, for the command.
fn on_disk(name: &str, files: Vec<(&str, Content)>) -> PathBuf {
    let folder = root().join("target/tmp-library").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    for (name, content) in files {
        let bytes = match content {
            Content::Bytes(bytes) => bytes.to_vec(),
            Content::Seeded(seeded) => seeded.read(0, seeded.len()),
        };
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    folder
}

const FIRST: &str = "vit-b-32";
const SECOND: &str = "vit-b-16";

struct Scene {
    hub: Hub,
    server: Server,
    browser: Browser,
}

impl Scene {
    /// A hub with two models, and the page beside it.
    async fn open() -> Option<Self> {
        let dist = page()?;
        let hub = Hub::start().unwrap();
        hub.publish("openai/clip-vit-base-patch32", repository(SMALL, 1).0);
        hub.publish("openai/clip-vit-base-patch16", repository(SMALL, 2).0);
        let server = Server::start(&dist, 0, "/plume/").unwrap();
        let browser = Browser::start().await.unwrap();
        let scene = Self {
            hub,
            server,
            browser,
        };
        scene.visit("").await;
        Some(scene)
    }

    /// Loads the page anew.
    async fn visit(&self, more: &str) {
        let address = format!("{}?hub={}{more}", self.server.address(), self.hub.address());
        self.browser.driver.goto("about:blank").await.unwrap();
        self.browser.open(&address).await.unwrap();
        let offers = "return document.querySelectorAll('.offer').length > 10";
        self.browser.until(offers).await.unwrap();
        let open = "document.querySelector('#model-button').click()";
        self.browser.script(open, vec![]).await.unwrap();
    }

    /// Presses a button of a model.
    async fn press(&self, id: &str, act: &str) {
        let button = format!(".offer[data-id=\"{id}\"] [data-act=\"{act}\"]");
        let there = format!("return document.querySelector('{button}') !== null");
        self.browser.until(&there).await.unwrap();
        let press = format!("document.querySelector('{button}').click()");
        self.browser.script(&press, vec![]).await.unwrap();
    }

    /// Waits until a model is at a place.
    async fn until(&self, id: &str, place: &str) {
        let script = format!(
            "return document.querySelector('.offer[data-id=\"{id}\"]')?.dataset.place === '{place}'"
        );
        self.browser.until(&script).await.unwrap();
    }

    /// Bytes of a model that have arrived.
    async fn arrived(&self, id: &str) -> f64 {
        let script = format!(
            "return document.querySelector('.offer[data-id=\"{id}\"] progress')?.value ?? 0"
        );
        let value = self.browser.script(&script, vec![]).await.unwrap();
        value.as_f64().unwrap()
    }

    /// What a model's line says, once it says something with this word.
    async fn says(&self, id: &str, word: &str) -> String {
        let script = format!(
            "const t = document.querySelector('.offer[data-id=\"{id}\"] .offer-progress')?.textContent ?? '';
             return t.includes({}) ? t : null",
            json!(word)
        );
        let text = self.browser.until(&script).await.unwrap();
        text.as_str().unwrap().to_owned()
    }

    /// Files that lie in storage, with their sizes.
    async fn stored(&self) -> Vec<(String, f64)> {
        let script = "return (async () => {
            const files = await (await navigator.storage.getDirectory()).getDirectoryHandle('files');
            const all = [];
            for await (const [name, handle] of files.entries()) all.push([name, (await handle.getFile()).size]);
            return all; })()";
        let files = self.browser.script(script, vec![]).await.unwrap();
        serde_json::from_value(files).unwrap()
    }

    /// Waits until this model computes.
    async fn computes(&self, name: &str) {
        let script = format!(
            "return document.querySelector('.model-name')?.textContent === {}",
            json!(name)
        );
        self.browser.until(&script).await.unwrap();
    }

    /// Classifies a sample with the model of now, as the command does.
    async fn agrees(&self, model: &std::path::Path) {
        let sample = sample("red-house.png");
        let expected = classified(model, &sample, &LABELS, &TEMPLATES);
        let cards = "return document.querySelectorAll('.picture-card').length";
        if self.browser.script(cards, vec![]).await.unwrap() == json!(0) {
            let bytes = std::fs::read(&sample).unwrap();
            self.browser
                .drop_files(&[("house.png", &bytes)])
                .await
                .unwrap();
        }
        let best = format!(
            "const c = document.querySelector('.picture-card [data-label=\"{}\"]');
             return c && Math.abs(+c.dataset.cosine - {}) < 1e-4",
            expected[0].0, expected[0].1
        );
        self.browser.until(&best).await.unwrap();
        same(&self.browser.scores("house.png").await.unwrap(), &expected);
    }
}

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
async fn a_model_is_downloaded_used_without_the_network_and_deleted() {
    let _turn = TURN.lock().await;
    let Some(scene) = Scene::open().await else {
        return;
    };
    scene.press(FIRST, "download").await;
    scene.until(FIRST, "here").await;
    let stored = scene.stored().await;
    assert_eq!(stored.len(), 4, "{stored:?}");
    let weights = Seeded::new(&SMALL.tensors(), 1).len() as f64;
    assert!(
        stored.iter().any(|(_, bytes)| *bytes == weights),
        "{stored:?}"
    );

    scene.press(FIRST, "use").await;
    scene.computes("CLIP ViT-B/32").await;
    let model = on_disk("first", repository(SMALL, 1).0);
    scene.agrees(&model).await;

    // The next visit begins with it, and the hub is not asked.
    scene.hub.asked();
    scene.visit("").await;
    scene.computes("CLIP ViT-B/32").await;
    scene.agrees(&model).await;
    assert_eq!(scene.hub.asked(), []);

    let delete = format!("document.querySelector('[data-kept=\"{FIRST}\"] button').click()");
    scene.browser.script(&delete, vec![]).await.unwrap();
    scene.until(FIRST, "away").await;
    assert_eq!(scene.stored().await, []);
    // A visit after that begins with the page's own again, and says why.
    scene.visit("").await;
    scene.computes("Plume's drawings").await;
}

#[tokio::test]
async fn a_download_is_paused_goes_on_and_survives_a_reload() {
    let _turn = TURN.lock().await;
    let Some(scene) = Scene::open().await else {
        return;
    };
    let slow = Manners {
        bytes_per_second: Some(2_000_000),
        ..Manners::default()
    };
    scene.hub.behave(slow.clone());
    scene.press(FIRST, "download").await;
    let line = scene.says(FIRST, "left").await;
    assert!(line.contains(" of 1") && line.contains("/s"), "{line}");
    scene.press(FIRST, "pause").await;
    scene.until(FIRST, "paused").await;
    let paused = scene.arrived(FIRST).await;
    assert!(paused > 0.0);
    scene.hub.asked();
    scene.press(FIRST, "download").await;
    scene.until(FIRST, "coming").await;
    scene.says(FIRST, "left").await;
    let ranges = scene.hub.ranges();
    assert!(
        ranges.iter().any(|&from| from as f64 >= paused),
        "{ranges:?}"
    );

    // The page goes away in the middle.
    scene.visit("").await;
    scene.until(FIRST, "paused").await;
    let kept = scene.arrived(FIRST).await;
    assert!(kept >= paused, "{kept} after {paused}");
    scene.hub.behave(Manners::default());
    scene.press(FIRST, "download").await;
    scene.until(FIRST, "here").await;
    let ranges = scene.hub.ranges();
    assert!(
        ranges.iter().any(|&from| from as f64 >= kept * 0.9),
        "{ranges:?}"
    );
    scene.press(FIRST, "use").await;
    scene.computes("CLIP ViT-B/32").await;
    scene
        .agrees(&on_disk("first", repository(SMALL, 1).0))
        .await;

    // Cancelled, nothing is left of it.
    let before = scene.stored().await;
    scene.hub.behave(slow);
    scene.press(SECOND, "download").await;
    scene.says(SECOND, "left").await;
    scene.press(SECOND, "delete").await;
    scene.until(SECOND, "away").await;
    assert_eq!(scene.stored().await.len(), before.len());
}

#[tokio::test]
async fn faults_are_survived_or_said_in_words_and_lose_nothing() {
    let _turn = TURN.lock().await;
    let Some(scene) = Scene::open().await else {
        return;
    };
    // Broken twice, a part each time.
    scene.hub.behave(Manners {
        cuts: 2,
        cut_after: 3_000_000,
        busy: 1,
        ..Manners::default()
    });
    scene.press(FIRST, "download").await;
    scene.until(FIRST, "here").await;
    let ranges = scene.hub.ranges();
    assert_eq!(ranges.len(), 2, "{ranges:?}");
    assert!(ranges[0] > 0 && ranges[1] > ranges[0], "{ranges:?}");
    let first = scene.stored().await;

    let faults: [(Manners, &str); 6] = [
        (
            Manners {
                status: Some(401),
                ..Manners::default()
            },
            "accept the terms",
        ),
        (
            Manners {
                status: Some(404),
                ..Manners::default()
            },
            "is not there",
        ),
        (
            Manners {
                status: Some(500),
                ..Manners::default()
            },
            "answered 500",
        ),
        (
            Manners {
                busy: 9,
                ..Manners::default()
            },
            "patience",
        ),
        (
            Manners {
                cors: false,
                ..Manners::default()
            },
            "does not let other pages read it",
        ),
        (
            Manners {
                lies: true,
                ..Manners::default()
            },
            "is not what the hub announced",
        ),
    ];
    for (manners, word) in faults {
        scene.hub.behave(manners);
        scene.press(SECOND, "download").await;
        let said = scene.says(SECOND, word).await;
        println!("{said}");
        scene.until(SECOND, "paused").await;
        scene.press(SECOND, "delete").await;
        scene.until(SECOND, "away").await;
        assert_eq!(scene.stored().await.len(), first.len(), "after: {word}");
    }

    // A server without ranges that breaks once gives all of it again.
    scene.hub.behave(Manners {
        ranges: false,
        cuts: 1,
        cut_after: 5_000_000,
        ..Manners::default()
    });
    scene.press(SECOND, "download").await;
    scene.until(SECOND, "here").await;
    scene.until(FIRST, "here").await;
    let kept = scene.stored().await;
    assert!(first.iter().all(|file| kept.contains(file)), "{kept:?}");
    scene.press(SECOND, "use").await;
    scene.computes("CLIP ViT-B/16").await;
    scene
        .agrees(&on_disk("second", repository(SMALL, 2).0))
        .await;

    // Without a hub, what is here stays in use.
    let Scene {
        hub,
        server,
        browser,
    } = scene;
    drop(hub);
    let scene = Scene {
        hub: Hub::start().unwrap(),
        server,
        browser,
    };
    scene.press("vit-l-14", "download").await;
    scene.says("vit-l-14", "cannot be reached").await;
    scene.until(FIRST, "here").await;
}

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
