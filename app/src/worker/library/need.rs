//! What a model needs: by its own head where that can be read, else by what is
//! published of it, else by the sizes and names of its files.

use plume_core::Error;
use plume_core::checkpoint::{Checkpoint, Stored};
use plume_core::config::flamingo::FlamingoConfig;
use plume_core::hub::{InParts, Plan, Published};
use plume_core::tasks::writer::WriterModel;

use crate::worker::files::ModelFiles;

/// A prompt of usual length: some examples and a question.
const TOKENS: usize = 512;
/// Its pictures.
const PICTURES: usize = 8;

/// Bytes, and work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::worker) struct Need {
    /// Of its files.
    pub(super) bytes: f64,
    /// Of its weights on a graphics processor, where numbers stay as stored.
    pub(super) gpu: f64,
    /// Of its weights on the CPU, where numbers of 16 bits are widened to 32;
    /// blocks stay.
    pub(super) cpu: f64,
    /// What a prompt keeps: keys and values of its words and pictures.
    pub(super) kept: f64,
    /// Of the largest tensor between two layers for one picture. Weights may be
    /// larger than what a device takes at once: they are laid out over several
    /// buffers.
    pub(super) picture: f64,
    /// 10⁹ operations for a picture.
    pub(super) gflops: f64,
}

/// Bytes on the CPU of a file whose head is not read. Most are of 16 bits,
/// where the name does not say otherwise.
fn widened(name: &str, bytes: f64) -> f64 {
    let name = name.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if says(&["q8_0", "q4_0", "f32", "fp32"]) {
        bytes
    } else {
        2.0 * bytes
    }
}

impl Need {
    /// By what is published, and by what the hub says once it was asked.
    pub(super) fn published(model: &Published, plan: Option<&Plan>) -> Self {
        let bytes = plan.map_or_else(|| model.bytes(), Plan::bytes) as f64;
        let cpu = match (model.parameters, plan) {
            (0, Some(plan)) => {
                let files = plan.files.iter();
                let cpu = |bytes: Option<u64>, name| widened(name, bytes.unwrap_or(0) as f64);
                files.map(|file| cpu(file.bytes, &file.name)).sum()
            }
            (0, None) => 2.0 * bytes,
            (parameters, _) => bytes.max(4.0 * parameters as f64),
        };
        Self {
            bytes,
            gpu: bytes,
            cpu,
            kept: 0.0,
            picture: model.picture_bytes as f64,
            gflops: model.gflops,
        }
    }

    /// Of what a person makes of a model in parts: so many bytes, of which most are
    /// of the type. The file lies on their disk; nothing has to be kept.
    pub(super) fn packed(model: &InParts, dtype: &str, bytes: f64) -> Self {
        let text = TOKENS as u64 * model.token_bytes;
        Self {
            gpu: bytes,
            cpu: widened(dtype, bytes),
            kept: (text + PICTURES as u64 * model.image_bytes) as f64,
            picture: model.picture_bytes as f64,
            ..Self::default()
        }
    }

    /// By the head of its files; nothing else of them is read.
    ///
    /// # Errors
    /// Where they are no model that writes.
    pub(super) fn of_writer(files: ModelFiles) -> Result<Self, Error> {
        let (config, checkpoint) = files.writer()?;
        let need = Self::of_stored(&stored(&checkpoint));
        Ok(match config.model {
            WriterModel::Language(lm) => Self {
                kept: TOKENS.min(lm.context) as f64 * lm.bytes_per_token() as f64,
                ..need
            },
            WriterModel::Flamingo(config, _) => need.with_prompt(&config),
        })
    }

    /// The same of a model that classifies.
    ///
    /// # Errors
    /// Where they are none.
    pub(super) fn of_classifier(files: ModelFiles) -> Result<Self, Error> {
        let opened = files.open()?;
        Ok(Self {
            picture: opened.config.vision()?.picture_bytes() as f64,
            ..Self::of_stored(&stored(&opened.checkpoint))
        })
    }

    fn of_stored(tensors: &[Stored]) -> Self {
        let mut need = Self::default();
        for tensor in tensors {
            let bytes = tensor.bytes as f64;
            // No device has numbers of the kind BF16.
            let (gpu, cpu) = match tensor.dtype.as_str() {
                "BF16" => (2.0, 2.0),
                "F16" => (1.0, 2.0),
                _ => (1.0, 1.0),
            };
            need.bytes += bytes;
            need.gpu += gpu * bytes;
            need.cpu += cpu * bytes;
        }
        need
    }

    /// With what the words and the pictures of a prompt keep.
    fn with_prompt(self, config: &FlamingoConfig) -> Self {
        let lm = &config.lm;
        let text = TOKENS.min(lm.context) as f64 * lm.bytes_per_token() as f64;
        Self {
            kept: text + PICTURES as f64 * config.bytes_per_image() as f64,
            picture: config.vision.picture_bytes() as f64,
            ..self
        }
    }
}

fn stored(checkpoint: &Checkpoint) -> Vec<Stored> {
    let file = checkpoint.file();
    file.names().filter_map(|name| file.stored(name)).collect()
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;
    use crate::protocol::{Fit, Storage};
    use crate::worker::library::machine::Machine;

    const ROOM: Storage = Storage {
        there: true,
        used: 0.0,
        quota: 1e12,
        persisted: true,
    };

    /// OpenFlamingo-3B, its 2.6 · 10⁹ numbers stored as `dtype`.
    fn flamingo(dtype: &str, bits: f64) -> Need {
        let config = FlamingoConfig::open_flamingo("OpenFlamingo-3B").expect("a preset");
        let weights = Stored {
            shape: Vec::new(),
            dtype: dtype.to_owned(),
            bytes: (2.6e9 * bits / 8.0) as u64,
        };
        Need::of_stored(&[weights]).with_prompt(&config)
    }

    fn no(fit: &Fit, words: &str) {
        assert!(
            matches!(fit, Fit::No(why) if why.contains(words)),
            "{fit:?}"
        );
    }

    #[wasm_bindgen_test]
    fn sixteen_bits_are_thirty_two_on_the_cpu_and_blocks_stay() {
        let f16 = flamingo("F16", 16.0);
        assert_eq!((f16.gpu, f16.cpu), (5.2e9, 10.4e9));
        let q4 = flamingo("Q4_0", 4.5);
        assert_eq!((q4.gpu, q4.cpu), (1.4625e9, 1.4625e9));
        let bf16 = flamingo("BF16", 16.0);
        assert_eq!((bf16.gpu, bf16.cpu), (10.4e9, 10.4e9));
    }

    #[wasm_bindgen_test]
    fn words_and_pictures_of_a_prompt_count() {
        // 512 words with keys and values of 24 blocks of 2048; 8 pictures of 64
        // tokens in 24 layers of 8 heads of 64, by themselves and in the prompt.
        let text = 512.0 * (2 * 24 * 2048 * 4) as f64;
        let pictures = 8.0 * (2 * 24 * 64 * (2 * 8 * 64 * 4)) as f64;
        assert_eq!(flamingo("F16", 16.0).kept, text + pictures);
    }

    #[wasm_bindgen_test]
    fn a_flamingo_is_judged_for_the_device_that_computes() {
        let fit =
            |need, gpu: bool, gigabytes| Machine::of(gpu.then_some(2e9), gigabytes).fit(need, ROOM);
        // In 4 bits it fits a page without a graphics processor, in 16 it does
        // not: there it would be in 32.
        assert_eq!(fit(flamingo("Q4_0", 4.5), false, 8.0), Fit::Yes);
        no(&fit(flamingo("F16", 16.0), false, 64.0), "needs 11.1 GB");
        // With one it is as it is stored.
        assert_eq!(fit(flamingo("F16", 16.0), true, 16.0), Fit::Yes);
        no(&fit(flamingo("F16", 16.0), true, 4.0), "needs 5.9 GB");
        // What a prompt keeps decides as well.
        let tight = Need {
            cpu: 3.1e9,
            ..flamingo("Q4_0", 4.5)
        };
        no(&fit(tight, false, 64.0), "needs 3.8 GB");
        assert!(!matches!(
            fit(Need { kept: 0.0, ..tight }, false, 64.0),
            Fit::No(_)
        ));
    }

    #[wasm_bindgen_test]
    fn without_a_head_names_say_what_is_widened() {
        assert_eq!(widened("model-q4_0.gguf", 1.0), 1.0);
        assert_eq!(widened("model-f32.gguf", 1.0), 1.0);
        assert_eq!(widened("model-f16.gguf", 1.0), 2.0);
        assert_eq!(widened("model.gguf", 1.0), 2.0);
    }
}
