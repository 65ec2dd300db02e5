//! Training a Flamingo: going on with a run that was broken off, documents of
//! one's own, what is frozen and what is not, and the choices of the paper.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use plume_cli::train::base::Base;
use plume_cli::train::datasets::{Dataset, Kind};
use plume_cli::train::design::Design;
use plume_cli::train::documents::{Document, Form};
use plume_cli::train::language::Run;
use plume_cli::train::learner::Learner;
use plume_cli::train::recipe::{Phase, Recipe};
use plume_cli::train::words::{Words, tokenizer_json};
use plume_cli::world::{Sizes, Sort, Split, Subject};
use plume_core::backend::Activation;
use plume_core::config::flamingo::{FlamingoConfig, Gate};
use plume_core::config::{ClipConfig, NfnetConfig, ResNetConfig, Scoring, VisionConfig};
use plume_tests::writers::{Drawn, small_flamingo, write_flamingo};

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("flamingo-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A small Flamingo with the words of the world, to train on, and two pictures.
fn model(name: &str, change: impl FnOnce(&mut FlamingoConfig)) -> PathBuf {
    let folder = folder(name);
    let tokenizer = tokenizer_json().unwrap();
    let words = Words::new(&tokenizer).unwrap();
    let mut config = small_flamingo();
    config.lm.vocab_size = words.tokenizer().size();
    (config.image_token, config.end_of_chunk) = (words.image, words.end_of_chunk);
    change(&mut config);
    write_flamingo(&folder, &config, &Drawn(5)).unwrap();
    std::fs::write(folder.join("tokenizer.json"), tokenizer).unwrap();
    let side = config.vision.image_size();
    let preprocessor = format!(
        r#"{{"size": {side}, "crop_size": {side}, "resample": 3, "do_resize": true,
        "do_center_crop": true, "do_normalize": true, "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5], "do_convert_rgb": true}}"#
    );
    std::fs::write(folder.join("preprocessor_config.json"), preprocessor).unwrap();
    folder
}

/// A recipe of few small batches, by switches as they are typed.
fn recipe(model: &Path, switches: &str, steps: usize) -> Recipe {
    let design = Design::typed(switches).unwrap();
    let base = Base {
        from: Some(model.to_owned()),
        ..Base::default()
    };
    let mut recipe = design.recipe(base, 3, steps).unwrap();
    let set = |kind| Dataset {
        kind,
        forms: vec![(Form::Picture, 1.0)],
        mixed: 0.0,
        sorts: vec![(Sort::Colour, 1.0)],
        subjects: vec![(None, 0.2), (Some(Subject::YesNo), 0.8)],
        pictures: vec![(3, 1.0)],
        batch: 6,
        again: 0.3,
        weight: 1.0,
    };
    recipe.warm_up = 1;
    recipe.phases = vec![Phase {
        until: 1.0,
        datasets: vec![set(Kind::Named), set(Kind::Told)],
    }];
    let sizes = |singles| Sizes {
        singles,
        pairs: 20,
        several: 20,
        placed: 20,
    };
    (recipe.pictures, recipe.unseen) = (sizes(2500), sizes(600));
    recipe
}

/// Begins a run that takes few figures.
fn begin(work: &Path, features: &Path, recipe: Recipe) -> Run {
    let mut run = Run::begin(work, features, recipe).unwrap();
    run.figures = 1;
    run
}

fn tensors(file: &Path) -> BTreeMap<String, Vec<f32>> {
    let file = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
    let numbers = |tensor: Tensor| {
        let tensor = tensor.to_dtype(candle_core::DType::F32).unwrap();
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    };
    file.into_iter()
        .map(|(name, x)| (name, numbers(x)))
        .collect()
}

/// What a run has kept: weights, and the moments of both kinds.
fn kept(work: &Path) -> BTreeMap<String, Vec<f32>> {
    tensors(&work.join("run.safetensors"))
}

/// The losses of a run, by their steps.
fn losses(work: &Path) -> Vec<(usize, f32)> {
    let log = std::fs::read_to_string(work.join("loss.csv")).unwrap();
    let line = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        (fields[0].parse().unwrap(), fields[3].parse().unwrap())
    };
    log.lines().skip(1).map(line).collect()
}

#[test]
fn a_run_that_was_broken_off_goes_on_as_if_it_had_not_been() {
    let model = model("resume", |_| {});
    let (whole, broken) = (model.join("whole"), model.join("broken"));
    begin(&whole, &model, recipe(&model, "--p-next 0.3", 4))
        .train()
        .unwrap();
    let mut run = begin(&broken, &model, recipe(&model, "--p-next 0.3", 4));
    run.train_until(2).unwrap();
    // It was broken off in the middle of a step that it had not kept.
    let mut log = std::fs::read_to_string(broken.join("loss.csv")).unwrap();
    log.push_str("3,0.1,1.0e-3,9.0,,1.0\n4,0.");
    std::fs::write(broken.join("loss.csv"), log).unwrap();
    let half_way = kept(&broken);
    let mut run = Run::resume(&broken, &model, 4).unwrap();
    run.figures = 1;
    run.train().unwrap();
    assert!(half_way != kept(&broken), "it did not go on");
    assert!(kept(&whole) == kept(&broken), "it went another way");
    assert_eq!(losses(&whole).len(), 4);
    assert_eq!(losses(&whole), losses(&broken));
}

#[test]
fn a_step_of_round_robin_learns_from_one_set_in_turn() {
    let model = model("robin", |_| {});
    let after = |name: &str, switches: &str, sets: &[usize], steps: usize| {
        let mut recipe = recipe(&model, switches, 2);
        let all = recipe.phases[0].datasets.clone();
        recipe.phases[0].datasets = sets.iter().map(|&i| all[i].clone()).collect();
        let work = model.join(name);
        begin(&work, &model, recipe).train_until(steps).unwrap();
        kept(&work)
    };
    let first = after("first", "", &[0], 1);
    let second = after("second", "", &[0], 2);
    assert!(after("robin-1", "--round-robin", &[0, 1], 1) == first);
    assert!(after("both-1", "", &[0, 1], 1) != first);
    assert!(after("robin-2", "--round-robin", &[0, 1], 2) != second);
}

/// A file of documents beside the pictures of a model.
fn pages(model: &Path, name: &str, documents: &[&str]) -> plume_cli::train::pages::Pages {
    let file = model.join(name);
    let segments = |document: &&str| format!("{{\"segments\": {document}}}\n");
    std::fs::write(&file, documents.iter().map(segments).collect::<String>()).unwrap();
    file.to_str().unwrap().parse().unwrap()
}

const A: &str = r#"[{"image": "a.png"}, {"text": "Output:a red house"}]"#;
const B: &str = r#"[{"image": "b.png"}, {"text": "Output:two blue fish"}]"#;
const BOTH: &str = r#"[{"text": "see "}, {"image": "b.png"}, {"text": "Output:a red star"},
    {"image": "a.png"}, {"text": "Output:a green sun"}]"#;

/// A run on documents of one's own alone.
fn reading(model: &Path, name: &str, switches: &str, documents: &[&[&str]], steps: usize) -> Run {
    let mut recipe = recipe(model, switches, steps).without_drawings();
    let files = documents.iter().enumerate();
    let files = files.map(|(i, lines)| {
        let lines: Vec<String> = lines.iter().map(|line| line.replace('\n', " ")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        pages(model, &format!("{name}-{i}.jsonl"), &lines)
    });
    recipe.pages = files.collect();
    recipe.page_batch = 4;
    begin(&model.join(name), model, recipe)
}

#[test]
fn what_pictures_show_is_learned_from_documents_of_ones_own() {
    let model = model("pages", |_| {});
    let mut run = reading(&model, "learned", "--unfreeze lm", &[&[A, B, BOTH]], 80);
    run.train().unwrap();
    let losses = losses(&model.join("learned"));
    let (first, last) = (losses[0].1, losses[79].1);
    // Without the pictures what follows `Output:a` is a matter of chance.
    assert!(first > 3.0 && last < 0.1, "from {first} to {last}");
    // What was frozen is published as it was, and the rest is not.
    run.publish(&model.join("out")).unwrap();
    let (before, after) = (
        tensors(&model.join("model.safetensors")),
        tensors(&model.join("out/model.safetensors")),
    );
    assert!(before.keys().eq(after.keys()));
    for (name, numbers) in &before {
        assert_eq!(
            name.starts_with("vision."),
            after[name] == *numbers,
            "{name}"
        );
    }
    Learner::open(&model.join("out")).unwrap();
}

#[test]
fn losses_of_sets_are_weighted_and_added() {
    let model = model("weights", |_| {});
    let first = |name: &str, weights: &[f32], documents: &[&[&str]]| {
        let mut run = reading(&model, name, "", documents, 1);
        run.train().unwrap();
        let mut recipe = recipe(&model, "", 1).without_drawings();
        recipe.pages = (0..documents.len())
            .map(|i| {
                let file = format!("{name}-{i}.jsonl={}", weights[i]);
                model.join(file).to_str().unwrap().parse().unwrap()
            })
            .collect();
        let work = model.join(format!("{name}-weighted"));
        begin(&work, &model, recipe).train().unwrap();
        losses(&work)[0].1
    };
    // With tied embeddings and random weights, the word that is there is what is
    // likeliest to follow.
    let again = r#"[{"image": "b.png"}, {"text": "Output:fish fish fish fish fish fish"}]"#;
    let (a, b) = (first("a", &[1.0], &[&[A]]), first("b", &[1.0], &[&[again]]));
    let both = first("both", &[1.0, 0.25], &[&[A], &[again]]);
    assert!((a - b).abs() > 0.05, "{a} and {b} tell nothing");
    assert!(
        (both - (a + 0.25 * b) / 1.25).abs() < 1e-3,
        "{both} of {a}, {b}"
    );
}

/// Documents have different numbers of pictures here: what is computed on the
/// way is what a frozen tower's features say. A run that is broken off goes on
/// with the weights as they were read, whatever they were multiplied by.
fn an_image_tower_learns(name: &str, change: impl FnOnce(&mut FlamingoConfig)) {
    let model = model(name, change);
    let all: &[&[&str]] = &[&[A, B, BOTH]];
    reading(&model, "frozen", "", all, 1).train().unwrap();
    let learn = |name: &str, until: usize| {
        let mut run = reading(&model, name, "--unfreeze vision", all, 60);
        run.train_until(until).unwrap();
        run
    };
    let run = learn("unfrozen", 60);
    learn("broken", 30);
    let mut resumed = Run::resume(&model.join("broken"), &model, 60).unwrap();
    resumed.train().unwrap();
    let [frozen, unfrozen, broken] =
        ["frozen", "unfrozen", "broken"].map(|name| losses(&model.join(name)));
    assert!((frozen[0].1 - unfrozen[0].1).abs() < 2e-3, "{frozen:?}");
    let (first, last) = (unfrozen[0].1, unfrozen[59].1);
    assert!(last < 0.8 * first, "from {first} to {last}");
    assert_eq!(unfrozen, broken);
    run.publish(&model.join("out")).unwrap();
    let (before, after) = (
        tensors(&model.join("model.safetensors")),
        tensors(&model.join("out/model.safetensors")),
    );
    for (name, numbers) in &before {
        let stays = name.starts_with("lm.") || name.ends_with("skip_gain");
        assert_eq!(stays, after[name] == *numbers, "{name}");
    }
}

#[test]
fn an_image_tower_that_is_not_frozen_learns_too() {
    an_image_tower_learns("vit", |config| config.features.ln_post = true);
}

#[test]
fn an_nfnet_learns_too() {
    an_image_tower_learns("nfnet-learns", |config| {
        config.vision = VisionConfig::Nfnet(NfnetConfig {
            image_size: 32,
            stem_width: 16,
            depths: [1, 2, 1, 1],
            widths: [16, 16, 32, 64],
            group_width: 4,
            final_width: 64,
            activation: Activation::Gelu,
            alpha: 0.2,
        });
    });
}

#[test]
fn a_resnet_learns_too() {
    an_image_tower_learns("resnet-learns", |config| {
        config.vision = VisionConfig::ResNet(ResNetConfig {
            image_size: 32,
            width: 8,
            layers: [1, 2, 1, 1],
            heads: 4,
        });
    });
}

#[test]
fn with_p_next_words_see_the_next_picture() {
    let model = model("next", |config| config.xattn.gate = Gate::None);
    let learner = Learner::open(&model).unwrap();
    let sizes = Sizes {
        singles: 400,
        pairs: 4,
        several: 4,
        placed: 4,
    };
    let gallery = learner.gallery(Split::HeldOut, 1, sizes, None).unwrap();
    // Words before any mark: what they see is the next picture, or none.
    let after = |pictures: [usize; 2], next: bool| {
        let words = learner.words.encode("a red").unwrap();
        let document = Document {
            ids: std::iter::once(learner.words.start).chain(words).collect(),
            pictures: pictures.to_vec(),
            next,
            ..Document::default()
        };
        learner.next(&[document], &gallery).unwrap()
    };
    assert!(after([0, 1], false) == after([2, 1], false));
    assert!(after([0, 1], true) != after([2, 1], true));
    assert!(after([0, 1], true) == after([0, 2], true));
    assert!(after([0, 1], true) != after([0, 1], false));
}

/// Grafted blocks and a language model from nothing are trained, and only they.
#[test]
fn what_is_in_no_file_is_trained() {
    let model = model("new", |_| {});
    let clip = model.join("clip");
    std::fs::create_dir_all(&clip).unwrap();
    let config = ClipConfig {
        embed_dim: 8,
        vision: Some(small_flamingo().vision),
        text: None,
        scoring: Scoring::Softmax,
    };
    std::fs::write(clip.join("config.json"), config.to_json().to_string()).unwrap();
    for file in ["model.safetensors", "preprocessor_config.json"] {
        std::fs::copy(model.join(file), clip.join(file)).unwrap();
    }
    let trained = |name: &str, switches: &str| {
        let base = Base {
            clip: Some(clip.clone()),
            lm: Some(model.clone()),
            ..Base::default()
        };
        let design = Design::typed(switches).unwrap();
        let small = recipe(&model, "", 1);
        let recipe = Recipe {
            phases: small.phases,
            pictures: small.pictures,
            unseen: small.unseen,
            ..design.recipe(base, 3, 1).unwrap()
        };
        let work = model.join(name);
        begin(&work, &model, recipe).train().unwrap();
        let all = kept(&work).into_keys();
        let weights = all.filter(|name| !name.starts_with("m.") && !name.starts_with("v."));
        weights.collect::<Vec<_>>()
    };
    let has = |all: &[String], part: &str| all.iter().any(|name| name.starts_with(part));
    let plain = trained("plain", "");
    assert!(has(&plain, "resampler.layers") && has(&plain, "xattn.0.") && has(&plain, "xattn.1."));
    assert!(!has(&plain, "resampler.latents"));
    assert!(has(&trained("latents", "--latents 3"), "resampler.latents"));
    assert!(!has(&plain, "lm.") && !has(&plain, "vision."));
    let grafted = trained("grafted", "--graft 1");
    assert!(has(&grafted, "lm.blocks.2.") && has(&grafted, "xattn.2."));
    assert!(!has(&grafted, "lm.blocks.1.") && !has(&grafted, "xattn.1."));
    assert!(!has(&grafted, "lm.token_embedding"));
    let random = trained("random", "--random lm --resampler mlp --layers 1");
    assert!(has(&random, "lm.blocks.0.") && has(&random, "lm.token_embedding"));
    assert!(!has(&random, "resampler.latents") && !has(&random, "xattn.0."));
}

#[test]
fn what_cannot_be_trained_is_told() {
    let model = model("wrong", |_| {});
    let failed = |result: anyhow::Result<Recipe>| format!("{:#}", result.err().unwrap());
    let recipe = |switches: &str, base: Base| Design::typed(switches)?.recipe(base, 1, 1);
    let base = || Base {
        from: Some(model.clone()),
        ..Base::default()
    };
    assert!(failed(recipe("--layers 9", base())).contains("before block 9"));
    assert!(failed(recipe("--p-next 1.5", base())).contains("0 to 1, got 1.5"));
    assert!(failed(recipe("--gate ajar", base())).contains("`scalar`"));
    let latents = failed(recipe("--resampler mlp --latents 8", base()));
    assert!(latents.contains("those of a Perceiver"), "{latents}");
    assert!(failed(recipe("--gate none --from x", base())).contains("cannot be used with"));
    assert!(failed(recipe("", Base::default())).contains("a CLIP and a language model"));
    let nowhere = Base {
        from: Some(model.join("nowhere")),
        ..Base::default()
    };
    assert!(failed(recipe("", nowhere)).contains("nowhere"));

    let begin = |recipe: Recipe| {
        let run = Run::begin(&model.join("run"), &model, recipe);
        format!("{:#}", run.err().unwrap())
    };
    let mut config = small_flamingo();
    config.vision = VisionConfig::Nfnet(NfnetConfig::f(0).unwrap());
    (config.image_token, config.end_of_chunk) = (2, 3);
    let nfnet = folder("nfnet");
    for file in ["tokenizer.json", "preprocessor_config.json"] {
        std::fs::copy(model.join(file), nfnet.join(file)).unwrap();
    }
    std::fs::write(nfnet.join("config.json"), config.to_json().to_string()).unwrap();
    let nfnet = Base {
        from: Some(nfnet),
        ..Base::default()
    };
    let error = begin(recipe("--random vision", nfnet).unwrap());
    assert!(error.contains("an NFNet are standardised"), "{error}");

    let nothing = recipe("", base()).unwrap().without_drawings();
    assert!(begin(nothing.clone()).contains("nothing to learn from"));
    let pages = |line: &str| {
        std::fs::write(
            model.join("bad.jsonl"),
            format!("{{\"segments\": {A}}}\n{line}"),
        )
        .unwrap();
        Recipe {
            pages: vec![model.join("bad.jsonl").to_str().unwrap().parse().unwrap()],
            ..nothing.clone()
        }
    };
    let error = begin(pages(
        r#"{"segments": [{"image": "c.png"}, {"text": "x"}]}"#,
    ));
    assert!(
        error.contains("bad.jsonl, line 2") && error.contains("c.png"),
        "{error}"
    );
    let error = begin(pages("{"));
    assert!(error.contains("bad.jsonl, line 2"), "{error}");
    std::fs::write(model.join("c.png"), "no picture").unwrap();
    let error = begin(pages(
        r#"{"segments": [{"image": "c.png"}, {"text": "x"}]}"#,
    ));
    assert!(
        error.contains("c.png") && error.contains("not a picture"),
        "{error}"
    );
}
