//! CLIP against transformers and open_clip, on the small random checkpoints of
//! `tests/golden`.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use plume_cli::model::ModelFiles;
use plume_core::backend::Backend;
use plume_core::cpu::Candle;
use plume_core::models::clip::Clip;
use plume_core::tensor::Tensor;
use plume_core::tokens::Tokens;
use plume_tests::{Golden, cosine, gpu, max_error, root};

const NAMES: [&str; 8] = [
    "hf-quick", "hf-gelu", "hf-eos2", "hf-noeos", "f16", "bf16", "oc-quick", "oc-gelu",
];

/// Channels first → channels last.
fn channels_last(shape: &[usize], pixels: &[f32]) -> Vec<f32> {
    let plane = shape[2] * shape[3];
    let pictures = pixels.chunks_exact(3 * plane);
    pictures
        .flat_map(|picture| (0..3 * plane).map(move |i| picture[(i % 3) * plane + i / 3]))
        .collect()
}

struct Texts {
    tokens: Vec<Tokens>,
    context: usize,
}

/// The texts of the reference, up to the token that is read.
fn texts(golden: &Golden, vocab_size: usize) -> Texts {
    let eot_id = (vocab_size - 1) as f32;
    let (shape, ids) = golden.tensor("input_ids").unwrap();
    let (_, ends) = golden.tensor("eot").unwrap();
    let rows = ids.chunks_exact(shape[1]).zip(&ends);
    let tokens = rows
        .map(|(row, &eot)| {
            // Ours is one rule for all of them: the first of the last token.
            let first = row.iter().position(|&id| id == eot_id);
            assert_eq!(first, Some(eot as usize));
            Tokens {
                ids: row.iter().map(|&id| id as u32).collect(),
                eot: eot as usize,
                truncated: false,
            }
        })
        .collect();
    Texts {
        tokens,
        context: shape[1],
    }
}

fn read<B: Backend>(tensor: &Tensor<B>) -> Vec<f32> {
    pollster::block_on(tensor.read()).unwrap()
}

fn equal(name: &str, what: &str, ours: &[f32], theirs: &[f32]) {
    let error = max_error(ours, theirs);
    assert!(error <= 1e-4, "{name}: {what} is off by {error}");
    assert!(cosine(ours, theirs) > 0.99999, "{name}: {what}");
}

fn agrees<B: Backend>(backend: &B) {
    for name in NAMES {
        let folder = root().join("tests/golden/clip").join(name);
        let golden = Golden::open(&folder.join("io.safetensors")).unwrap();
        let files = ModelFiles::find(&folder).unwrap();
        let config = files.config().unwrap();
        let clip = Clip::load(backend, &config, &files.checkpoint().unwrap()).unwrap();
        let expect = |what: &str| golden.tensor(what).unwrap();

        let (shape, pixels) = expect("pixels");
        let pixels = channels_last(&shape, &pixels);
        let shape = [shape[0], shape[2], shape[3], 3];
        let pixels = Tensor::upload(backend, &pixels, &shape).unwrap();
        let texts = texts(&golden, config.text.vocab_size);
        assert_eq!(texts.context, config.text.context);

        let states = [
            ("vision.states", clip.vision.states(&pixels).unwrap()),
            ("text.states", clip.text.states(&texts.tokens).unwrap()),
        ];
        for (what, ours) in states {
            let (shape, theirs) = expect(what);
            assert_eq!(shape[0], ours.len());
            let theirs = theirs.chunks_exact(theirs.len() / ours.len());
            for (i, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                equal(name, &format!("{what} {i}"), &read(ours), theirs);
            }
        }

        let image = clip.vision.forward(&pixels).unwrap();
        let text = clip.text.forward(&texts.tokens).unwrap();
        equal(name, "image", &read(&image), &expect("image_embeds").1);
        equal(name, "text", &read(&text), &expect("text_embeds").1);
        let image = read(&image.l2_normalize().unwrap());
        let text = read(&text.l2_normalize().unwrap());
        equal(
            name,
            "normalised image",
            &image,
            &expect("image_embeds_normalized").1,
        );
        equal(
            name,
            "normalised text",
            &text,
            &expect("text_embeds_normalized").1,
        );

        let scale = expect("logit_scale").1[0].exp();
        assert!((clip.scale() - scale).abs() < 1e-5 * scale, "{name}");
        let width = config.embed_dim;
        let logits: Vec<f32> = image
            .chunks_exact(width)
            .flat_map(|image| text.chunks_exact(width).map(move |text| (image, text)))
            .map(|(a, b)| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>() * clip.scale())
            .collect();
        equal(name, "logits", &logits, &expect("logits_per_image").1);
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
