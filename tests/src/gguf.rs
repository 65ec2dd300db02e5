//! What the ecosystem's own package finds in a GGUF file.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use plume_core::checkpoint::{Gguf, TensorFile};
use serde_json::Value;

use crate::root;

/// Reads a file with the Python package `gguf` and holds every tensor against
/// what we read: type, shape, sum and sum of squares. Its metadata, long texts
/// by their length; `None`, and a line, where the package is not there.
///
/// # Errors
/// Where the two do not agree.
pub fn package_agrees(file: &Path) -> Result<Option<Value>> {
    let python = std::env::var("PLUME_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_gguf = Command::new(&python).args(["-c", "import gguf"]).output();
    if !has_gguf.is_ok_and(|output| output.status.success()) {
        println!("skipped: {python} has no package gguf");
        return Ok(None);
    }
    let script = root().join("tests/golden/read_gguf.py");
    let output = Command::new(&python).args([&script, file]).output()?;
    ensure!(output.status.success(), "{output:?}");
    let found: Value = serde_json::from_slice(&output.stdout)?;
    let theirs = found["tensors"].as_object().context("no tensors")?;

    let ours = Gguf::open(Box::new(std::fs::read(file)?))?;
    ensure!(theirs.len() == ours.names().count(), "not as many tensors");
    for name in ours.names() {
        let theirs = &theirs[name];
        let stored = ours.stored(name).context("a tensor")?;
        let shape: Vec<usize> = serde_json::from_value(theirs["shape"].clone())?;
        // The innermost axis comes first in a file.
        ensure!(shape.iter().rev().eq(&stored.shape), "{name}: {shape:?}");
        ensure!(theirs["type"] == stored.dtype.as_str(), "{name}: {theirs}");
        let numbers = ours.read(name)?.into_f32();
        let sum: f64 = numbers.iter().map(|&x| f64::from(x)).sum();
        let squares: f64 = numbers.iter().map(|&x| f64::from(x).powi(2)).sum();
        for (key, ours) in [("sum", sum), ("squares", squares)] {
            let theirs = theirs[key].as_f64().context("a number")?;
            ensure!(
                (ours - theirs).abs() <= 1e-9 * squares,
                "{name}: {key} is {ours}, and {theirs} by the package"
            );
        }
    }
    Ok(Some(found["metadata"].clone()))
}
