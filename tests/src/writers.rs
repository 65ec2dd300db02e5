//! Small models that write, of random weights.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::Result;
use plume_core::backend::WeightData;
use plume_core::checkpoint::{Packed, Precision, Source, asked, pack};
use plume_core::config::flamingo::FlamingoConfig;
use plume_core::models::flamingo::Flamingo;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::root;

/// Weights that follow from a seed, a name and a place: near 1 for norms, small
/// otherwise, so that layers neither vanish nor explode.
pub struct Drawn(pub u64);

impl Source for Drawn {
    fn read(&self, name: &str, shape: &[usize]) -> plume_core::Result<WeightData> {
        let len: usize = shape.iter().product();
        let fan_in = shape.last().copied().unwrap_or(1).max(1) as f32;
        let (middle, spread) = match shape.len() {
            1 if name.ends_with("weight") => (1.0, 0.2),
            1 => (0.0, 0.5),
            _ => (0.0, (3.0 / fan_in).sqrt()),
        };
        let hash = name.bytes().fold(self.0, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let number = |i: usize| {
            let z = (hash + i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            middle + spread * ((z >> 40) as f32 / (1 << 23) as f32 - 1.0)
        };
        Ok(WeightData::F32((0..len).map(number).collect()))
    }
}

/// As [`Drawn`], for a [`small_flamingo`] that never ends by itself: the row of
/// the token that ends a chunk is zero.
pub struct Endless(pub u64);

impl Source for Endless {
    fn read(&self, name: &str, shape: &[usize]) -> plume_core::Result<WeightData> {
        let mut numbers = Drawn(self.0).read(name, shape)?.into_f32();
        if let [160, width] = *shape {
            numbers[158 * width..159 * width].fill(0.0);
        }
        Ok(WeightData::F32(numbers))
    }
}

/// A small Flamingo of OpenFlamingo's kind, on an MPT, whose rows are whole
/// blocks and whose last tokens are those of [`tokenizer`].
///
/// # Panics
/// Where sizes are no longer written down as here.
pub fn small_flamingo() -> FlamingoConfig {
    let json = json!({
        "vision": {
            "image_size": 16, "stem": { "kind": "patch", "size": 8 },
            "transformer": {
                "width": 64, "layers": 1, "heads": 2, "mlp_width": 128,
                "activation": "quick_gelu", "layer_norm_eps": 1e-5,
            },
            "pool": { "kind": "class" }, "ln_pre": true,
        },
        "features": { "class_token": false, "ln_post": false },
        "resampler": {
            "kind": { "kind": "perceiver", "latents": 4 }, "depth": 1, "heads": 2, "head_dim": 32,
            "mlp_width": 128, "activation": "gelu", "time_embeddings": 0, "norm_eps": 1e-5,
        },
        "xattn": {
            "layers": [1], "heads": 2, "head_dim": 32, "mlp_width": 128, "activation": "gelu",
            "gated_mlp": false, "norm": "layer", "norm_eps": 1e-5, "gate": "scalar",
            "all_previous": false,
        },
        "lm": {
            "vocab_size": 160, "context": 64, "width": 64, "embed_width": 64, "layers": 2,
            "heads": 4, "mlp_width": 128, "activation": "gelu", "gated_mlp": false,
            "norm": "layer_without_bias", "norm_eps": 1e-5, "residual": "sequential",
            "final_norm": true, "qk_norm": false,
            "positions": { "kind": "alibi", "max_bias": 8 }, "bias": false, "tied": true,
        },
        "image_token": 159, "end_of_chunk": 158,
    });
    serde_json::from_value(json).expect("a configuration")
}

/// A `tokenizer.json` of words `w0` to `w157` and OpenFlamingo's two tokens.
pub fn tokenizer() -> Value {
    let special = [(158, "<|endofchunk|>"), (159, "<image>")];
    let vocab = (0..158).map(|id| (format!("w{id}"), id));
    let all = vocab.chain(special.map(|(id, name)| (name.to_owned(), id)));
    let vocab: serde_json::Map<String, Value> = all.map(|(name, id)| (name, id.into())).collect();
    let added = special.map(|(id, content)| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true,
        })
    });
    json!({
        "version": "1.0", "added_tokens": added,
        "pre_tokenizer": { "type": "WhitespaceSplit" },
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "w0" },
    })
}

/// Writes a Flamingo under our own names, with [`tokenizer`] and two pictures,
/// `a.png` and `b.png`.
///
/// # Errors
/// Where a file cannot be written or the sizes make no model.
pub fn write_flamingo(folder: &Path, config: &FlamingoConfig, source: &dyn Source) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let all = asked(|device, source| Flamingo::load(device, config, source))?;
    let mut tensors = Vec::new();
    for asked in all {
        let numbers = source.read(&asked.name, &asked.shape)?.into_f32();
        let bytes: Vec<u8> = numbers.into_iter().flat_map(f32::to_le_bytes).collect();
        tensors.push((asked.name, asked.shape, bytes));
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        Ok((name.as_str(), view?))
    });
    let views: Vec<_> = views.collect::<Result<_>>()?;
    let file = safetensors::serialize(views, None)?;
    std::fs::write(folder.join("model.safetensors"), file)?;
    std::fs::write(folder.join("config.json"), config.to_json().to_string())?;
    std::fs::write(folder.join("tokenizer.json"), tokenizer().to_string())?;
    write_pictures(folder)
}

/// Writes a Flamingo in one packed file with [`tokenizer`], a tensor at a time.
///
/// # Errors
/// Where the file cannot be written or the sizes make no model.
pub fn write_packed(
    file: &Path,
    config: &FlamingoConfig,
    source: &dyn Source,
    precision: Precision,
) -> Result<()> {
    let all = asked(|device, source| Flamingo::load(device, config, source))?;
    let packed = Packed {
        config: config.to_json(),
        tokenizer: Some(tokenizer().to_string()),
        ..Packed::default()
    };
    let out = BufWriter::new(File::create(file)?);
    let out = pack(out, &packed, &all, source, precision, |_| {})?;
    out.into_inner()?.sync_all()?;
    Ok(())
}

/// Writes the IDEFICS of `tests/golden/flamingo` as it is published, with a
/// tokenizer of words `w0` to `w39` and its own marks, and the two pictures.
///
/// # Errors
/// Where it cannot be written.
pub fn write_idefics(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let from = root().join("tests/golden/flamingo/idefics");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(from.join(file), folder.join(file))?;
    }
    let special = [
        (1, "<s>"),
        (2, "</s>"),
        (40, "<fake_token_around_image>"),
        (41, "<image>"),
    ];
    let mut tokenizer = tokenizer();
    let vocab = (0..40).map(|id| (format!("w{id}"), Value::from(id)));
    let mut vocab: serde_json::Map<String, Value> = vocab.collect();
    let added = special.map(|(id, content)| {
        vocab.remove(&format!("w{id}"));
        vocab.insert(content.into(), id.into());
        let mut token = tokenizer["added_tokens"][0].clone();
        token["id"] = id.into();
        token["content"] = content.into();
        token
    });
    tokenizer["model"]["vocab"] = vocab.into();
    tokenizer["added_tokens"] = Value::from_iter(added);
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string())?;
    write_pictures(folder)
}

/// Writes two pictures, `a.png` and `b.png`.
///
/// # Errors
/// Where they cannot be written.
pub fn write_pictures(folder: &Path) -> Result<()> {
    for (name, blue) in [("a.png", 90), ("b.png", 20)] {
        image::RgbImage::from_fn(40, 32, |x, y| image::Rgb([x as u8 * 6, y as u8 * 7, blue]))
            .save(folder.join(name))?;
    }
    Ok(())
}
