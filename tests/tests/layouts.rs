//! Names and sizes, without weights: what a model asks for is what publishers
//! have, tensor for tensor, in every layout and at every published size.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::{BTreeMap, HashMap};

use plume_core::Result;
use plume_core::backend::Activation;
use plume_core::checkpoint::{Bytes, Checkpoint, Init, Recipe, Source};
use plume_core::checkpoint::{Layout, clip_config, inventory, openai_config};
use plume_core::config::{ClipConfig, Scoring, VisionConfig};
use plume_tests::names::{self, collapsed, elements};
use plume_tests::{root, shared};
use serde_json::{Value, json};

/// The numbers of a layout's tensors that reach the model: all of them, but
/// of a batch norm, which is folded, only one for each channel, and no gain of
/// a standardised weight.
fn numbers(layout: Layout, tensors: &BTreeMap<String, BTreeMap<String, usize>>) -> usize {
    let mut sum = 0;
    for (name, shapes) in tensors {
        let all: usize = shapes.iter().map(|(s, count)| elements(s) * count).sum();
        if name.ends_with(".running_mean") {
            // Beside the mean, the gain goes into the weight.
            sum -= all;
        } else if !name.ends_with(".running_var")
            && !name.ends_with(".gain")
            && !layout.ignores(name)
        {
            sum += all;
        }
    }
    sum
}

#[test]
fn every_name_has_one_recipe_and_no_tensor_is_left_over() {
    for (name, model) in names::published("names.json") {
        let config = clip_config(&model.config.to_string()).unwrap();
        let asked = inventory(&config).unwrap();
        let has = |mark: &str| model.tensors.contains_key(&collapsed(mark));
        let layout = Layout::detect(&has).unwrap();

        // How often each tensor of the file is used, in parts of it.
        let mut used: HashMap<String, f64> = HashMap::new();
        for (canonical, _) in &asked {
            let recipe = layout.recipe(canonical);
            let share = match &recipe {
                Recipe::Parts { parts, of, .. } => (parts.1 - parts.0) as f64 / *of as f64,
                _ => 1.0,
            };
            // A norm serves weight and bias: it is counted with the bias.
            let sources = match recipe {
                Recipe::FoldedWeight { conv, .. } => vec![conv],
                other => other.sources(),
            };
            for source in sources {
                *used.entry(source).or_default() += share;
            }
        }
        assert!(used.values().all(|&uses| uses == 1.0), "{name}: {used:?}");

        let mut ours: BTreeMap<String, usize> = BTreeMap::new();
        for source in used.keys() {
            *ours.entry(collapsed(source)).or_default() += 1;
        }
        let theirs: BTreeMap<String, usize> = model
            .tensors
            .iter()
            .filter(|(source, _)| !layout.ignores(source))
            .map(|(source, shapes)| (source.clone(), shapes.values().sum()))
            .collect();
        assert_eq!(ours, theirs, "{name}");
        let sum: usize = asked.iter().map(|(_, s)| s.iter().product::<usize>()).sum();
        assert_eq!(sum, numbers(layout, &model.tensors), "{name}");
    }
}

#[test]
fn published_configurations_are_the_presets() {
    let mut seen = 0;
    for (name, model) in names::published("names.json") {
        let (publisher, name) = name.split_once(' ').unwrap();
        let mut found = clip_config(&model.config.to_string()).unwrap();
        let preset = |name: &str| ClipConfig::preset(name).unwrap();
        let mut expected = match (publisher, name) {
            ("timm", _) => continue,
            // open_clip's names for OpenAI's.
            (_, name) if name.ends_with("-quickgelu") => {
                let name = name.trim_end_matches("-quickgelu");
                let openai = name.replacen("-32", "/32", 1).replacen("-16", "/16", 1);
                let openai = openai
                    .replacen("-14-336", "/14@336px", 1)
                    .replacen("-14", "/14", 1);
                preset(&openai)
            }
            (_, name) => preset(name),
        };
        if (publisher, expected.scoring) == ("open_clip", Scoring::Sigmoid) {
            // open_clip computes SigLIP with the exact GELU, transformers
            // without: each as its files say.
            for config in [&mut found, &mut expected] {
                let Some(VisionConfig::Vit(vit)) = &mut config.vision else {
                    panic!("{name} is a vision transformer");
                };
                vit.transformer.activation = Activation::Gelu;
                config.text.as_mut().unwrap().transformer.activation = Activation::Gelu;
            }
        }
        assert_eq!(found, expected, "{publisher} {name}");
        seen += 1;
    }
    assert!(seen > 20, "{seen}");
}

/// Parameters of a tower as its publisher counts them: gain and bias of every
/// norm.
fn parameters(config: &ClipConfig, tower: &str) -> usize {
    let all = inventory(config).unwrap();
    let of_tower = all.iter().filter(|(name, _)| name.starts_with(tower));
    of_tower
        .map(|(name, shape)| {
            let folded = name.starts_with("vision.conv") || name.starts_with("vision.layer");
            let gains = usize::from(folded && name.ends_with(".bias"));
            shape.iter().product::<usize>() * (1 + gains)
        })
        .sum()
}

#[test]
fn presets_have_the_published_number_of_parameters() {
    // Millions, of the image tower and of the text tower.
    let table = [
        ("RN50", 38.32, 63.69),
        ("RN101", 56.26, 63.43),
        ("RN50x4", 87.14, 91.16),
        ("RN50x16", 167.33, 123.65),
        ("RN50x64", 420.38, 202.88),
        ("ViT-B/32", 87.85, 63.43),
        ("ViT-B/16", 86.19, 63.43),
        ("ViT-L/14", 303.97, 123.65),
        ("ViT-L/14@336px", 304.29, 123.65),
        ("ViT-B-32", 87.85, 63.43),
        ("ViT-B-16", 86.19, 63.43),
        ("ViT-L-14", 303.97, 123.65),
        ("ViT-H-14", 632.08, 354.03),
        ("TinyCLIP-ViT-8M-16-Text-3M", 8.28, 15.17),
        ("TinyCLIP-ViT-39M-16-Text-19M", 38.59, 44.51),
        ("TinyCLIP-ViT-61M-32-Text-29M", 61.41, 53.97),
        ("TinyCLIP-ResNet-19M-Text-19M", 18.60, 44.78),
        ("TinyCLIP-ResNet-30M-Text-29M", 29.58, 54.23),
    ];
    let close = |count: usize, millions: f64| (count as f64 / 1e6 - millions).abs() < 0.0051;
    for (name, vision, text) in table {
        let config = ClipConfig::preset(name).unwrap();
        let counts = ["vision.", "text."].map(|tower| parameters(&config, tower));
        assert!(close(counts[0], vision), "{name}: {counts:?}");
        assert!(close(counts[1], text), "{name}: {counts:?}");
    }
    let whole = |name: &str| {
        let config = ClipConfig::preset(name).unwrap();
        parameters(&config, "")
    };
    // Printed in OpenAI's notebook.
    assert_eq!(whole("ViT-B/32"), 151_277_313);
    assert!((whole("ViT-B-16-SigLIP") as f64 / 1e6 - 203.2).abs() < 0.05);
    assert!((whole("ViT-SO400M-14-SigLIP-384") as f64 / 1e6 - 878.0).abs() < 0.5);
    assert_eq!(ClipConfig::presets().count(), table.len() + 5);
}

#[test]
fn a_published_file_is_read_whole() {
    let (Some(config), Some(list)) = (
        shared("tinyclip-config/config.json"),
        shared("tinyclip-config/expected_tensors.json"),
    ) else {
        return;
    };
    let config = clip_config(&std::fs::read_to_string(config).unwrap()).unwrap();
    assert_eq!(
        Some(config.clone()),
        ClipConfig::preset("TinyCLIP-ViT-8M-16-Text-3M")
    );
    let list: Value = serde_json::from_slice(&std::fs::read(list).unwrap()).unwrap();
    let checkpoint = Checkpoint::open(Box::new(Zeros::of(&list["tensors"], "F16"))).unwrap();
    let mut sum = 0;
    for (name, shape) in inventory(&config).unwrap() {
        sum += checkpoint.read(&name, &shape).unwrap().len();
    }
    assert_eq!(Some(sum as u64), list["parameters"].as_u64());
    assert_eq!(checkpoint.left_over(), [""; 0]);
}

/// A file of zeros with a header that is true: no weights, no memory.
struct Zeros {
    head: Vec<u8>,
    len: u64,
}

impl Zeros {
    /// The tensors of `{name: shape}`.
    fn of(tensors: &Value, dtype: &str) -> Self {
        let width = if dtype == "F32" { 4 } else { 2 };
        let mut header = serde_json::Map::new();
        let mut end = 0;
        for (name, shape) in tensors.as_object().unwrap() {
            let start = end;
            end += elements(&shape.to_string()) * width;
            let info = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]});
            header.insert(name.clone(), info);
        }
        let json = serde_json::to_vec(&header).unwrap();
        let mut head = (json.len() as u64).to_le_bytes().to_vec();
        head.extend(json);
        let len = (head.len() + end) as u64;
        Self { head, len }
    }
}

impl Bytes for Zeros {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let offset = offset as usize;
        if offset < self.head.len() {
            let shared = len.min(self.head.len() - offset);
            bytes[..shared].copy_from_slice(&self.head[offset..offset + shared]);
        }
        Ok(bytes)
    }
}

#[test]
fn openais_archives_tell_their_sizes_by_their_shapes() {
    for (name, model) in names::published("names.json") {
        let Some(name) = name.strip_suffix("-quickgelu") else {
            continue;
        };
        let config = clip_config(&model.config.to_string()).unwrap();
        // As many tensors of each path as there are; those that tell a size
        // have the same shape whatever their number.
        let shape = |asked: &str| -> Option<Vec<usize>> {
            let shapes = model.tensors.get(&collapsed(asked))?;
            let path: Vec<&str> = asked.split('.').collect();
            let index = path.iter().find_map(|part| part.parse::<usize>().ok());
            let count = shapes.values().sum();
            (index.unwrap_or(0) < count).then(|| {
                let first = shapes.keys().next().unwrap();
                serde_json::from_str(first).unwrap()
            })
        };
        assert_eq!(openai_config(&shape).unwrap(), config, "{name}");
    }
}

fn vit(config: &ClipConfig) -> &plume_core::config::TransformerConfig {
    match config.vision().unwrap() {
        VisionConfig::Vit(vit) => &vit.transformer,
        _ => panic!("expected a vision transformer"),
    }
}

#[test]
fn the_activation_is_the_checkpoints() {
    let of = |config: Value| {
        let config = clip_config(&config.to_string()).unwrap();
        let text = config.text.as_ref().map(|text| text.transformer.activation);
        (vit(&config).activation, text)
    };
    let both = |activation| (activation, Some(activation));
    // transformers: what is left unsaid is QuickGELU in CLIP and the
    // approximation by tanh in SigLIP; the towers may differ.
    let clip = |act: Value| json!({"model_type": "clip", "vision_config": act, "text_config": act});
    assert_eq!(of(clip(json!({}))), both(Activation::QuickGelu));
    assert_eq!(
        of(clip(json!({"hidden_act": "gelu"}))),
        both(Activation::Gelu)
    );
    assert_eq!(
        of(json!({"model_type": "siglip"})),
        both(Activation::GeluTanh)
    );
    let mixed = json!({"model_type": "clip", "text_config": {"hidden_act": "gelu"}});
    assert_eq!(of(mixed), (Activation::QuickGelu, Some(Activation::Gelu)));
    // open_clip: what is left unsaid is GELU.
    let open_clip = |quick: Value| {
        let mut model = json!({
            "embed_dim": 512,
            "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
            "text_cfg": {},
        });
        model
            .as_object_mut()
            .unwrap()
            .extend(quick.as_object().unwrap().clone());
        json!({"model_cfg": model})
    };
    assert_eq!(of(open_clip(json!({}))), both(Activation::Gelu));
    assert_eq!(
        of(open_clip(json!({"quick_gelu": true}))),
        both(Activation::QuickGelu)
    );
    // timm: by name, but OpenAI's weights under the plain name as well.
    let timm = |name: &str, tag: &str| json!({"architecture": name, "num_classes": 512, "pretrained_cfg": {"tag": tag}});
    let plain = "vit_base_patch32_clip_224";
    assert_eq!(of(timm(plain, "laion2b")).0, Activation::Gelu);
    assert_eq!(of(timm(plain, "openai")).0, Activation::QuickGelu);
    let quick = "vit_base_patch32_clip_quickgelu_224";
    assert_eq!(of(timm(quick, "metaclip_2pt5b")).0, Activation::QuickGelu);
    // The names of presets tell OpenAI's from open_clip's.
    let preset = |name| vit(&ClipConfig::preset(name).unwrap()).activation;
    assert_eq!(preset("ViT-B/32"), Activation::QuickGelu);
    assert_eq!(preset("ViT-B-32"), Activation::Gelu);
}

#[test]
fn heads_of_80_are_not_taken_for_heads_of_64() {
    for name in [
        "open_clip ViT-H-14",
        "transformers ViT-H-14",
        "timm vit_huge_patch14_clip_224",
    ] {
        let config = clip_config(&names::published("names.json")[name].config.to_string()).unwrap();
        assert_eq!(
            (vit(&config).width, vit(&config).heads),
            (1280, 16),
            "{name}"
        );
    }
}

#[test]
fn old_configurations_are_read_by_their_overrides() {
    let config = json!({
        "model_type": "clip", "projection_dim": 768,
        "vision_config": {"hidden_size": 768},
        "vision_config_dict": {"hidden_size": 1024, "num_attention_heads": 16,
                               "num_hidden_layers": 24, "patch_size": 14,
                               "intermediate_size": 4096},
        "text_config_dict": null,
    });
    let config = clip_config(&config.to_string()).unwrap();
    assert_eq!(vit(&config), vit(&ClipConfig::preset("ViT-L/14").unwrap()));
}

#[test]
fn what_is_not_computed_is_refused() {
    let refused = |config: Value, word: &str| {
        let error = clip_config(&config.to_string()).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    let open_clip = |vision: Value| json!({"model_cfg": {"embed_dim": 512, "vision_cfg": vision, "text_cfg": {}}});
    let convnext = json!({"image_size": 224, "timm_model_name": "convnext_base"});
    refused(open_clip(convnext), "convnext_base");
    let pooled = json!({"image_size": 224, "layers": 12, "width": 768, "patch_size": 32,
                        "attentional_pool": true});
    refused(open_clip(pooled), "attentional_pool");
    refused(json!({"model_type": "blip"}), "blip");
    refused(
        json!({"architecture": "resnet50", "num_classes": 1000}),
        "resnet50",
    );
    let tall = json!({"model_type": "plume_clip", "embed_dim": 8, "vision": {"height": 3}});
    refused(tall, "expected a vision transformer");
}

/// timm's classifier has a bias, which is 0 in CLIP.
#[test]
fn a_tower_that_was_trained_on_is_refused() {
    let folder = root().join("tests/golden/clip/vit-timm");
    let mut file = std::fs::read(folder.join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let at = header["head.bias"]["data_offsets"][0].as_u64().unwrap() as usize;
    assert!(Checkpoint::open(Box::new(file.clone())).is_ok());
    file[8 + length + at + 3] = 0x3f;
    let error = Checkpoint::open(Box::new(file)).err().unwrap().to_string();
    assert!(error.contains("head.bias"), "{error}");
}

/// A file of one tower beside the configuration of both.
#[test]
fn the_tower_that_is_in_the_file_is_taken() {
    let preset = ClipConfig::preset("TinyCLIP-ViT-8M-16-Text-3M").unwrap();
    let names = &names::published("names.json")["transformers TinyCLIP-ViT-8M-16-Text-3M"].tensors;
    for (tower, has) in [("vision", (true, false)), ("text", (false, true))] {
        let tensors = names.iter().filter(|(name, _)| name.starts_with(tower));
        let file: serde_json::Map<String, Value> = tensors
            .map(|(name, shapes)| {
                let shape = serde_json::from_str(shapes.keys().next().unwrap()).unwrap();
                (name.replace('*', "0"), shape)
            })
            .collect();
        let file = Checkpoint::open(Box::new(Zeros::of(&file.into(), "F32"))).unwrap();
        let present = file.present(&preset);
        assert_eq!((present.vision.is_some(), present.text.is_some()), has);
    }
    // And random weights have whatever is asked for.
    let init = Init::new(preset.clone(), 1);
    assert_eq!(
        init.read("vision.proj", &[512, 256]).unwrap().len(),
        512 * 256
    );
}
