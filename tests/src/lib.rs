//! Shared helpers of the tests.

pub mod browser;
pub mod chatting;
pub mod checkpoint;
pub mod command;
pub mod gguf;
pub mod hub;
pub mod names;
pub mod scene;
pub mod tiny;
pub mod writers;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use half::f16;
use plume_core::gpu::Gpu;
use safetensors::SafeTensors;

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file or folder of the reference data, which does not belong to the
/// repository: `PLUME_SHARED`, or `../shared` beside it. Where it is absent
/// the test says so and has nothing to compare with.
pub fn shared(path: &str) -> Option<PathBuf> {
    let base =
        std::env::var_os("PLUME_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let found = base.join("data").join(path);
    if found.exists() {
        return Some(found);
    }
    println!("skipped: no reference data at {}", found.display());
    None
}

/// The command, which lies beside the tests.
///
/// # Panics
/// Where the tests lie nowhere.
pub fn plume() -> PathBuf {
    let here = std::env::current_exe().expect("a test knows where it lies");
    let folder = here.ancestors().nth(2).expect("tests lie in deps");
    folder.join("plume")
}

/// The graphics processor, in software if need be. Where there is none the
/// test says so, and fails if `PLUME_REQUIRE_GPU` is set.
///
/// # Panics
/// See above.
pub fn gpu() -> Option<Gpu> {
    match pollster::block_on(Gpu::new()) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            assert!(std::env::var_os("PLUME_REQUIRE_GPU").is_none(), "{error}");
            println!("skipped: {error}");
            None
        }
    }
}

/// Tensors of a safetensors file, in memory.
pub struct Golden(Vec<u8>);

impl Golden {
    /// Reads the file.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        Ok(Self(bytes))
    }

    /// Shape and numbers of a tensor of floats or integers.
    ///
    /// # Errors
    /// Where there is no such tensor.
    pub fn tensor(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let file = SafeTensors::deserialize(&self.0)?;
        let view = file.tensor(name).with_context(|| name.to_owned())?;
        let bytes = view.data();
        let numbers = match view.dtype() {
            safetensors::Dtype::F32 => {
                let words = bytes.as_chunks::<4>().0.iter();
                words.map(|&b| f32::from_le_bytes(b)).collect()
            }
            safetensors::Dtype::F16 => {
                let words = bytes.as_chunks::<2>().0.iter();
                words.map(|&b| f16::from_le_bytes(b).to_f32()).collect()
            }
            safetensors::Dtype::I32 => {
                let words = bytes.as_chunks::<4>().0.iter();
                words.map(|&b| i32::from_le_bytes(b) as f32).collect()
            }
            safetensors::Dtype::I64 => {
                let words = bytes.as_chunks::<8>().0.iter();
                words.map(|&b| i64::from_le_bytes(b) as f32).collect()
            }
            other => anyhow::bail!("{name} is {other:?}"),
        };
        Ok((view.shape().to_vec(), numbers))
    }
}

/// Channels first → channels last: `[n, c, h, w]` → `[n, h, w, c]`.
pub fn channels_last((shape, numbers): &(Vec<usize>, Vec<f32>)) -> Vec<f32> {
    let (channels, plane) = (shape[1], shape[2] * shape[3]);
    let pictures = numbers.chunks_exact(channels * plane);
    pictures
        .flat_map(|picture| {
            (0..channels * plane).map(move |i| picture[(i % channels) * plane + i / channels])
        })
        .collect()
}

/// Largest absolute difference; infinite where lengths differ or a number is
/// none.
pub fn max_error(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() {
        return f32::INFINITY;
    }
    a.iter().zip(b).fold(0.0, |worst, (a, b)| {
        let error = (a - b).abs();
        if error.is_nan() {
            f32::INFINITY
        } else {
            error.max(worst)
        }
    })
}

/// Cosine of the angle between two vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()) as f32
}
