//! The page beside a hub: what the tests of the library of models share.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test stops where it fails"
)]

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use xtask::serve::Server;

use crate::browser::{Browser, page, sample};
use crate::checkpoint::{Seeded, Sizes};
use crate::command::{classified, same};
use crate::hub::{Content, Hub};
use crate::root;

/// A model of some 13 MB, in transformers' layout, with room for the tokens of
/// the page's own tokenizer.
pub const SMALL: Sizes = Sizes {
    embed: 32,
    image: 32,
    patch: 8,
    vision: [256, 4, 4],
    text: [64, 2, 2],
    vocabulary: [1024, 32],
};

/// The files of a repository, as transformers publishes them.
pub fn repository(sizes: Sizes, seed: u64) -> (Vec<(&'static str, Content)>, Arc<Seeded>) {
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
pub fn sharded(sizes: Sizes, seed: u64) -> Vec<(&'static str, Content)> {
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
pub fn on_disk(name: &str, files: Vec<(&str, Content)>) -> PathBuf {
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

/// A model of the list that the hub has.
pub const FIRST: &str = "vit-b-32";
/// Another.
pub const SECOND: &str = "vit-b-16";

/// A hub, and the page that asks it.
pub struct Scene {
    /// The hub.
    pub hub: Hub,
    /// What serves the page.
    pub server: Server,
    /// What shows it.
    pub browser: Browser,
}

impl Scene {
    /// A hub with two models, and the page beside it.
    pub async fn open() -> Option<Self> {
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
    pub async fn visit(&self, more: &str) {
        let address = format!("{}?hub={}{more}", self.server.address(), self.hub.address());
        self.browser.driver.goto("about:blank").await.unwrap();
        self.browser.open(&address).await.unwrap();
        let offers = "return document.querySelectorAll('.offer').length > 10";
        self.browser.until(offers).await.unwrap();
        let open = "document.querySelector('#model-button').click()";
        self.browser.script(open, vec![]).await.unwrap();
    }

    /// Presses a button of a model.
    pub async fn press(&self, id: &str, act: &str) {
        let button = format!(".offer[data-id=\"{id}\"] [data-act=\"{act}\"]");
        let there = format!("return document.querySelector('{button}') !== null");
        self.browser.until(&there).await.unwrap();
        let press = format!("document.querySelector('{button}').click()");
        self.browser.script(&press, vec![]).await.unwrap();
    }

    /// Waits until a model is at a place.
    pub async fn until(&self, id: &str, place: &str) {
        let script = format!(
            "return document.querySelector('.offer[data-id=\"{id}\"]')?.dataset.place === '{place}'"
        );
        self.browser.until(&script).await.unwrap();
    }

    /// Bytes of a model that have arrived.
    pub async fn arrived(&self, id: &str) -> f64 {
        let script = format!(
            "return document.querySelector('.offer[data-id=\"{id}\"] progress')?.value ?? 0"
        );
        let value = self.browser.script(&script, vec![]).await.unwrap();
        value.as_f64().unwrap()
    }

    /// What a model's line says, once it says something with this word.
    pub async fn says(&self, id: &str, word: &str) -> String {
        let script = format!(
            "const t = document.querySelector('.offer[data-id=\"{id}\"] .offer-progress')?.textContent ?? '';
             return t.includes({}) ? t : null",
            json!(word)
        );
        let text = self.browser.until(&script).await.unwrap();
        text.as_str().unwrap().to_owned()
    }

    /// Files that lie in storage, with their sizes.
    pub async fn stored(&self) -> Vec<(String, f64)> {
        let script = "return (async () => {
            const files = await (await navigator.storage.getDirectory()).getDirectoryHandle('files');
            const all = [];
            for await (const [name, handle] of files.entries()) all.push([name, (await handle.getFile()).size]);
            return all; })()";
        let files = self.browser.script(script, vec![]).await.unwrap();
        serde_json::from_value(files).unwrap()
    }

    /// Waits until this model computes.
    pub async fn computes(&self, name: &str) {
        let script = format!(
            "return document.querySelector('.model-name')?.textContent === {}",
            json!(name)
        );
        self.browser.until(&script).await.unwrap();
    }

    /// Classifies a sample with the model of now, as the command does.
    pub async fn agrees(&self, model: &std::path::Path) {
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

/// What the page begins with.
pub const LABELS: [&str; 8] = [
    "cat", "house", "fish", "tree", "star", "umbrella", "rocket", "bird",
];
/// Likewise.
pub const TEMPLATES: [&str; 4] = [
    "a {}",
    "a drawing of a {}",
    "a sketch of a {}",
    "this is a {}",
];
