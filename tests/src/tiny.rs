//! flamingo-tiny, of random weights, in the layout in which it is published.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use half::f16;
use plume_core::checkpoint::Source;
use serde_json::{Value, json};

use crate::checkpoint::Sizes;

/// Writes a `model.safetensors` in f16, one tensor in memory at a time, and a
/// `config.json`.
fn write_halves(
    folder: &Path,
    config: &Value,
    tensors: &[(String, Vec<usize>)],
    source: &dyn Source,
) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("config.json"), config.to_string())?;
    let mut header = serde_json::Map::new();
    let mut at = 0;
    for (name, shape) in tensors {
        let end = at + 2 * shape.iter().product::<usize>();
        let tensor = json!({ "dtype": "F16", "shape": shape, "data_offsets": [at, end] });
        header.insert(name.clone(), tensor);
        at = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut out = BufWriter::new(File::create(folder.join("model.safetensors"))?);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for (name, shape) in tensors {
        for number in source.read(name, shape)?.into_f32() {
            out.write_all(&f16::from_f32(number).to_le_bytes())?;
        }
    }
    Ok(out.flush()?)
}

/// Writes flamingo-tiny as it is published, in `flamingo`: under its own names,
/// without the image tower; and CLIP ViT-L/14, its tower, in `clip`. What of
/// its sizes is not fixed by the names of its parts is small.
///
/// # Errors
/// Where a file cannot be written.
pub fn write_flamingo_tiny(folder: &Path, source: &dyn Source) -> Result<()> {
    let clip = Sizes {
        embed: 768,
        image: 224,
        patch: 14,
        vision: [1024, 24, 16],
        text: [64, 1, 2],
        vocabulary: [64, 16],
    };
    let tensors = clip.tensors().into_iter().map(|(name, shape)| {
        let shape: Vec<usize> = shape.into_iter().map(|len| len as usize).collect();
        (name, shape)
    });
    let tensors: Vec<_> = tensors.collect();
    write_halves(&folder.join("clip"), &clip.config(), &tensors, source)?;

    let (width, visual, inner) = (768, 1024, 32);
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[usize]| tensors.push((name, shape.to_vec()));
    fn affine(name: &str, len: usize) -> [(String, [usize; 1]); 2] {
        ["weight", "bias"].map(|leaf| (format!("{name}.{leaf}"), [len]))
    }
    let at = |rest: &str| format!("flamingo.lm.decoder.{rest}");
    add(at("embed_tokens.weight"), &[50_273, width]);
    add(at("embed_positions.weight"), &[2050, width]);
    for (name, shape) in affine(&at("final_layer_norm"), width) {
        add(name, &shape);
    }
    for layer in 0..12 {
        let at = |rest: &str| at(&format!("layers.{layer}.{rest}"));
        let maps = [
            ("self_attn.q_proj", width, width),
            ("self_attn.k_proj", width, width),
            ("self_attn.v_proj", width, width),
            ("self_attn.out_proj", width, width),
            ("fc1", 4 * width, width),
            ("fc2", width, 4 * width),
        ];
        for (name, out, of) in maps {
            add(at(&format!("lm_block.{name}.weight")), &[out, of]);
            add(at(&format!("lm_block.{name}.bias")), &[out]);
        }
        let norms = [
            "lm_block.self_attn_layer_norm",
            "lm_block.final_layer_norm",
            "xattn_block.attn.norm",
            "xattn_block.ffw.0",
        ];
        for name in norms {
            for (name, shape) in affine(&at(name), width) {
                add(name, &shape);
            }
        }
        let at = |rest: &str| at(&format!("xattn_block.{rest}"));
        add(at("alpha_attn"), &[1]);
        add(at("alpha_ffw"), &[1]);
        add(at("attn.to_q.weight"), &[inner, width]);
        add(at("attn.to_kv.weight"), &[2 * inner, visual]);
        add(at("attn.to_out.weight"), &[width, inner]);
        add(at("ffw.1.weight"), &[width, width]);
        add(at("ffw.3.weight"), &[width, width]);
    }
    let at = |rest: &str| format!("flamingo.resampler.{rest}");
    add(at("latents"), &[4, visual]);
    add(at("time_pos_emb"), &[4, 1, visual]);
    let norms = [
        "norm",
        "layers.0.0.norm_latents",
        "layers.0.0.norm_media",
        "layers.0.1.0",
    ];
    for name in norms {
        for (name, shape) in affine(&at(name), visual) {
            add(name, &shape);
        }
    }
    for name in ["to_q", "to_k", "to_v"] {
        add(at(&format!("layers.0.0.{name}.weight")), &[inner, visual]);
    }
    add(at("layers.0.0.to_out.weight"), &[visual, inner]);
    add(at("layers.0.1.1.weight"), &[visual, visual]);
    add(at("layers.0.1.3.weight"), &[visual, visual]);
    let config = json!({
        "model_type": "flamingo", "lm": "facebook/opt-125m",
        "clip_model_type": "openai/clip-vit-large-patch14", "dim": width, "dim_visual": visual,
        "xattn_dim_head": 16, "xattn_heads": 2, "xattn_ff_mult": 1, "xattn_act": "sqrelu",
        "resampler_depth": 1, "resampler_dim_head": 16, "resampler_heads": 2,
        "resampler_num_latents": 4, "resampler_ff_mult": 1, "resampler_act": "sqrelu",
    });
    let flamingo = folder.join("flamingo");
    write_halves(&flamingo, &config, &tensors, source)?;
    // A vocabulary as long as OPT's, in the two files that OPT has: the words
    // that are asked about, and the pieces that make them.
    let pieces = "</s> < > i m a g e im ima imag image \u{120} \u{120}< d x da dax".split(' ');
    let mut words: Vec<String> = pieces.map(str::to_owned).collect();
    words.extend((words.len()..50_265).map(|n| format!("w{n}")));
    let vocab = words.into_iter().zip(0u32..);
    let vocab: serde_json::Map<String, Value> = vocab.map(|(w, id)| (w, id.into())).collect();
    std::fs::write(flamingo.join("vocab.json"), json!(vocab).to_string())?;
    let merges = "#version: 0.2\ni m\nim a\nima g\nimag e\n\u{120} <\nd a\nda x\n";
    std::fs::write(flamingo.join("merges.txt"), merges)?;
    Ok(())
}
