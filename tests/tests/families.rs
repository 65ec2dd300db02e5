//! The other Flamingos (flamingo-mini, IDEFICS, Otter) and the paper's
//! ablations, against the references of `tests/golden/make_flamingo.py`.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::{BTreeMap, BTreeSet};

use plume_core::backend::{Activation, Backend};
use plume_core::bench::language::{Noise, layer_pair};
use plume_core::checkpoint::layouts::{Family, Language};
use plume_core::checkpoint::{
    Asked, Assembly, Checkpoint, Layout, Role, Source, Weights, asked, flamingo_mini_config,
    idefics_config,
};
use plume_core::config::flamingo::{
    FlamingoConfig, Gate, ResamplerConfig, ResamplerKind, VisionFeatures, XattnConfig, XattnKind,
};
use plume_core::config::language::{LmConfig, NormKind, Positions, Residual};
use plume_core::config::{StemConfig, TransformerConfig, VisionConfig, VisionPool, VitConfig};
use plume_core::cpu::Candle;
use plume_core::image::{Preprocess, Rgb8};
use plume_core::models::flamingo::Flamingo;
use plume_core::models::lm::Pass;
use plume_core::tensor::Tensor;
use plume_tests::names::{self, collapsed, elements};
use plume_tests::{Golden, channels_last, cosine, gpu, max_error, root};

/// The sizes in `make_flamingo.py`.
fn mini() -> FlamingoConfig {
    let lm = LmConfig {
        vocab_size: 40,
        context: 32,
        width: 24,
        embed_width: 24,
        layers: 4,
        heads: 3,
        mlp_width: 40,
        activation: Activation::Relu,
        gated_mlp: false,
        norm: NormKind::Layer,
        norm_eps: 1e-5,
        residual: Residual::Sequential,
        final_norm: true,
        qk_norm: false,
        smeared_keys: false,
        positions: Positions::Learned { offset: 2 },
        bias: true,
        tied: true,
    };
    FlamingoConfig {
        vision: VisionConfig::Vit(VitConfig {
            image_size: 16,
            stem: StemConfig::Patch {
                size: 8,
                bias: false,
            },
            transformer: TransformerConfig {
                width: 16,
                layers: 2,
                heads: 2,
                mlp_width: 24,
                activation: Activation::QuickGelu,
                layer_norm_eps: 1e-5,
            },
            pool: VisionPool::Class,
            ln_pre: true,
        }),
        features: VisionFeatures {
            class_token: true,
            ln_post: false,
        },
        resampler: ResamplerConfig {
            kind: ResamplerKind::Perceiver { latents: 3 },
            depth: 2,
            heads: 2,
            head_dim: 10,
            mlp_width: 32,
            activation: Activation::SquaredRelu,
            time_embeddings: 3,
            norm_eps: 1e-5,
            qk_norm: false,
        },
        xattn: XattnConfig {
            kind: XattnKind::Gated,
            layers: XattnConfig::every(1, 4),
            heads: 2,
            head_dim: 10,
            mlp_width: 48,
            activation: Activation::SquaredRelu,
            gated_mlp: false,
            norm: NormKind::Layer,
            norm_eps: 1e-5,
            gate: Gate::Scalar,
            all_previous: false,
            qk_norm: false,
        },
        lm,
        image_token: 7,
        more_image_tokens: vec![8],
        end_of_chunk: 39,
        end_of_sight: None,
    }
}

struct Reference {
    golden: Golden,
    weights: Vec<u8>,
    layout: Layout,
    folder: &'static str,
}

fn read<B: Backend>(tensor: &Tensor<B>) -> Vec<f32> {
    pollster::block_on(tensor.read()).unwrap()
}

impl Reference {
    fn open(folder: &'static str, layout: Layout) -> Self {
        let path = root().join("tests/golden/flamingo").join(folder);
        Self {
            golden: Golden::open(&path.join("io.safetensors")).unwrap(),
            weights: std::fs::read(path.join("model.safetensors")).unwrap(),
            layout,
            folder,
        }
    }

    fn equal(&self, what: &str, ours: &[f32], tolerance: f32) {
        let (_, theirs) = self.golden.tensor(what).unwrap();
        let error = max_error(ours, &theirs);
        assert!(
            error <= tolerance,
            "{}: {what} is off by {error}",
            self.folder
        );
    }

    /// Whether the reference has it: what is as in the base is left out.
    fn has(&self, what: &str) -> bool {
        self.golden.tensor(what).is_ok()
    }

    /// From pixels to logits. `frames` of each picture or video; `whole` where
    /// the model uses every tensor of the file.
    fn agrees<B: Backend>(
        &self,
        backend: &B,
        config: &FlamingoConfig,
        case: &str,
        frames: &[usize],
        whole: bool,
    ) {
        let checkpoint = Checkpoint::open_as(Box::new(self.weights.clone()), self.layout).unwrap();
        let flamingo = Flamingo::load(backend, config, &checkpoint).unwrap();
        if whole {
            assert_eq!(checkpoint.left_over(), [""; 0], "{}", self.folder);
        }
        let pixels = self.golden.tensor("pixels").unwrap();
        let pixels = channels_last(&pixels);
        let size = config.vision.image_size();
        let count = pixels.len() / (size * size * 3);
        let all = Tensor::upload(backend, &pixels, &[count, size, size, 3]).unwrap();
        self.equal("features", &read(&flamingo.features(&all).unwrap()), 1e-4);

        let used = frames.iter().sum::<usize>() * size * size * 3;
        let visual = flamingo.see(&pixels[..used], frames).unwrap();
        let name = |what: &str| format!("{case}.{what}");
        if self.has(&name("visual")) {
            self.equal(&name("visual"), &read(&visual), 1e-4);
        }
        let own = name("input_ids");
        let ids = if self.has(&own) { &own } else { "input_ids" };
        let ids = self.golden.tensor(ids).unwrap().1;
        let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
        let media = flamingo.media(&visual, 1).unwrap();
        let images = flamingo.image_numbers(&ids);
        assert_eq!(images.last().copied(), Some(frames.len() as u32));
        let pass = Pass::whole(backend, ids.len(), &[0]).unwrap();
        let states = flamingo.states(&ids, &images, &pass, &media).unwrap();
        let numbers: Vec<f32> = states.iter().flat_map(|state| read(state)).collect();
        self.equal(&name("states"), &numbers, 1e-4);
        let logits = flamingo.lm().logits(&states[states.len() - 1]).unwrap();
        self.equal(&name("logits"), &read(&logits), 1e-3);

        // A token at a time, with a cache.
        let mut cache = flamingo.lm().cache(ids.len(), &[0]).unwrap();
        let mut last = Vec::new();
        for (id, image) in ids.iter().zip(&images) {
            let pass = Pass::next(backend, &cache, 1).unwrap();
            let x = flamingo.forward(&[*id], &[*image], &pass, &media, Some(&mut cache));
            last.extend(read(&flamingo.lm().logits(&x.unwrap()).unwrap()));
        }
        self.equal(&name("logits"), &last, 1e-3);
    }
}

/// Flamingo, Table 3: iii, iv, v and vi; Table 10: ii; App. B.1.2.
fn the_ablations_agree<B: Backend>(backend: &B) {
    let reference = Reference::open("mini", Layout::FlamingoMini);
    let case = |name: &str, change: &dyn Fn(&mut FlamingoConfig)| {
        let mut config = mini();
        change(&mut config);
        config.check().unwrap();
        reference.agrees(backend, &config, name, &[1, 1], name == "base");
    };
    let layers = |layers: Vec<usize>| {
        move |config: &mut FlamingoConfig| config.xattn.layers = layers.clone()
    };
    let kind = |kind| move |config: &mut FlamingoConfig| config.resampler.kind = kind;
    case("base", &|_| {});
    case("no_gate", &|config| config.xattn.gate = Gate::None);
    case("vanilla", &|config| config.xattn.kind = XattnKind::Vanilla);
    case("grafting", &layers(vec![2, 3]));
    case("middle", &layers(vec![2]));
    case("second", &layers(XattnConfig::every(2, 4)));
    case("fourth", &layers(XattnConfig::every(4, 4)));
    case("previous", &|config| config.xattn.all_previous = true);
    case("mlp", &kind(ResamplerKind::Mlp));
    case("transformer", &kind(ResamplerKind::Transformer));
}

/// Two frames have learned embeddings; of five some lie between.
fn videos_agree<B: Backend>(backend: &B) {
    let reference = Reference::open("mini", Layout::FlamingoMini);
    reference.agrees(backend, &mini(), "two", &[2, 2], true);
    reference.agrees(backend, &mini(), "five", &[5], true);
}

/// A gated layer and a block of OpenFlamingo-3B, as wide as they are.
#[test]
fn a_layer_pair_of_full_width_is_the_same_on_both_devices() {
    const TEXT: usize = 12;
    let config = layer_pair("OpenFlamingo-3B").unwrap();
    assert_eq!((config.lm.width, config.lm.heads), (2048, 16));
    let mut ids: Vec<u32> = (0..TEXT as u32).map(|id| id * 5 % 29).collect();
    ids[1] = config.image_token;
    fn numbers<B: Backend>(backend: &B, config: &FlamingoConfig, ids: &[u32]) -> Vec<f32> {
        let flamingo = Flamingo::load(backend, config, &Noise(None)).unwrap();
        let pixels: Vec<f32> = (0..28 * 28 * 3).map(|i| (i as f32 * 0.37).sin()).collect();
        let visual = flamingo.see(&pixels, &[1]).unwrap();
        let media = flamingo.media(&visual, 1).unwrap();
        let pass = Pass::whole(backend, ids.len(), &[0]).unwrap();
        let seen = flamingo.image_numbers(ids);
        let states = flamingo.states(ids, &seen, &pass, &media).unwrap();
        states.iter().flat_map(|state| read(state)).collect()
    }
    let cpu = numbers(&Candle::new(), &config, &ids);
    assert_eq!(cpu.len(), 2 * TEXT * 2048);
    assert!(cpu.iter().all(|x| x.is_finite()));
    let (given, made) = cpu.split_at(cpu.len() / 2);
    assert!(
        cosine(given, made) < 0.99,
        "the pair changes what it is given"
    );
    if let Some(gpu) = gpu() {
        let gpu = numbers(&gpu, &config, &ids);
        let error = max_error(&gpu, &cpu);
        println!("OpenFlamingo-3B, a layer pair: largest difference {error}");
        assert!(error <= 1e-4, "{error}");
    }
}

/// Where each frame has tokens of its own, a video is their mean, and stands
/// beside pictures as it does with a Perceiver.
fn videos_have_as_many_tokens_as_pictures<B: Backend>(backend: &B) {
    let reference = Reference::open("mini", Layout::FlamingoMini);
    let pixels = channels_last(&reference.golden.tensor("pixels").unwrap());
    for kind in [ResamplerKind::Mlp, ResamplerKind::Transformer] {
        let mut config = mini();
        config.resampler.kind = kind;
        let bytes = Box::new(reference.weights.clone());
        let checkpoint = Checkpoint::open_as(bytes, reference.layout).unwrap();
        let flamingo = Flamingo::load(backend, &config, &checkpoint).unwrap();
        let size = config.vision.image_size();
        let pixels = &pixels[..3 * size * size * 3];
        let seen = flamingo.see(pixels, &[1, 2]).unwrap();
        let (each, width) = (config.tokens_per_image(), config.vision.width());
        assert_eq!(seen.shape(), [2, each, width]);

        let all = Tensor::upload(backend, pixels, &[3, size, size, 3]).unwrap();
        let places = config.features_per_image() * width;
        let features = read(&flamingo.features(&all).unwrap());
        let clip = [2, config.features_per_image(), width];
        let clip = Tensor::upload(backend, &features[places..], &clip).unwrap();
        let frames = read(&flamingo.resample(&clip, 2).unwrap());
        let (first, second) = frames.split_at(each * width);
        let mean = first.iter().zip(second).map(|(a, b)| f32::midpoint(*a, *b));
        let mean: Vec<f32> = mean.collect();
        let seen = read(&seen);
        assert!(max_error(&seen[each * width..], &mean) <= 1e-5);
        assert!(max_error(first, &mean) > 1e-2);

        let picture = &pixels[..size * size * 3];
        let alone = read(&flamingo.see(picture, &[1]).unwrap());
        assert!(max_error(&seen[..each * width], &alone) <= 1e-5);
        let part = |frames: &[f32]| {
            let visual = flamingo.see(frames, &[frames.len() / picture.len()]);
            flamingo.media(&visual.unwrap(), 1).unwrap()
        };
        let (picture, clip) = (part(picture), part(&pixels[picture.len()..]));
        assert_eq!(flamingo.join(&[&picture, &clip]).unwrap().images(), 2);
        let origins = pollster::block_on(flamingo.origins(&pixels[size * size * 3..], 2));
        let origins = origins.unwrap();
        let row = 2 * config.features_per_image();
        assert_eq!(origins.len(), each * row);
        for origin in origins.chunks(row) {
            assert!((origin.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        }
    }
}

#[test]
fn videos_have_as_many_tokens_as_pictures_on_the_cpu() {
    videos_have_as_many_tokens_as_pictures(&Candle::new());
}

#[test]
fn videos_have_as_many_tokens_as_pictures_on_the_gpu() {
    if let Some(gpu) = gpu() {
        videos_have_as_many_tokens_as_pictures(&gpu);
    }
}

fn idefics_agrees<B: Backend>(backend: &B) {
    for (folder, gate, qk_norm) in [
        ("idefics", Gate::Scalar, true),
        ("idefics-vector", Gate::Vector, false),
    ] {
        let json = root()
            .join("tests/golden/flamingo")
            .join(folder)
            .join("config.json");
        let config = idefics_config(&std::fs::read_to_string(json).unwrap()).unwrap();
        assert_eq!((config.xattn.gate, config.xattn.qk_norm), (gate, qk_norm));
        assert_eq!(config.image_token, 41);
        let reference = Reference::open(folder, Layout::Idefics { every: 2 });
        reference.agrees(backend, &config, "base", &[1, 1], true);
    }
}

#[test]
fn the_ablations_agree_on_the_cpu() {
    the_ablations_agree(&Candle::new());
}

#[test]
fn the_ablations_agree_on_the_gpu() {
    if let Some(gpu) = gpu() {
        the_ablations_agree(&gpu);
    }
}

#[test]
fn videos_agree_on_the_cpu() {
    videos_agree(&Candle::new());
}

#[test]
fn videos_agree_on_the_gpu() {
    if let Some(gpu) = gpu() {
        videos_agree(&gpu);
    }
}

#[test]
fn idefics_agrees_on_the_cpu() {
    idefics_agrees(&Candle::new());
}

#[test]
fn idefics_agrees_on_the_gpu() {
    if let Some(gpu) = gpu() {
        idefics_agrees(&gpu);
    }
}

/// Every tensor of every published size, by name and shape, and nothing else;
/// and the bytes that they take (thousand millions of numbers, then GB in f16,
/// q8_0 and q4_0).
#[test]
fn published_flamingos_have_their_tensors_and_sizes() {
    let open = |name: &str, family| {
        let config = FlamingoConfig::open_flamingo(name).unwrap();
        let heads = config.lm.heads;
        (config, Layout::OpenFlamingo(Language { family, heads }))
    };
    let published = names::published("flamingo/names.json");
    assert_eq!(published.len(), 4);
    let memory = [
        ("OpenFlamingo-3B", [2.558, 5.12, 2.72, 1.44]),
        ("OpenFlamingo-4B", [4.039, 8.08, 4.29, 2.27]),
        ("OpenFlamingo-9B", [8.131, 16.26, 8.64, 4.57]),
        ("IDEFICS-9B", [8.930, 17.86, 9.49, 5.02]),
    ];
    for (name, [numbers, f16, q8, q4]) in memory {
        let model = &published[name];
        let (config, layout) = match name {
            "OpenFlamingo-3B" => open(name, Family::MosaicGpt),
            "OpenFlamingo-4B" => open(name, Family::GptNeox),
            "OpenFlamingo-9B" => open(name, Family::Mpt),
            _ => {
                let config = idefics_config(&model.config.to_string()).unwrap();
                (config, Layout::Idefics { every: 4 })
            }
        };
        let all = asked(|device, source| Flamingo::load(device, &config, source)).unwrap();
        let mut used = BTreeSet::new();
        for asked in &all {
            for source in layout.recipe(&asked.name).sources() {
                assert!(
                    used.insert(source.clone()),
                    "{name}: {source} is read twice"
                );
            }
        }
        let mut ours: BTreeMap<String, usize> = BTreeMap::new();
        for source in &used {
            *ours.entry(collapsed(source)).or_default() += 1;
        }
        let kept = || {
            let tensors = model.tensors.iter();
            tensors.filter(|(source, _)| !layout.ignores(source))
        };
        let theirs: BTreeMap<String, usize> = kept()
            .map(|(source, shapes)| (source.clone(), shapes.values().sum()))
            .collect();
        assert_eq!(ours, theirs, "{name}");
        let each = |(_, shapes): (_, &BTreeMap<String, usize>)| -> usize {
            shapes
                .iter()
                .map(|(shape, count)| elements(shape) * count)
                .sum()
        };
        let sum: usize = all.iter().map(|a| a.shape.iter().product::<usize>()).sum();
        assert_eq!(sum, kept().map(each).sum::<usize>(), "{name}");
        close(name, sum as f64 / 1e9, numbers, 0.001);
        for (bits, expected) in [(16.0, f16), (8.5, q8), (4.5, q4)] {
            close(name, memory_of(&all, bits) / 1e9, expected, 0.02);
        }
    }
}

/// Bytes where matrices of whole blocks take so many bits a number and all else
/// 16.
fn memory_of(all: &[Asked], bits: f64) -> f64 {
    let bytes = |asked: &Asked| {
        let numbers = asked.shape.iter().product::<usize>() as f64;
        let whole = asked.shape.last().is_some_and(|cols| cols % 32 == 0);
        let blocks = matches!(asked.role, Role::Weight | Role::Table { .. }) && whole;
        numbers * if blocks { bits } else { 16.0 } / 8.0
    };
    all.iter().map(bytes).sum()
}

fn close(name: &str, found: f64, expected: f64, part: f64) {
    let off = (found / expected - 1.0).abs();
    assert!(off <= part, "{name}: {found} for {expected}");
}

/// The parts in millions, by what is published of each: the sums of
/// flamingo-mini's README (529 and 180 million that are trained, with the token
/// table) and the shapes of the paper's Table 4.
#[test]
fn the_other_flamingos_have_their_sizes() {
    let mini = |name| FlamingoConfig::flamingo_mini(name, [1, 2], 3).unwrap();
    let paper = |name| FlamingoConfig::paper(name).unwrap();
    let millions = [
        (mini("flamingo-mini"), [303.2, 100.8, 402.8, 331.2]),
        (mini("flamingo-tiny"), [303.2, 63.0, 78.7, 125.2]),
        // Table 5 rounds; 12 · 1536² for each layer of the resampler.
        (paper("Flamingo-3B"), [430.3, 170.0, 1158.0, 1273.6]),
        (paper("Flamingo-9B"), [430.3, 170.0, 1804.0, 8184.5]),
        (paper("Flamingo-80B"), [430.3, 170.0, 8355.5, 64688.0]),
    ];
    for (config, parts) in millions {
        config.check().unwrap();
        let all = asked(|device, source| Flamingo::load(device, &config, source)).unwrap();
        for (part, expected) in ["vision.", "resampler.", "xattn.", "lm."].iter().zip(parts) {
            let part = all.iter().filter(|asked| asked.name.starts_with(part));
            let sum: usize = part.map(|a| a.shape.iter().product::<usize>()).sum();
            close(
                &format!("{} layers", config.lm.layers),
                sum as f64 / 1e6,
                expected,
                0.01,
            );
        }
    }
}

/// The published configuration, as its wiki has it, is the preset; what is left
/// unsaid is the library's own default.
#[test]
fn flamingo_minis_configuration_is_read() {
    let json = |act: &str| {
        format!(
            r#"{{"lm": "facebook/opt-350m", "clip_model_type": "openai/clip-vit-large-patch14",
            "dim": 1024, "dim_visual": 1024, "xattn_dim_head": 128, "xattn_heads": 16,
            "xattn_act": "{act}", "resampler_dim_head": 128, "resampler_heads": 16,
            "resampler_act": "sqrelu"}}"#
        )
    };
    let found = flamingo_mini_config(&json("sqrelu"), [5, 6], 7).unwrap();
    assert_eq!(
        Some(found),
        FlamingoConfig::flamingo_mini("flamingo-mini", [5, 6], 7)
    );
    let gelu = flamingo_mini_config(&json("gelu"), [5, 6], 7).unwrap();
    assert_eq!(gelu.xattn.activation, Activation::Gelu);
    let other = flamingo_mini_config("{}", [5, 6], 7).unwrap_err();
    assert!(other.to_string().contains("gpt2"), "{other}");
}

/// Otter is an OpenFlamingo: the same tensors under the names of its
/// `modeling_flamingo.py` (and of transformers' CLIP).
#[test]
fn otters_names_are_openflamingos_renamed() {
    let config = FlamingoConfig::open_flamingo("OpenFlamingo-9B").unwrap();
    let all = asked(|device, source| Flamingo::load(device, &config, source)).unwrap();
    let language = Language {
        family: Family::Mpt,
        heads: config.lm.heads,
    };
    let mut names = BTreeSet::new();
    for asked in &all {
        for source in Layout::Otter(language).recipe(&asked.name).sources() {
            assert!(names.insert(source.clone()), "{source} is read twice");
        }
    }
    let layer = "perceiver.layers.5";
    let gated = "lang_encoder.transformer.blocks.31.gated_cross_attn_layer";
    for name in [
        format!("{layer}.norm_media.weight"),
        format!("{layer}.norm_latents.bias"),
        format!("{layer}.to_q.weight"),
        format!("{layer}.to_kv.weight"),
        format!("{layer}.to_out.weight"),
        format!("{layer}.feed_forward.0.bias"),
        format!("{layer}.feed_forward.1.weight"),
        format!("{layer}.feed_forward.3.weight"),
        "perceiver.latents".into(),
        "perceiver.norm.weight".into(),
        format!("{gated}.attn_gate"),
        format!("{gated}.ff_gate"),
        format!("{gated}.attn.norm.weight"),
        format!("{gated}.attn.to_q.weight"),
        format!("{gated}.attn.to_kv.weight"),
        format!("{gated}.attn.to_out.weight"),
        format!("{gated}.feed_forward.0.weight"),
        format!("{gated}.feed_forward.1.weight"),
        format!("{gated}.feed_forward.3.weight"),
        "lang_encoder.transformer.blocks.31.decoder_layer.attn.Wqkv.weight".into(),
        "lang_encoder.transformer.wte.weight".into(),
        "vision_encoder.vision_model.pre_layrnorm.weight".into(),
        "vision_encoder.vision_model.encoder.layers.23.self_attn.k_proj.bias".into(),
    ] {
        assert!(names.contains(&name), "nothing reads {name}");
    }
    // Of an OpenFlamingo the same number, save that transformers keep the
    // queries, keys and values of the vision tower apart.
    let of = |layout: Layout, part: &str| {
        let part = all.iter().filter(|asked| asked.name.starts_with(part));
        part.flat_map(|asked| layout.recipe(&asked.name).sources())
            .collect::<BTreeSet<_>>()
            .len()
    };
    for part in ["resampler.", "xattn.", "lm."] {
        let (ours, theirs) = (Layout::Otter(language), Layout::OpenFlamingo(language));
        assert_eq!(of(ours, part), of(theirs, part), "{part}");
    }
}

/// flamingo-mini is published without its image tower, which is CLIP's.
#[test]
fn a_flamingo_and_its_image_tower_are_put_together() {
    let path = root().join("tests/golden/flamingo/mini/model.safetensors");
    let parts = |tower: bool| {
        let weights = Weights::open(Box::new(std::fs::read(&path).unwrap())).unwrap();
        weights.renamed(|name| match name.strip_prefix("vision_encoder.") {
            Some(name) => tower.then(|| name.to_owned()),
            None => (!tower).then(|| name.to_owned()),
        })
    };
    let config = mini();
    let tower = || parts(true).under(Layout::Transformers);
    let rest = || parts(false).under(Layout::FlamingoMini);
    let whole = Weights::open(Box::new(std::fs::read(&path).unwrap())).unwrap();
    let whole = whole.under(Layout::FlamingoMini);
    let both = Assembly::with_tower((tower(), config.vision.clone()), rest(), &config).unwrap();
    let all = asked(|device, source| Flamingo::load(device, &config, source)).unwrap();
    assert!(all.iter().any(|asked| asked.name.starts_with("vision.")));
    for asked in &all {
        let (a, b) = (
            both.read(&asked.name, &asked.shape),
            whole.read(&asked.name, &asked.shape),
        );
        assert_eq!(
            a.unwrap().into_f32(),
            b.unwrap().into_f32(),
            "{}",
            asked.name
        );
    }
    let mut other = config.vision.clone();
    if let VisionConfig::Vit(vit) = &mut other {
        vit.image_size = 24;
    }
    let wrong = Assembly::with_tower((tower(), other), rest(), &config);
    let wrong = wrong.err().unwrap().to_string();
    assert!(
        wrong.contains("expected 16") && wrong.contains("found 24"),
        "{wrong}"
    );
}

/// IDEFICS lays transparent pictures on white.
#[test]
fn transparent_pictures_are_laid_on_white() {
    let golden = Golden::open(&root().join("tests/golden/flamingo/on-white.safetensors")).unwrap();
    let (shape, rgba) = golden.tensor("rgba").unwrap();
    let rgba: Vec<u8> = rgba.iter().map(|&byte| byte as u8).collect();
    let picture = Rgb8::from_rgba(shape[1] as u32, shape[0] as u32, &rgba).unwrap();
    let preprocess = Preprocess::idefics(16);
    let expected = channels_last(&golden.tensor("pixels").unwrap());
    let error = max_error(&preprocess.apply(&picture), &expected);
    assert!(error <= 1e-6, "{error}");
    // So does what a packed model carries.
    let packed = Preprocess::from_json(&preprocess.to_json().to_string(), 16).unwrap();
    assert_eq!(packed, preprocess);
    // Turned first and laid on white, or the other way round.
    let turned = picture.clone().oriented(6);
    assert_eq!(
        *turned.on_white(),
        picture.on_white().into_owned().oriented(6)
    );
}
