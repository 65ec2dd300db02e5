//! A model in several files, beside an index that says which tensor is in which
//! (`model.safetensors.index.json`, `pytorch_model.bin.index.json`).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Weights;
use super::file::{Stored, TensorFile};
use super::safetensors::Bytes;
use crate::backend::WeightData;
use crate::{Error, Result};

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The names of the files that an index speaks of, in order, each once.
///
/// # Errors
/// Where the text is no index.
pub fn shard_names(index: &str) -> Result<Vec<String>> {
    let mut names: Vec<_> = read(index)?.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    if let Some(name) = names.iter().find(|name| name.contains(['/', '\\'])) {
        return Err(Error::Checkpoint(format!(
            "the index names `{name}`; expected files that lie beside it"
        )));
    }
    Ok(names)
}

fn read(index: &str) -> Result<Index> {
    serde_json::from_str(index).map_err(|error| {
        Error::Checkpoint(format!(
            "the index of the weights is no model.safetensors.index.json or \
             pytorch_model.bin.index.json: {error}"
        ))
    })
}

/// The files.
pub struct Shards {
    files: Vec<Weights>,
    /// Name of a tensor → its file.
    places: BTreeMap<String, usize>,
}

impl Shards {
    /// Reads every file's header and holds it against the index.
    ///
    /// # Errors
    /// Where a file is missing or damaged, or lacks a tensor that the index
    /// promises.
    pub fn open(index: &str, files: Vec<(String, Box<dyn Bytes>)>) -> Result<Self> {
        let index = read(index)?;
        let mut numbers = BTreeMap::new();
        let mut opened = Vec::with_capacity(files.len());
        for (name, bytes) in files {
            let file = Weights::open(bytes)
                .map_err(|error| Error::Checkpoint(format!("{name}: {error}")))?;
            numbers.insert(name, opened.len());
            opened.push(file);
        }
        let mut places = BTreeMap::new();
        for (tensor, name) in index.weight_map {
            let Some(&number) = numbers.get(&name) else {
                return Err(Error::Checkpoint(format!(
                    "the weights are in several files and {name} is missing: put all of them \
                     beside the index"
                )));
            };
            if opened[number].file().shape(&tensor).is_none() {
                return Err(Error::Checkpoint(format!(
                    "the index promises `{tensor}` in {name}, which lacks it: do the files \
                     belong together?"
                )));
            }
            places.insert(tensor, number);
        }
        Ok(Self {
            files: opened,
            places,
        })
    }

    fn file(&self, name: &str) -> Option<&dyn TensorFile> {
        let number = self.places.get(name)?;
        Some(self.files[*number].file())
    }
}

impl TensorFile for Shards {
    fn format(&self) -> &'static str {
        match self.files.first().map(|weights| weights.file().format()) {
            Some("PyTorch") => "PyTorch, sharded",
            _ => "safetensors, sharded",
        }
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.places.keys().map(String::as_str))
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.file(name)?.shape(name)
    }

    fn stored(&self, name: &str) -> Option<Stored> {
        self.file(name)?.stored(name)
    }

    fn read(&self, name: &str) -> Result<WeightData> {
        match self.file(name) {
            Some(file) => file.read(name),
            None => Err(Error::MissingTensor {
                name: name.to_owned(),
            }),
        }
    }
}
