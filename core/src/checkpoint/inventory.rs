//! What a model asks for, without any weights: to compare with a file's
//! header, and to pack. A model's `load` is the one place that says what it is
//! made of, so it is run on a device that keeps no numbers.

use std::cell::RefCell;

use crate::Result;
use crate::backend::WeightData;
use crate::checkpoint::Source;
use crate::config::ClipConfig;
use crate::cpu::Candle;
use crate::models::clip::Clip;

/// What a tensor is to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A matrix, which may be stored in blocks.
    Weight,
    /// A matrix that is stored in f16 or f32, never in blocks.
    Precise,
    /// A table of tokens, of which the last so many were added to a finished
    /// vocabulary. What they mean was learned on few pictures, and at every
    /// picture they are read: their rows are stored by themselves in f32,
    /// whatever the others are stored as.
    Table {
        /// Rows that were added.
        added: usize,
    },
    /// What is kept in f32: biases, norms, positions, temperatures.
    Parameter,
}

/// A tensor that a model asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its canonical name.
    pub name: String,
    /// The shape, outermost first.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
}

/// The canonical name and the shape of every tensor that a CLIP reads, in the
/// order of reading.
///
/// # Errors
/// Where the configuration makes no model.
pub fn inventory(config: &ClipConfig) -> Result<Vec<(String, Vec<usize>)>> {
    let all = asked(|device, source| Clip::load(device, config, source))?;
    Ok(all.into_iter().map(|a| (a.name, a.shape)).collect())
}

/// Every tensor that `load` reads, each once, in the order of reading.
///
/// # Errors
/// Where the configuration makes no model.
pub fn asked<T>(load: impl FnOnce(&Candle, &dyn Source) -> Result<T>) -> Result<Vec<Asked>> {
    let (device, weights) = Candle::hollow();
    let notes = Notes::default();
    load(&device, &notes)?;
    let mut all: Vec<Asked> = Vec::new();
    for (name, shape) in notes.0.into_inner() {
        // The temperature is read for the device and for the host.
        if all.iter().any(|asked| asked.name == name) {
            continue;
        }
        let role = if weights.contains(&name) {
            Role::Weight
        } else {
            Role::Parameter
        };
        all.push(Asked { name, shape, role });
    }
    Ok(all)
}

/// Writes down what it is asked for.
#[derive(Default)]
struct Notes(RefCell<Vec<(String, Vec<usize>)>>);

impl Source for Notes {
    fn read(&self, name: &str, shape: &[usize]) -> Result<WeightData> {
        let mut notes = self.0.borrow_mut();
        notes.push((name.to_owned(), shape.to_vec()));
        Ok(WeightData::F32(vec![0.0]))
    }
}
