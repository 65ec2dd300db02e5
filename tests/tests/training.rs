//! Training: the optimiser against torch's, the schedule, and going on with a
//! run that was broken off.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor, Var};
use plume_cli::train::step::{AdamW, AdamWConfig, schedule};
use plume_cli::train::{Recipe, Run};
use plume_core::config::{ConvConfig, StemConfig, VisionConfig};
use plume_tests::{Golden, max_error, root};

/// As in `tests/golden/make_adamw.py`.
const ADAMW: AdamWConfig = AdamWConfig {
    rate: 0.02,
    beta_1: 0.9,
    beta_2: 0.98,
    epsilon: 1e-6,
    decay: 0.2,
    clip: 1.0,
};
const STEPS: usize = 12;
const WARM_UP: usize = 4;

const NAMES: [&str; 9] = [
    "vision.blocks.0.mlp.c_fc.weight",
    "vision.stem.convs.0.weight",
    "text.projection",
    "vision.blocks.0.ln_1.weight",
    "vision.blocks.0.mlp.c_fc.bias",
    "vision.class_embedding",
    "vision.positional_embedding",
    "text.token_embedding",
    "logit_scale",
];

fn tensor(golden: &Golden, name: &str) -> Tensor {
    let (shape, numbers) = golden.tensor(name).unwrap();
    Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
}

#[test]
fn adamw_takes_the_steps_that_torch_takes() {
    let golden = Golden::open(&root().join("tests/golden/adamw.safetensors")).unwrap();
    let (_, rates) = golden.tensor("rates").unwrap();
    let (_, norms) = golden.tensor("norms").unwrap();
    assert_eq!((rates.len(), norms.len()), (STEPS, STEPS));
    let parameters: Vec<(String, Var)> = NAMES
        .iter()
        .map(|&name| {
            let start = tensor(&golden, &format!("0.{name}"));
            (name.to_owned(), Var::from_tensor(&start).unwrap())
        })
        .collect();
    let mut optimizer = AdamW::new();
    for step in 1..=STEPS {
        let rate = schedule(step - 1, STEPS, WARM_UP, ADAMW.rate);
        let theirs = f64::from(rates[step - 1]);
        assert!(
            (rate - theirs).abs() < 1e-8,
            "step {step}: {rate}, {theirs}"
        );
        let gradients: BTreeMap<String, Tensor> = NAMES
            .iter()
            .map(|&name| {
                let gradient = tensor(&golden, &format!("gradient.{step}.{name}"));
                (name.to_owned(), gradient)
            })
            .collect();
        let norm = optimizer
            .update(&parameters, &gradients, &ADAMW, rate)
            .unwrap();
        assert!((norm - f64::from(norms[step - 1])).abs() < 1e-5, "{norm}");
        for (name, var) in &parameters {
            let ours: Vec<f32> = var.flatten_all().unwrap().to_vec1().unwrap();
            let (_, theirs) = golden.tensor(&format!("{step}.{name}")).unwrap();
            let error = max_error(&ours, &theirs);
            assert!(error < 1e-6, "step {step}: {name} is off by {error}");
        }
    }
}

/// A model that is trained in no time, on drawings like the demo's.
fn recipe(steps: usize) -> Recipe {
    let mut recipe = Recipe::demo(3, steps);
    recipe.warm_up = 2;
    recipe.merges = 40;
    let conv = |channels| ConvConfig {
        channels,
        stride: 4,
    };
    let model = &mut recipe.model;
    model.embed_dim = 16;
    let (Some(VisionConfig::Vit(vision)), Some(text)) = (&mut model.vision, &mut model.text) else {
        panic!("the demo has a vision transformer and a text tower");
    };
    vision.stem = StemConfig::Conv {
        convs: vec![conv(4), conv(8)],
    };
    for transformer in [&mut vision.transformer, &mut text.transformer] {
        transformer.layers = 1;
        transformer.width = 16;
        transformer.mlp_width = 16;
    }
    recipe
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

/// Begins a run of four steps and stops after some of them.
fn begin(folder: &Path, last: usize) {
    let mut run = Run::begin(folder, recipe(4)).unwrap();
    run.figures = 1;
    run.train_until(last).unwrap();
}

#[test]
fn a_run_that_was_broken_off_goes_on_as_if_it_had_not_been() {
    let (whole, broken) = (folder("whole"), folder("broken"));
    begin(&whole, 4);
    begin(&broken, 2);
    let state = |folder: &Path| {
        let file = candle_core::safetensors::load(folder.join("run.safetensors"), &Device::Cpu);
        let numbers = file.unwrap().into_iter().map(|(name, tensor)| {
            let numbers: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
            (name, numbers.into_iter().map(f32::to_bits).collect())
        });
        numbers.collect::<BTreeMap<String, Vec<u32>>>()
    };
    let half_way = state(&broken);
    let mut run = Run::resume(&broken, 4).unwrap();
    run.figures = 1;
    run.train().unwrap();
    assert!(half_way != state(&broken), "it did not go on");
    assert!(state(&whole) == state(&broken), "it went another way");
    // The log is that of one run: a line for each step, the same losses.
    let losses = |folder: &Path| -> Vec<String> {
        let log = std::fs::read_to_string(folder.join("loss.csv")).unwrap();
        let rows = log.lines().skip(1).map(|line| line.split(',').collect());
        rows.map(|row: Vec<&str>| format!("{} {}", row[0], row[3]))
            .collect()
    };
    assert_eq!(losses(&whole).len(), 4);
    assert_eq!(losses(&whole), losses(&broken));
}

#[test]
fn a_folder_without_a_run_cannot_be_resumed() {
    let Err(error) = Run::resume(&folder("nothing"), 4) else {
        panic!("a run came out of nothing");
    };
    assert!(
        format!("{error:#}").contains("run.safetensors"),
        "{error:#}"
    );
}
