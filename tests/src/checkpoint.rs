//! Checkpoints of random weights in the layout that transformers publishes,
//! made as they are read: a gigabyte takes no memory and no disk.

use serde_json::{Map, Value, json};

/// The sizes of a CLIP with a vision transformer.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Width of the shared space.
    pub embed: u64,
    /// Side of a picture, in pixels.
    pub image: u64,
    /// Side of a patch, in pixels.
    pub patch: u64,
    /// Width, layers and heads of the image tower.
    pub vision: [u64; 3],
    /// Width, layers and heads of the text tower.
    pub text: [u64; 3],
    /// Tokens, and the longest text.
    pub vocabulary: [u64; 2],
}

impl Sizes {
    /// As `config.json` writes them.
    pub fn config(&self) -> Value {
        let tower = |[width, layers, heads]: [u64; 3]| {
            json!({
                "hidden_size": width, "intermediate_size": 4 * width,
                "num_hidden_layers": layers, "num_attention_heads": heads,
                "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
            })
        };
        let mut vision = tower(self.vision);
        vision["image_size"] = json!(self.image);
        vision["patch_size"] = json!(self.patch);
        let mut text = tower(self.text);
        text["vocab_size"] = json!(self.vocabulary[0]);
        text["max_position_embeddings"] = json!(self.vocabulary[1]);
        json!({
            "architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": self.embed,
            "vision_config": vision, "text_config": text,
        })
    }

    /// Names and shapes of all tensors.
    pub fn tensors(&self) -> Vec<(String, Vec<u64>)> {
        let mut all = Vec::new();
        let mut add = |name: String, shape: &[u64]| all.push((name, shape.to_vec()));
        let tokens = (self.image / self.patch).pow(2) + 1;
        let [vision, text] = [self.vision[0], self.text[0]];
        let [vocabulary, context] = self.vocabulary;
        add("logit_scale".into(), &[]);
        let at = |name: &str| format!("vision_model.{name}");
        add(at("embeddings.class_embedding"), &[vision]);
        add(
            at("embeddings.patch_embedding.weight"),
            &[vision, 3, self.patch, self.patch],
        );
        add(
            at("embeddings.position_embedding.weight"),
            &[tokens, vision],
        );
        let at = |name: &str| format!("text_model.{name}");
        add(at("embeddings.token_embedding.weight"), &[vocabulary, text]);
        add(at("embeddings.position_embedding.weight"), &[context, text]);
        let norms = [
            ("vision_model.pre_layrnorm", vision),
            ("vision_model.post_layernorm", vision),
            ("text_model.final_layer_norm", text),
        ];
        for (name, width) in norms {
            add(format!("{name}.weight"), &[width]);
            add(format!("{name}.bias"), &[width]);
        }
        add("visual_projection.weight".into(), &[self.embed, vision]);
        add("text_projection.weight".into(), &[self.embed, text]);
        for (tower, [width, layers, _]) in [("vision", self.vision), ("text", self.text)] {
            for layer in 0..layers {
                let at = |name: &str| format!("{tower}_model.encoder.layers.{layer}.{name}");
                let mut linear = |name: &str, out: u64, of: u64| {
                    add(at(&format!("{name}.weight")), &[out, of]);
                    add(at(&format!("{name}.bias")), &[out]);
                };
                for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                    linear(&format!("self_attn.{part}"), width, width);
                }
                linear("mlp.fc1", 4 * width, width);
                linear("mlp.fc2", width, 4 * width);
                for norm in ["layer_norm1", "layer_norm2"] {
                    add(at(&format!("{norm}.weight")), &[width]);
                    add(at(&format!("{norm}.bias")), &[width]);
                }
            }
        }
        all
    }
}

/// A safetensors file of f32 numbers that follow from a seed and their place.
pub struct Seeded {
    head: Vec<u8>,
    len: u64,
    seed: u64,
    largest: u64,
}

impl Seeded {
    /// A file of these tensors.
    pub fn new(tensors: &[(String, Vec<u64>)], seed: u64) -> Self {
        let mut header = Map::new();
        let (mut at, mut largest) = (0, 0);
        for (name, shape) in tensors {
            let bytes = 4 * shape.iter().product::<u64>();
            let offsets = [at, at + bytes];
            let tensor = json!({ "dtype": "F32", "shape": shape, "data_offsets": offsets });
            header.insert(name.clone(), tensor);
            at += bytes;
            largest = largest.max(bytes);
        }
        let mut json = Value::Object(header).to_string().into_bytes();
        // Numbers begin at a multiple of eight, as publishers write them.
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut head = (json.len() as u64).to_le_bytes().to_vec();
        head.extend(json);
        Self {
            len: head.len() as u64 + at,
            head,
            seed,
            largest,
        }
    }

    /// Bytes of the file.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it is empty, which it never is.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Bytes of its largest tensor.
    pub fn largest(&self) -> u64 {
        self.largest
    }

    /// The bytes from one place to another.
    pub fn read(&self, from: u64, to: u64) -> Vec<u8> {
        let start = self.head.len() as u64;
        let mut bytes = Vec::with_capacity((to - from) as usize);
        if from < start {
            bytes.extend(&self.head[from as usize..to.min(start) as usize]);
        }
        let from = from.max(start);
        if to > from {
            let (first, last) = ((from - start) / 4, (to - start).div_ceil(4));
            let numbers: Vec<u8> = (first..last)
                .flat_map(|index| self.number(index).to_le_bytes())
                .collect();
            let skip = ((from - start) % 4) as usize;
            bytes.extend(&numbers[skip..skip + (to - from) as usize]);
        }
        bytes
    }

    /// −0.05 to 0.05, by SplitMix64.
    fn number(&self, index: u64) -> f32 {
        let z = (self.seed + index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z >> 40) as f32 / (1 << 24) as f32 - 0.5) * 0.1
    }
}
