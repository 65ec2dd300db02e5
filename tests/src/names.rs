//! Names and shapes of published tensors, as `tests/golden/make_names.py` and
//! its like write them down.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::root;

/// A published model: for each path, with its numbers replaced by stars, how
/// many tensors there are of each shape.
#[derive(Deserialize)]
pub struct Published {
    /// The configuration as published.
    pub config: Value,
    /// See above.
    pub tensors: BTreeMap<String, BTreeMap<String, usize>>,
}

/// The models of a file below `tests/golden`, by name.
///
/// # Panics
/// Where the file is damaged.
pub fn published(file: &str) -> BTreeMap<String, Published> {
    let path = root().join("tests/golden").join(file);
    let json = std::fs::read(&path).expect("the file is there");
    serde_json::from_slice(&json).expect("the file is JSON of names")
}

/// Replaces the numbers of a path by stars.
pub fn collapsed(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let last = parts.len() - 1;
    let star = |(i, part): (usize, &&str)| {
        let inside = i > 0 && i < last && part.bytes().all(|b| b.is_ascii_digit());
        if inside {
            "*".to_owned()
        } else {
            (*part).to_owned()
        }
    };
    let parts: Vec<String> = parts.iter().enumerate().map(star).collect();
    parts.join(".")
}

/// The numbers of a tensor of a shape such as `[2, 3]`.
///
/// # Panics
/// Where it is no shape.
pub fn elements(shape: &str) -> usize {
    let shape: Vec<usize> = serde_json::from_str(shape).expect("a shape");
    shape.iter().product()
}
