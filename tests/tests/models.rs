//! What is published, how a hub is asked, and `plume models` against a hub
//! that misbehaves.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};

use plume_core::checkpoint::{Precision, idefics_config, inventory, packed_bytes};
use plume_core::config::ClipConfig;
use plume_core::config::flamingo::FlamingoConfig;
use plume_core::hub::{
    Head, Http, Hub as Address, HubError, InParts, Listing, PackedBytes, Published, Registry,
    resolve,
};
use plume_core::image::{Family, Preprocess};
use plume_core::tasks::writer::WriterConfig;
use plume_tests::command::{printed, well};
use plume_tests::hub::{Content, Hub, Manners};
use plume_tests::{names, plume, root};

fn registry() -> Registry {
    let json = std::fs::read_to_string(root().join("www/models.json")).unwrap();
    Registry::from_json(&json).unwrap()
}

/// Ids in the list, and the names of their sizes.
const PRESETS: [(&str, &str); 18] = [
    ("tinyclip-vit-8m", "TinyCLIP-ViT-8M-16-Text-3M"),
    ("tinyclip-vit-39m", "TinyCLIP-ViT-39M-16-Text-19M"),
    ("tinyclip-vit-61m", "TinyCLIP-ViT-61M-32-Text-29M"),
    ("rn50", "RN50"),
    ("rn101", "RN101"),
    ("rn50x4", "RN50x4"),
    ("rn50x16", "RN50x16"),
    ("rn50x64", "RN50x64"),
    ("vit-b-32", "ViT-B/32"),
    ("vit-b-16", "ViT-B/16"),
    ("vit-l-14", "ViT-L/14"),
    ("vit-l-14-336", "ViT-L/14@336px"),
    ("laion-vit-b-32", "ViT-B-32"),
    ("laion-vit-b-16", "ViT-B-16"),
    ("laion-vit-l-14", "ViT-L-14"),
    ("laion-vit-h-14", "ViT-H-14"),
    ("siglip-vit-b-16", "ViT-B-16-SigLIP"),
    ("siglip-so400m-14-384", "ViT-SO400M-14-SigLIP-384"),
];

/// Parameters of a CLIP of two transformers by its sizes.
fn parameters(image: [u64; 4], text: [u64; 2], embed: u64) -> u64 {
    let block = |w: u64| 12 * w * w + 13 * w;
    let [side, patch, layers, width] = image;
    let tokens = (side / patch).pow(2) + 1;
    let vision = (3 * patch * patch + 1 + tokens + 4 + embed) * width + layers * block(width);
    let [depth, wide] = text;
    let text = (49408 + 77 + 2 + embed) * wide + depth * block(wide);
    vision + text + 1
}

#[test]
fn sizes_in_the_list_follow_from_the_models() {
    let registry = registry();
    let by_id: BTreeMap<_, _> = registry.models.iter().map(|m| (m.id.as_str(), m)).collect();
    assert_eq!(by_id.len(), registry.models.len(), "an id is there twice");
    let transformers = [
        ("tinyclip-vit-8m", [224, 16, 10, 256], [3, 256], 512),
        ("tinyclip-vit-39m", [224, 16, 12, 512], [6, 512], 512),
        ("tinyclip-vit-61m", [224, 32, 12, 640], [9, 512], 512),
        ("vit-b-32", [224, 32, 12, 768], [12, 512], 512),
        ("laion-vit-b-32", [224, 32, 12, 768], [12, 512], 512),
        ("vit-b-16", [224, 16, 12, 768], [12, 512], 512),
        ("laion-vit-b-16", [224, 16, 12, 768], [12, 512], 512),
        ("vit-l-14", [224, 14, 24, 1024], [12, 768], 768),
        ("laion-vit-l-14", [224, 14, 24, 1024], [12, 768], 768),
        ("vit-l-14-336", [336, 14, 24, 1024], [12, 768], 768),
        ("laion-vit-h-14", [224, 14, 32, 1280], [24, 1024], 1024),
    ];
    for (id, image, text, embed) in transformers {
        let model = by_id[id];
        assert_eq!(model.parameters, parameters(image, text, embed), "{id}");
    }
    // Millions, as the paper's and open_clip's tables have them.
    let resnets = [
        ("rn50", 102.01),
        ("rn101", 119.69),
        ("rn50x4", 178.30),
        ("rn50x16", 290.98),
        ("rn50x64", 623.26),
    ];
    for (id, millions) in resnets {
        let found = by_id[id].parameters as f64 / 1e6;
        assert!((found - millions).abs() < 0.006, "{id}: {found}");
    }
    for (id, preset) in PRESETS {
        let config = ClipConfig::preset(preset).unwrap();
        let bytes = config.vision().unwrap().picture_bytes();
        assert_eq!(by_id[id].picture_bytes, bytes, "{id}");
        if id.starts_with("siglip") {
            let shapes = inventory(&config).unwrap();
            let sizes = shapes
                .iter()
                .map(|(_, shape)| shape.iter().product::<usize>());
            assert_eq!(by_id[id].parameters, sizes.sum::<usize>() as u64, "{id}");
        }
    }
    assert_eq!(PRESETS.len(), registry.models.len());
    for model in &registry.models {
        assert_eq!(model.bytes(), 4 * model.parameters, "{}", model.id);
        assert!(!model.good_at.is_empty() && !model.licence.is_empty());
    }
}

/// The sizes of a Flamingo of the list.
fn flamingo(id: &str) -> FlamingoConfig {
    let open = |name| FlamingoConfig::open_flamingo(name).unwrap();
    match id.trim_end_matches("-instruct") {
        "openflamingo-3b" => open("OpenFlamingo-3B"),
        "openflamingo-4b" => open("OpenFlamingo-4B"),
        "openflamingo-9b" => open("OpenFlamingo-9B"),
        // Its table is as long as MPT-7B's own, its tokens in the middle of it.
        "otter-image-mpt7b" => {
            let mut config = open("OpenFlamingo-9B");
            config.lm.vocab_size = 50_432;
            config
        }
        "idefics-9b" => {
            let published = &names::published("flamingo/names.json")["IDEFICS-9B"];
            idefics_config(&published.config.to_string()).unwrap()
        }
        mini => FlamingoConfig::flamingo_mini(mini, [5, 28_696], 50_265).unwrap(),
    }
}

/// Packed as `plume pack` would; of the tokenizer's own added tokens nothing is
/// known here, which are kilobytes.
#[test]
fn sizes_of_flamingos_in_the_list_follow_from_the_models() {
    let mut wrong = Vec::new();
    for model in registry().flamingos {
        let config = flamingo(&model.id);
        let preprocess = Preprocess::clip(config.vision.image_size(), Family::OpenClip);
        let writer = WriterConfig::open_flamingo(config.clone(), preprocess, "{}".into());
        let all = writer.asked().unwrap();
        let numbers = all
            .iter()
            .map(|asked| asked.shape.iter().product::<usize>());
        let found = InParts {
            parameters: numbers.sum::<usize>() as u64,
            packed: PackedBytes {
                q4_0: packed_bytes(&all, Precision::Q4_0),
                q8_0: packed_bytes(&all, Precision::Q8_0),
                f16: packed_bytes(&all, Precision::F16),
            },
            token_bytes: config.lm.bytes_per_token() as u64,
            image_bytes: config.bytes_per_image() as u64,
            picture_bytes: config.vision.picture_bytes(),
            ..model.clone()
        };
        assert!(!model.good_at.is_empty() && !model.licence.is_empty());
        if found != model {
            wrong.push(found);
        }
    }
    let json = serde_json::to_string_pretty(&wrong).unwrap();
    assert!(wrong.is_empty(), "models.json should have {json}");
}

#[test]
fn flamingos_are_packed_by_commands_that_there_are() {
    let help = well(&["pack", "--help"]);
    let flamingos = registry().flamingos;
    for model in &flamingos {
        let commands = model.commands("q8_0");
        let lines: Vec<&str> = commands.lines().collect();
        let (pack, downloads) = lines.split_last().unwrap();
        assert_eq!(downloads.len(), model.parts.len());
        for flag in pack.split(' ').filter(|word| word.starts_with("--")) {
            assert!(help.contains(&format!("{flag} <")), "{flag}: {help}");
        }
        // Every part is given as it was downloaded.
        for line in downloads {
            let (_, folder) = line.rsplit_once(" --local-dir ").unwrap();
            let given = |end: &str| pack.contains(&format!(" {folder}{end}"));
            assert!(given("/") || given(" "), "{folder}: {pack}");
        }
    }
    let first = flamingos.iter().find(|m| m.id == "openflamingo-3b");
    let expected = "\
hf download openflamingo/OpenFlamingo-3B-vitl-mpt1b checkpoint.pt --local-dir OpenFlamingo-3B-vitl-mpt1b
hf download timm/vit_large_patch14_clip_224.openai open_clip_model.safetensors open_clip_config.json --local-dir vit_large_patch14_clip_224.openai
hf download anas-awadalla/mpt-1b-redpajama-200b --local-dir mpt-1b-redpajama-200b
plume pack --from OpenFlamingo-3B-vitl-mpt1b/checkpoint.pt --vision vit_large_patch14_clip_224.openai --lm mpt-1b-redpajama-200b --dtype q4_0 --name \"OpenFlamingo-3B\" --to openflamingo-3b-q4_0.gguf";
    assert_eq!(first.unwrap().commands("q4_0"), expected);
}

#[test]
fn an_address_is_understood_or_refused() {
    let hub = Address::new("https://hub.example/");
    let of = |text: &str| Published::from_address(text, &hub);
    let first = |text: &str| {
        let model = of(text).unwrap();
        let source = model.sources[0].clone();
        let file = source.files[0].name.clone();
        hub.file(&source, None, &file)
    };
    for (text, url) in [
        (
            "a/b",
            "https://hub.example/a/b/resolve/main/model.safetensors",
        ),
        (
            "a/b@v1",
            "https://hub.example/a/b/resolve/v1/model.safetensors",
        ),
        (
            "https://hub.example/a/b",
            "https://hub.example/a/b/resolve/main/model.safetensors",
        ),
        (
            "https://hub.example/a/b/tree/refs/pr/15",
            "https://hub.example/a/b/resolve/refs%2Fpr%2F15/model.safetensors",
        ),
        (
            "https://else.example/x/w.safetensors?download=true",
            "https://else.example/x/w.safetensors",
        ),
        (
            "https://else.example/x/q8.gguf",
            "https://else.example/x/q8.gguf",
        ),
        (
            "https://else.example/folder",
            "https://else.example/folder/model.safetensors",
        ),
    ] {
        assert_eq!(first(text), url, "{text}");
    }
    for text in ["", "name", "a/b/c", "../../etc", "a b/c", "ftp://x/y"] {
        assert!(of(text).is_err(), "{text}");
    }
}

#[test]
fn weights_are_found_in_whichever_form_they_are_listed() {
    let listing = |names: &[&str]| {
        let files: Vec<_> = names
            .iter()
            .map(|name| serde_json::json!({ "rfilename": name, "size": name.len() }))
            .collect();
        let json = serde_json::json!({ "sha": "c", "siblings": files });
        Listing::from_json(&json.to_string()).unwrap()
    };
    let hub = Address::new("https://hub.example");
    let model = Published::from_address("a/b", &hub).unwrap();
    let found = |names: &[&str]| listing(names).weights(&model.sources[0]);
    let both = ["model.safetensors", "open_clip_model.safetensors"];
    assert_eq!(found(&both).unwrap(), ["model.safetensors"]);
    assert_eq!(found(&both[1..]).unwrap(), ["open_clip_model.safetensors"]);
    let shards = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "other.safetensors",
    ];
    assert_eq!(found(&shards).unwrap(), [shards[2], shards[0], shards[1]]);
    assert_eq!(found(&["long-f16.gguf", "q8.gguf"]).unwrap(), ["q8.gguf"]);
    assert_eq!(found(&["pytorch_model.bin", "config.json"]), None);
    assert_eq!(Listing::from_json("<html>"), None);
}

/// A network of these addresses alone.
struct Few(BTreeMap<String, Result<String, HubError>>);

impl Http for Few {
    async fn get(&self, url: &str) -> Result<String, HubError> {
        let missing = || HubError::Missing {
            url: url.to_owned(),
        };
        self.0.get(url).cloned().unwrap_or_else(|| Err(missing()))
    }

    async fn head(&self, url: &str) -> Result<Head, HubError> {
        let text = self.get(url).await?;
        Ok(Head::new(Some(text.len() as u64), Some("W/\"tag\""), None))
    }
}

#[test]
fn the_first_source_that_answers_is_taken_and_pinned() {
    let registry = registry();
    let hub = Address::new("https://hub.example");
    let model = registry.models.iter().find(|m| m.id == "vit-b-32").unwrap();
    let list = |repository: &str, revision: &str| {
        format!("https://hub.example/api/models/{repository}/revision/{revision}?blobs=true")
    };
    // On main there are no weights that are read; the request for them has them.
    let main = r#"{"sha":"aaa","siblings":[{"rfilename":"pytorch_model.bin","size":9}]}"#;
    let request = r#"{"sha":"bbb","siblings":[{"rfilename":"config.json","size":2},
        {"rfilename":"model.safetensors","size":9,"lfs":{"sha256":"ABCD","size":9,"pointerSize":1}},
        {"rfilename":"tokenizer.json","size":3}]}"#;
    let repository = "openai/clip-vit-base-patch32";
    let network = Few(BTreeMap::from([
        (list(repository, "main"), Ok(main.to_owned())),
        (list(repository, "refs%2Fpr%2F15"), Ok(request.to_owned())),
    ]));
    let plan = resolve(&network, &hub, model, Some(&registry.tokenizer));
    let plan = pollster::block_on(plan).unwrap();
    let names: Vec<_> = plan.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(
        names,
        ["model.safetensors", "config.json", "tokenizer.json"]
    );
    assert_eq!(
        plan.files[0].url,
        "https://hub.example/openai/clip-vit-base-patch32/resolve/bbb/model.safetensors"
    );
    assert_eq!((plan.files[0].key.as_str(), plan.bytes()), ("abcd", 14));

    // A gate on the first explains more than the rest not being there.
    let gate = HubError::Gated {
        url: list(repository, "main"),
    };
    let network = Few(BTreeMap::from([(
        list(repository, "main"),
        Err(gate.clone()),
    )]));
    let plan = resolve(&network, &hub, model, None);
    assert_eq!(pollster::block_on(plan).unwrap_err(), gate);
}

/// A cache of its own for a test.
fn run(hub: &Hub, cache: &str, arguments: &[&str]) -> Output {
    let cache = cache_folder(cache);
    Command::new(plume())
        .env("HF_ENDPOINT", hub.address())
        .env("XDG_CACHE_HOME", cache)
        .arg("models")
        .args(arguments)
        .output()
        .unwrap()
}

fn cache_folder(name: &str) -> PathBuf {
    root().join("target/tmp-models").join(name)
}

fn small_hub() -> (Hub, Vec<u8>) {
    let hub = Hub::start().unwrap();
    // The demo, under a published name.
    let file = |name: &str| std::fs::read(root().join("www/demo/clip").join(name)).unwrap();
    let weights = file("model.safetensors");
    let names = ["config.json", "tokenizer.json", "preprocessor_config.json"];
    let mut files: Vec<(&str, Content)> = names.iter().map(|&n| (n, file(n).into())).collect();
    files.push(("model.safetensors", weights.clone().into()));
    hub.publish("openai/clip-vit-base-patch32", files);
    (hub, weights)
}

#[test]
fn a_model_is_downloaded_in_spite_of_cuts_and_used_by_its_name() {
    let (hub, weights) = small_hub();
    let cache = cache_folder("cuts");
    let _ = std::fs::remove_dir_all(&cache);
    hub.behave(Manners {
        cuts: 2,
        cut_after: 700_000,
        ..Manners::default()
    });
    let folder = printed(run(&hub, "cuts", &["get", "vit-b-32"])).unwrap();
    let folder = PathBuf::from(folder.trim());
    assert!(folder.starts_with(cache.join("plume/models")), "{folder:?}");
    assert!(std::fs::read(folder.join("model.safetensors")).unwrap() == weights);
    let ranges = hub.ranges();
    assert_eq!(ranges, [700_000, 1_400_000]);

    let list = printed(run(&hub, "cuts", &["list", "--json"])).unwrap();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let here: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .filter(|m| m["here"] == true)
        .collect();
    assert_eq!((here.len(), &here[0]["id"]), (1, &"vit-b-32".into()));
    // Any other command takes it by its name.
    let output = Command::new(plume())
        .env("XDG_CACHE_HOME", &cache)
        .args(["tokenize", "--model", "vit-b-32", "a red house"])
        .output()
        .unwrap();
    let by_name = printed(output).unwrap();
    let output = Command::new(plume())
        .args(["tokenize", "--model"])
        .arg(root().join("www/demo/clip"))
        .arg("a red house")
        .output()
        .unwrap();
    assert_eq!(by_name, printed(output).unwrap());
    printed(run(&hub, "cuts", &["remove", "vit-b-32"])).unwrap();
    assert!(printed(run(&hub, "cuts", &["path", "vit-b-32"])).is_err());
}

#[test]
fn a_download_that_was_stopped_goes_on_and_a_wrong_one_is_thrown_away() {
    let (hub, weights) = small_hub();
    let cache = cache_folder("stopped");
    let _ = std::fs::remove_dir_all(&cache);
    let said = |output: Output| printed(output).unwrap_err().to_string();
    hub.behave(Manners {
        lies: true,
        ..Manners::default()
    });
    let words = said(run(&hub, "stopped", &["get", "vit-b-32"]));
    assert!(words.contains("is not what the hub announced"), "{words}");
    let folder = cache.join("plume/models/vit-b-32");
    assert!(!folder.join("model.safetensors").exists());
    assert!(!folder.join("model.safetensors.part").exists());
    let _ = std::fs::remove_dir_all(&cache);

    // Killed in the middle.
    hub.behave(Manners {
        bytes_per_second: Some(600_000),
        ..Manners::default()
    });
    let mut process = Command::new(plume())
        .env("HF_ENDPOINT", hub.address())
        .env("XDG_CACHE_HOME", &cache)
        .args(["models", "get", "vit-b-32"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let part = folder.join("model.safetensors.part");
    let arrived = || part.metadata().map_or(0, |data| data.len());
    while arrived() < 300_000 {
        assert!(process.try_wait().unwrap().is_none(), "it ended early");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    let kept = arrived();
    hub.asked();
    hub.behave(Manners::default());
    printed(run(&hub, "stopped", &["get", "vit-b-32"])).unwrap();
    let ranges = hub.ranges();
    assert_eq!(ranges, [kept]);
    assert!(std::fs::read(folder.join("model.safetensors")).unwrap() == weights);

    for (manners, word) in [
        (401, "accept the terms"),
        (404, "is not there"),
        (503, "answered 503"),
    ] {
        hub.behave(Manners {
            status: Some(manners),
            ..Manners::default()
        });
        let words = said(run(&hub, "stopped", &["get", "vit-b-16"]));
        assert!(words.contains(word), "{words}");
    }
}
