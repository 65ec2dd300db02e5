//! The language models against transformers, on the small random checkpoints
//! of `tests/golden/lm`, and against a small trained one.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::ops::ControlFlow;
use std::path::Path;

use plume_cli::writer;
use plume_core::backend::{Activation, Backend, WeightData};
use plume_core::checkpoint::{
    Checkpoint, Layout, LmInit, Packed, Precision, Scope, Source, Weights, asked, lm_config,
    lm_layout, pack,
};
use plume_core::config::language::{LmConfig, NormKind, Positions, Residual};
use plume_core::cpu::Candle;
use plume_core::models::lm::{Lm, Pass};
use plume_core::prompts::Segment;
use plume_core::tasks::agreement::{Agreement, likeliest_after};
use plume_core::tasks::generate::{End, Method, Options, TextStream, generate};
use plume_core::tensor::Tensor;
use plume_tests::{Golden, gpu, max_error, root, shared};

const MODELS: [&str; 7] = [
    "mpt",
    "mosaic-gpt",
    "neox",
    "neox-parallel",
    "opt",
    "opt-post",
    "llama",
];

fn read<B: Backend>(tensor: &Tensor<B>) -> Vec<f32> {
    pollster::block_on(tensor.read()).unwrap()
}

fn open<B: Backend>(backend: &B, name: &str) -> (Lm<B>, Golden) {
    let folder = root().join("tests/golden/lm").join(name);
    let json = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let config = lm_config(&json).unwrap();
    let weights = std::fs::read(folder.join("model.safetensors")).unwrap();
    let layout = lm_layout(&json, &config).unwrap();
    let checkpoint = Checkpoint::open_as(Box::new(weights), layout).unwrap();
    let lm = Lm::load(&Scope::root(backend, &checkpoint).child("lm"), &config).unwrap();
    let left_over = checkpoint.left_over();
    assert!(left_over.is_empty(), "{name}: nothing reads {left_over:?}");
    let golden = Golden::open(&folder.join("io.safetensors")).unwrap();
    (lm, golden)
}

fn ids(golden: &Golden, name: &str) -> (Vec<usize>, Vec<u32>) {
    let (shape, ids) = golden.tensor(name).unwrap();
    (shape, ids.into_iter().map(|id| id as u32).collect())
}

fn equal(name: &str, what: &str, ours: &[f32], theirs: &[f32], tolerance: f32) {
    let error = max_error(ours, theirs);
    assert!(error <= tolerance, "{name}: {what} is off by {error}");
}

fn likeliest(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    best.unwrap() as u32
}

fn states_and_logits_agree<B: Backend>(backend: &B) {
    for name in MODELS {
        let (lm, golden) = open(backend, name);
        let (shape, ids) = ids(&golden, "input_ids");
        let pass = Pass::whole(backend, shape[1], &vec![0; shape[0]]).unwrap();
        let states = lm.states(&ids, &pass, None).unwrap();
        let (_, theirs) = golden.tensor("states").unwrap();
        let each = theirs.chunks_exact(theirs.len() / states.len());
        assert_eq!(states.len(), lm.layers() + 1);
        for (i, (ours, theirs)) in states.iter().zip(each).enumerate() {
            equal(name, &format!("state {i}"), &read(ours), theirs, 1e-4);
        }
        let logits = read(&lm.logits(&states[states.len() - 1]).unwrap());
        let (_, theirs) = golden.tensor("logits").unwrap();
        equal(name, "logits", &logits, &theirs, 1e-4);
    }
}

/// Texts of different lengths in a batch, filled up on the left, with a cache
/// and without; the last token goes in alone.
fn a_padded_batch_agrees<B: Backend>(backend: &B) {
    for name in MODELS {
        let (lm, golden) = open(backend, name);
        let (shape, ids) = ids(&golden, "padded_ids");
        let (_, padding) = self::ids(&golden, "padding");
        let padding: Vec<usize> = padding.iter().map(|&rows| rows as usize).collect();
        let (_, theirs) = golden.tensor("padded_logits").unwrap();
        let last = |x: &Tensor<B>| {
            let rows = x.shape()[1];
            read(&lm.logits(&x.narrow(rows - 1, 1).unwrap()).unwrap())
        };
        let pass = Pass::whole(backend, shape[1], &padding).unwrap();
        let x = lm.forward(&ids, &pass, None).unwrap();
        equal(name, "padded logits", &last(&x), &theirs, 1e-4);

        let mut cache = lm.cache(shape[1] + 3, &padding).unwrap();
        for columns in [0..6, 6..shape[1] - 1, shape[1] - 1..shape[1]] {
            let rows = ids.chunks_exact(shape[1]);
            let part: Vec<u32> = rows.flat_map(|row| row[columns.clone()].to_vec()).collect();
            let pass = Pass::next(backend, &cache, columns.len()).unwrap();
            let x = lm.forward(&part, &pass, Some(&mut cache)).unwrap();
            if columns.end == shape[1] {
                equal(name, "padded logits from a cache", &last(&x), &theirs, 1e-4);
            }
        }
    }
}

fn greedy_text_is_identical<B: Backend>(backend: &B) {
    for name in MODELS {
        let (lm, golden) = open(backend, name);
        let (shape, ids) = ids(&golden, "input_ids");
        let (_, theirs) = self::ids(&golden, "greedy");
        let prompt = &ids[..shape[1]];
        assert_eq!(greedy(&lm, prompt, theirs.len()), theirs, "{name}");

        let mut text = prompt.to_vec();
        for (i, &expected) in theirs.iter().enumerate() {
            let pass = Pass::whole(backend, text.len(), &[0]).unwrap();
            let x = lm.forward(&text, &pass, None).unwrap();
            let logits = read(&lm.logits(&x.narrow(text.len() - 1, 1).unwrap()).unwrap());
            assert_eq!(likeliest(&logits), expected, "{name}, token {i}, no cache");
            text.push(expected);
        }
    }
}

fn beams_are_identical<B: Backend>(backend: &B) {
    for name in MODELS {
        let (lm, golden) = open(backend, name);
        let (shape, ids) = ids(&golden, "input_ids");
        let (_, theirs) = self::ids(&golden, "beams");
        let options = Options {
            max_new_tokens: theirs.len(),
            method: Method::Beams {
                width: 3,
                length_penalty: 0.0,
            },
            repetition_penalty: 1.0,
            stop_tokens: Vec::new(),
        };
        let go_on = |_| ControlFlow::Continue(());
        let written = generate(&lm, &ids[..shape[1]], &options, go_on);
        assert_eq!(pollster::block_on(written).unwrap().ids, theirs, "{name}");
    }
}

/// What follows a prompt, with a cache.
fn greedy<B: Backend>(lm: &Lm<B>, prompt: &[u32], new: usize) -> Vec<u32> {
    let mut cache = lm.cache(prompt.len() + new, &[0]).unwrap();
    let mut text = Vec::new();
    let mut step = prompt.to_vec();
    for _ in 0..new {
        let pass = Pass::next(lm.backend(), &cache, step.len()).unwrap();
        let x = lm.forward(&step, &pass, Some(&mut cache)).unwrap();
        let logits = read(&lm.logits(&x.narrow(step.len() - 1, 1).unwrap()).unwrap());
        step = vec![likeliest(&logits)];
        text.extend(&step);
    }
    text
}

#[test]
fn states_and_logits_agree_on_the_cpu() {
    states_and_logits_agree(&Candle::new());
}

#[test]
fn states_and_logits_agree_on_the_gpu() {
    if let Some(gpu) = gpu() {
        states_and_logits_agree(&gpu);
    }
}

#[test]
fn a_padded_batch_agrees_on_the_cpu() {
    a_padded_batch_agrees(&Candle::new());
}

#[test]
fn a_padded_batch_agrees_on_the_gpu() {
    if let Some(gpu) = gpu() {
        a_padded_batch_agrees(&gpu);
    }
}

#[test]
fn greedy_text_is_identical_on_the_cpu() {
    greedy_text_is_identical(&Candle::new());
}

#[test]
fn greedy_text_is_identical_on_the_gpu() {
    if let Some(gpu) = gpu() {
        greedy_text_is_identical(&gpu);
    }
}

#[test]
fn a_search_with_three_beams_is_identical_on_the_cpu() {
    beams_are_identical(&Candle::new());
}

#[test]
fn a_search_with_three_beams_is_identical_on_the_gpu() {
    if let Some(gpu) = gpu() {
        beams_are_identical(&gpu);
    }
}

/// As `plume generate` and `plume score` go about it.
#[test]
fn words_go_in_and_words_come_out() {
    let folder = root().join("tests/golden/lm/llama");
    let golden = Golden::open(&folder.join("io.safetensors")).unwrap();
    let (shape, prompt) = ids(&golden, "input_ids");
    let (_, theirs) = ids(&golden, "greedy");
    let words = |ids: &[u32]| {
        let words: Vec<String> = ids.iter().map(|id| format!("w{id}")).collect();
        words.join(" ")
    };
    let writer = writer::open(&Candle::new(), &folder).unwrap();
    let segments = [Segment::Text(words(&prompt[..shape[1]]))];
    let asked = writer::prompt(&writer, &segments, &folder).unwrap();
    assert_eq!(asked.ids, prompt[..shape[1]]);
    let mut options = Options {
        max_new_tokens: theirs.len(),
        method: Method::Greedy,
        repetition_penalty: 1.0,
        stop_tokens: Vec::new(),
    };
    let decode = |ids: &[u32]| Ok(writer.tokenizer().decode(ids)?);
    let reading = writer.reading(&asked).unwrap();
    let run = |options: &Options, stops: &[String]| {
        let (mut stream, mut text) = (TextStream::new(&decode, stops), String::new());
        let written = generate(&reading, &asked.ids, options, |token| {
            if let Some(token) = token {
                text.push_str(&stream.push(token).unwrap());
            }
            if stream.stopped() {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        let end = pollster::block_on(written).unwrap().end;
        text.push_str(&stream.finish());
        (text, end)
    };
    assert_eq!(run(&options, &[]), (words(&theirs), End::Length));
    let stop = format!(" w{}", theirs[5]);
    let before = words(&theirs).split(&stop).next().unwrap().to_owned();
    assert_eq!(run(&options, &[stop]), (before, End::Told));
    options.stop_tokens = vec![theirs[0]];
    assert_eq!(run(&options, &[]), (String::new(), End::Token));
    // The same seed, the same text; another, another.
    options.stop_tokens.clear();
    let mut by_chance = |seed| {
        options.method = Method::Sample {
            temperature: 1.0,
            top_k: 0,
            top_p: 0.95,
            seed,
        };
        run(&options, &[]).0
    };
    assert_eq!(by_chance(1), by_chance(1));
    assert_ne!(by_chance(1), by_chance(2));

    let picture = [Segment::Image("a.jpg".into())];
    let Err(error) = writer::prompt(&writer, &picture, &folder) else {
        panic!("a language model that sees");
    };
    assert!(error.to_string().contains("does not see"), "{error}");
}

#[test]
fn what_is_not_computed_is_refused() {
    let folder = root().join("tests/golden/lm");
    let config = |name: &str| -> serde_json::Value {
        let json = std::fs::read(folder.join(name).join("config.json")).unwrap();
        serde_json::from_slice(&json).unwrap()
    };
    let cases = [
        ("llama", "num_key_value_heads", serde_json::json!(2)),
        (
            "llama",
            "rope_scaling",
            serde_json::json!({"type": "linear"}),
        ),
        ("mpt", "no_bias", serde_json::json!(false)),
        ("neox", "hidden_act", serde_json::json!("mish")),
        ("opt", "num_attention_heads", serde_json::json!(5)),
        ("opt", "model_type", serde_json::json!("bert")),
    ];
    for (name, key, value) in cases {
        let mut config = config(name);
        config[key] = value;
        let Err(error) = lm_config(&config.to_string()) else {
            panic!("{name} with another {key}");
        };
        let error = error.to_string();
        assert!(
            error.contains("expected") || error.contains("multiple"),
            "{error}"
        );
    }
}

/// Forced decoding on a trained model: in 8 bits it would write the same, in 4
/// nearly so. It is very small, which makes 4 bits cost more than they do a
/// model of use.
#[test]
fn fewer_bits_write_the_same() {
    let Some(folder) = shared("tiny-lm") else {
        return;
    };
    let device = Candle::new();
    let source = Llama2c::open(&folder.join("aidreams260K.bin"));
    let config = source.config.clone();
    let load =
        |source: &dyn Source| Lm::load(&Scope::root(&device, source).child("lm"), &config).unwrap();
    let whole = load(&source);
    // The start of a text, and a token after it.
    let texts: Vec<Vec<u32>> = (0..12)
        .map(|i| {
            let prompt = [1, 260 + 17 * i];
            [&prompt[..], &greedy(&whole, &prompt, 125)].concat()
        })
        .collect();
    let all = asked(|device, source| Lm::load(&Scope::root(device, source).child("lm"), &config));
    let all = all.unwrap();
    let packed = Packed {
        config: config.to_json(),
        ..Packed::default()
    };
    for (precision, least) in [
        (Precision::F16, 99.0),
        (Precision::Q8_0, 99.0),
        (Precision::Q4_0, 94.0),
    ] {
        let file = pack(Vec::new(), &packed, &all, &source, precision, |_| {}).unwrap();
        let file = Weights::open(Box::new(file))
            .unwrap()
            .under(Layout::Canonical);
        let small = load(&file);
        let mut agreement = Agreement::default();
        for text in &texts {
            let after = |lm: &Lm<Candle>| pollster::block_on(likeliest_after(lm, text)).unwrap();
            agreement.count(&after(&small), &after(&whole), 1);
        }
        let percent = agreement.percent();
        println!(
            "{precision:?}: {percent:.2} % of {} tokens",
            agreement.tokens
        );
        assert!(percent >= least, "{precision:?}: {percent}");
    }
}

/// llama2.c's legacy file: seven sizes, then f32 weights, each kind for all
/// layers together.
struct Llama2c {
    numbers: Vec<f32>,
    config: LmConfig,
}

impl Llama2c {
    fn open(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let (head, body) = bytes.split_at(28);
        let words = head.as_chunks::<4>().0.iter();
        let sizes: Vec<usize> = words.map(|&b| i32::from_le_bytes(b) as usize).collect();
        let &[
            width,
            mlp_width,
            layers,
            heads,
            kv_heads,
            vocab_size,
            context,
        ] = sizes.as_slice()
        else {
            panic!("seven sizes");
        };
        assert_eq!(heads, kv_heads);
        let words = body.as_chunks::<4>().0.iter();
        let config = LmConfig {
            vocab_size,
            context,
            width,
            embed_width: width,
            layers,
            heads,
            mlp_width,
            activation: Activation::Silu,
            gated_mlp: true,
            norm: NormKind::Rms,
            norm_eps: 1e-5,
            residual: Residual::Sequential,
            final_norm: true,
            qk_norm: false,
            positions: Positions::Rotary {
                dims: width / heads,
                base: 10_000.0,
                interleaved: true,
            },
            bias: false,
            tied: true,
            smeared_keys: false,
        };
        Self {
            numbers: words.map(|&b| f32::from_le_bytes(b)).collect(),
            config,
        }
    }
}

impl Source for Llama2c {
    fn read(&self, name: &str, _: &[usize]) -> plume_core::Result<WeightData> {
        let LmConfig {
            vocab_size,
            width,
            layers,
            mlp_width,
            ..
        } = self.config;
        // In the order of the file, with what each layer has of it.
        let square = width * width;
        let kinds = [
            ("ln_1", width),
            ("q", square),
            ("k", square),
            ("v", square),
            ("attn.out", square),
            ("ln_2", width),
            ("gate", mlp_width * width),
            ("mlp.c_proj", mlp_width * width),
            ("up", mlp_width * width),
        ];
        let part = |kind: &str, layer: usize| -> &[f32] {
            let mut at = vocab_size * width;
            for (name, size) in kinds {
                if name == kind {
                    return &self.numbers[at + layer * size..at + (layer + 1) * size];
                }
                at += layers * size;
            }
            panic!("{kind}");
        };
        let name = name.strip_prefix("lm.").unwrap();
        let numbers = match name.strip_prefix("blocks.") {
            None if name == "token_embedding" => self.numbers[..vocab_size * width].to_vec(),
            None => {
                assert_eq!(name, "ln_final.weight");
                let at: usize = kinds.iter().map(|(_, size)| layers * size).sum();
                self.numbers[vocab_size * width + at..][..width].to_vec()
            }
            Some(rest) => {
                let (layer, kind) = rest.split_once('.').unwrap();
                let layer = layer.parse().unwrap();
                match kind.strip_suffix(".weight").unwrap() {
                    "attn.qkv" => ["q", "k", "v"].map(|kind| part(kind, layer)).concat(),
                    "mlp.c_fc" => ["gate", "up"].map(|kind| part(kind, layer)).concat(),
                    kind => part(kind, layer).to_vec(),
                }
            }
        };
        Ok(WeightData::F32(numbers))
    }
}

fn dreams_are_identical<B: Backend>(backend: &B) {
    let Some(folder) = shared("tiny-lm") else {
        return;
    };
    let json = std::fs::read(folder.join("greedy_ids.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let theirs: Vec<u32> = serde_json::from_value(json["greedy_ids"].clone()).unwrap();
    let source = Llama2c::open(&folder.join("aidreams260K.bin"));
    let scope = Scope::root(backend, &source);
    let lm = Lm::load(&scope.child("lm"), &source.config).unwrap();
    assert_eq!(theirs.len(), 101);
    assert_eq!(greedy(&lm, &theirs[..1], 100), theirs[1..]);
}

#[test]
fn a_trained_model_dreams_as_by_the_reference_on_the_cpu() {
    dreams_are_identical(&Candle::new());
}

#[test]
fn a_trained_model_dreams_as_by_the_reference_on_the_gpu() {
    if let Some(gpu) = gpu() {
        dreams_are_identical(&gpu);
    }
}

/// A small model whose keys are smeared, with weights drawn by chance.
fn smeared<B: Backend>(backend: &B) -> Lm<B> {
    let config = LmConfig {
        smeared_keys: true,
        ..LmConfig::chinchilla(32, 2, 4, 40)
    };
    let source = LmInit::new(config.layers, config.heads, 3);
    Lm::load(&Scope::root(backend, &source).child("lm"), &config).unwrap()
}

/// The last row of a text that is read at once, without a cache.
fn last_of<B: Backend>(lm: &Lm<B>, text: &[u32]) -> Vec<f32> {
    let pass = Pass::whole(lm.backend(), text.len(), &[0]).unwrap();
    let x = lm.forward(text, &pass, None).unwrap();
    read(&x.narrow(text.len() - 1, 1).unwrap())
}

/// Each key has the one before it in it, wherever that is: in the same pass, in
/// the cache, in another beam, or nowhere behind padding.
fn smeared_keys_know_the_token_before<B: Backend>(backend: &B) {
    let lm = smeared(backend);
    let width = lm.config().width;
    let text = [5, 9, 2, 30, 7, 7, 11, 1];
    // It matters at all: what a token sees depends on the order of two before.
    let turned = [9, 5, 2, 30, 7, 7, 11, 1];
    assert!(max_error(&last_of(&lm, &text), &last_of(&lm, &turned)) > 1e-2);

    let mut cache = lm.cache(text.len(), &[0]).unwrap();
    for part in [0..3, 3..4, 4..6, 6..7, 7..8] {
        let pass = Pass::next(backend, &cache, part.len()).unwrap();
        let x = lm
            .forward(&text[part.clone()], &pass, Some(&mut cache))
            .unwrap();
        let ours = read(&x.narrow(part.len() - 1, 1).unwrap());
        equal(
            "smeared",
            "a chunk",
            &ours,
            &last_of(&lm, &text[..part.end]),
            1e-5,
        );
    }
    // What was forgotten is not remembered, and more room changes nothing.
    lm.reserve(&mut cache, text.len() + 5).unwrap();
    cache.truncate(3);
    let pass = Pass::next(backend, &cache, 1).unwrap();
    let x = lm.forward(&[8], &pass, Some(&mut cache)).unwrap();
    equal(
        "smeared",
        "another end",
        &read(&x),
        &last_of(&lm, &[5, 9, 2, 8]),
        1e-5,
    );

    // Two texts of different lengths, the shorter filled up on the left.
    let padded = [[5, 9, 2, 30, 7], [0, 0, 4, 6, 1]];
    let pass = Pass::whole(backend, 5, &[0, 2]).unwrap();
    let whole = lm.forward(&padded.concat(), &pass, None).unwrap();
    let mut cache = lm.cache(5, &[0, 2]).unwrap();
    for (columns, last) in [(0..3, false), (3..5, true)] {
        let part: Vec<u32> = padded
            .iter()
            .flat_map(|row| row[columns.clone()].to_vec())
            .collect();
        let pass = Pass::next(backend, &cache, columns.len()).unwrap();
        let x = lm.forward(&part, &pass, Some(&mut cache)).unwrap();
        if last {
            let theirs = [last_of(&lm, &padded[0]), last_of(&lm, &padded[1][2..])].concat();
            for (what, x) in [("padded", &whole), ("padded, cached", &x)] {
                let ours = read(&x.narrow(x.shape()[1] - 1, 1).unwrap());
                equal("smeared", what, &ours, &theirs, 1e-5);
            }
        }
    }

    // Three beams, of which two go on from the second and one from the first.
    let mut cache = lm.cache(3 + 2 * 3, &[0]).unwrap();
    let pass = Pass::next(backend, &cache, 3).unwrap();
    lm.forward(&text[..3], &pass, Some(&mut cache)).unwrap();
    let (first, second) = ([3, 14, 25], [10, 20, 33]);
    let pass = Pass::beams(backend, &cache, 3, &[vec![0], vec![1], vec![2]]).unwrap();
    lm.forward(&first, &pass, Some(&mut cache)).unwrap();
    let parents = [1, 0, 1];
    let ancestry: Vec<Vec<u32>> = (0..3).map(|i| vec![parents[i], i as u32]).collect();
    let pass = Pass::beams(backend, &cache, 3, &ancestry).unwrap();
    let x = read(&lm.forward(&second, &pass, Some(&mut cache)).unwrap());
    for (i, ours) in x.chunks_exact(width).enumerate() {
        let text = [&text[..3], &[first[parents[i] as usize], second[i]]].concat();
        equal(
            "smeared",
            &format!("beam {i}"),
            ours,
            &last_of(&lm, &text),
            1e-5,
        );
    }
}

#[test]
fn smeared_keys_know_the_token_before_on_the_cpu() {
    smeared_keys_know_the_token_before(&Candle::new());
}

#[test]
fn smeared_keys_know_the_token_before_on_the_gpu() {
    if let Some(gpu) = gpu() {
        smeared_keys_know_the_token_before(&gpu);
    }
}

/// What `plume bench` says that a token reads is what the file holds of blocks
/// and head, and the same code counts the device's work.
#[test]
fn a_token_reads_every_block_and_the_head() {
    let from = root().join("tests/golden/lm/neox");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-lm");
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(from.join(file), folder.join(file)).unwrap();
    }
    let tokenizer = plume_tests::writers::tokenizer().to_string();
    std::fs::write(folder.join("tokenizer.json"), tokenizer).unwrap();
    let told =
        plume_tests::command::well(&["bench", "--json", "--model", folder.to_str().unwrap()]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let read = |name: &str| name.starts_with("gpt_neox.layers.") || name == "embed_out.weight";
    let tensors = file.tensors().into_iter().filter(|(name, _)| read(name));
    let expected: usize = tensors.map(|(_, view)| view.data().len()).sum();
    assert_eq!(told["bytes"], expected);
    assert_eq!(told["prompt"], 48);
    for row in ["prefill", "token"] {
        assert!(told[row]["least"].as_f64().unwrap() > 0.0, "{told}");
    }
    assert!(told["copy"].as_f64().unwrap() > 0.0);
}
