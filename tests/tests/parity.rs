//! CLIP against transformers and open_clip, on the small random checkpoints of
//! `tests/golden`.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use plume_cli::model::ModelFiles;
use plume_core::backend::Backend;
use plume_core::config::{TextConfig, TextPool};
use plume_core::cpu::Candle;
use plume_core::models::clip::Clip;
use plume_core::tensor::Tensor;
use plume_core::tokens::Tokens;
use plume_tests::{Golden, channels_last, cosine, gpu, max_error, root};

const NAMES: [&str; 17] = [
    "hf-quick",
    "hf-gelu",
    "hf-eos2",
    "hf-noeos",
    "f16",
    "bf16",
    "oc-quick",
    "oc-gelu",
    // Of make_towers.py.
    "rn",
    "rn-f16",
    "rn-timm",
    "vit-timm",
    "siglip",
    "siglip-oc",
    "hf-vision",
    "hf-text",
    "nfnet-timm",
];

/// The texts of the reference. A tower that is read at the end token is given
/// the padding as well, to show that it does not count; one that is read at
/// the last position pads by itself.
fn texts(golden: &Golden, config: &TextConfig) -> Vec<Tokens> {
    let (shape, ids) = golden.tensor("input_ids").unwrap();
    let (_, ends) = golden.tensor("eot").unwrap();
    assert_eq!(shape[1], config.context);
    let rows = ids.chunks_exact(shape[1]).zip(&ends);
    rows.map(|(row, &eot)| {
        let eot = eot as usize;
        let ids = match config.pool {
            TextPool::Eot => {
                // Ours is one rule for all of them: the first of the last token.
                let eot_id = (config.vocab_size - 1) as f32;
                assert_eq!(row.iter().position(|&id| id == eot_id), Some(eot));
                row
            }
            TextPool::Last => &row[..=eot],
        };
        Tokens {
            ids: ids.iter().map(|&id| id as u32).collect(),
            eot,
            truncated: false,
        }
    })
    .collect()
}

fn read<B: Backend>(tensor: &Tensor<B>) -> Vec<f32> {
    pollster::block_on(tensor.read()).unwrap()
}

fn equal(name: &str, what: &str, ours: &[f32], theirs: &[f32]) {
    let error = max_error(ours, theirs);
    assert!(error <= 1e-4, "{name}: {what} is off by {error}");
    assert!(cosine(ours, theirs) > 0.99999, "{name}: {what}");
}

/// What the reference has between the blocks: one tensor, or in a ResNet one
/// for each stage, channels first.
fn states(golden: &Golden, what: &str) -> Vec<Vec<f32>> {
    match golden.tensor(what) {
        Ok((shape, numbers)) => {
            let each = numbers.chunks_exact(numbers.len() / shape[0]);
            each.map(<[f32]>::to_vec).collect()
        }
        Err(_) => (0..5)
            .map(|i| channels_last(&golden.tensor(&format!("{what}.{i}")).unwrap()))
            .collect(),
    }
}

fn states_agree<B: Backend>(name: &str, what: &str, ours: &[Tensor<B>], golden: &Golden) {
    let theirs = states(golden, what);
    assert_eq!(ours.len(), theirs.len(), "{name}");
    for (i, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        equal(name, &format!("{what} {i}"), &read(ours), theirs);
    }
}

/// The model of a folder, its numbers, and nothing in the file unread.
fn open<B: Backend>(backend: &B, name: &str) -> (Clip<B>, Golden) {
    let folder = root().join("tests/golden/clip").join(name);
    let golden = Golden::open(&folder.join("io.safetensors")).unwrap();
    let files = ModelFiles::find(&folder).unwrap();
    let checkpoint = files.checkpoint().unwrap();
    let config = files.config().unwrap();
    let clip = Clip::load(backend, &config, &checkpoint).unwrap();
    assert_eq!(checkpoint.left_over(), [""; 0], "{name}");
    (clip, golden)
}

/// The embeddings of the reference's pictures, of length one.
fn pictures_agree<B: Backend>(name: &str, clip: &Clip<B>, golden: &Golden) -> Vec<f32> {
    let tower = clip.vision.as_ref().unwrap();
    let pixels = golden.tensor("pixels").unwrap();
    let shape = [pixels.0[0], pixels.0[2], pixels.0[3], 3];
    let pixels = channels_last(&pixels);
    let pixels = Tensor::upload(clip.backend(), &pixels, &shape).unwrap();
    states_agree(
        name,
        "vision.states",
        &tower.states(&pixels).unwrap(),
        golden,
    );
    let image = tower.forward(&pixels).unwrap();
    equal(
        name,
        "image",
        &read(&image),
        &golden.tensor("image_embeds").unwrap().1,
    );
    let image = read(&image.l2_normalize().unwrap());
    let theirs = golden.tensor("image_embeds_normalized").unwrap().1;
    equal(name, "normalised image", &image, &theirs);
    image
}

/// The embeddings of the reference's texts, of length one.
fn texts_agree<B: Backend>(name: &str, clip: &Clip<B>, golden: &Golden) -> Vec<f32> {
    let tower = clip.text.as_ref().unwrap();
    let tokens = texts(golden, tower.config());
    states_agree(name, "text.states", &tower.states(&tokens).unwrap(), golden);
    let text = tower.forward(&tokens).unwrap();
    equal(
        name,
        "text",
        &read(&text),
        &golden.tensor("text_embeds").unwrap().1,
    );
    let text = read(&text.l2_normalize().unwrap());
    let theirs = golden.tensor("text_embeds_normalized").unwrap().1;
    equal(name, "normalised text", &text, &theirs);
    text
}

fn agrees<B: Backend>(backend: &B) {
    for name in NAMES {
        let (clip, golden) = open(backend, name);
        let has = |what: &str| golden.tensor(what).is_ok();
        assert_eq!(clip.vision.is_some(), has("pixels"), "{name}");
        assert_eq!(clip.text.is_some(), has("input_ids"), "{name}");
        let image = has("pixels").then(|| pictures_agree(name, &clip, &golden));
        let text = has("input_ids").then(|| texts_agree(name, &clip, &golden));
        let (Some(image), Some(text)) = (image, text) else {
            continue;
        };
        let scale = golden.tensor("logit_scale").unwrap().1[0].exp();
        assert!((clip.scale() - scale).abs() < 1e-5 * scale, "{name}");
        let bias = golden.tensor("logit_bias").map_or(0.0, |(_, bias)| bias[0]);
        assert_eq!(clip.bias(), bias, "{name}");
        let width = clip.config().embed_dim;
        let logits: Vec<f32> = image
            .chunks_exact(width)
            .flat_map(|image| text.chunks_exact(width).map(move |text| (image, text)))
            .map(|(a, b)| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>())
            .map(|cosine| cosine * clip.scale() + clip.bias())
            .collect();
        let theirs = golden.tensor("logits_per_image").unwrap().1;
        equal(name, "logits", &logits, &theirs);
    }
}

#[test]
fn the_towers_agree_with_the_references_on_the_cpu() {
    agrees(&Candle::new());
}

#[test]
fn the_towers_agree_with_the_references_on_the_gpu() {
    if let Some(gpu) = gpu() {
        agrees(&gpu);
    }
}

#[test]
fn a_tower_that_is_not_there_is_told_by_name() {
    let cpu = Candle::new();
    let told = |result: plume_core::Result<Tensor<Candle>>, tower: &str| {
        let error = result.err().unwrap().to_string();
        assert!(error.contains(&format!("no {tower} tower")), "{error}");
    };
    let text = Tokens {
        ids: vec![46, 47],
        eot: 1,
        truncated: false,
    };
    told(open(&cpu, "hf-vision").0.embed_texts(&[text]), "text");
    told(open(&cpu, "hf-text").0.embed_images(&[]), "image");
}

#[test]
fn a_text_is_the_same_point_alone_and_among_others() {
    let files = ModelFiles::find(&root().join("www/demo/clip")).unwrap();
    let texts = ["a cat", "a red star to the left of a blue fish", "two cups"];
    let texts = texts.map(str::to_owned);
    let embed = |texts: &[String]| {
        let mut classifier = files.classifier(&Candle::new()).unwrap();
        pollster::block_on(classifier.embed_texts(texts)).unwrap()
    };
    let together = embed(&texts);
    for (text, among) in texts.iter().zip(&together) {
        let alone = embed(std::slice::from_ref(text)).remove(0);
        assert!(max_error(&alone, among) < 1e-6, "{text}");
    }
}
