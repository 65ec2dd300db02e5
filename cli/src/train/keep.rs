//! A run as it is kept, to go on from: weights, moments and what decides it, in
//! one file, so that no step is ever half there.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use plume_core::checkpoint::{Checkpoint, Layout};
use plume_core::cpu::Parameters;
use safetensors::SafeTensors;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::step::AdamW;
use super::{read, write};

/// How far a run is, and what decides it.
#[derive(Serialize, Deserialize)]
pub(super) struct State<R> {
    /// Steps taken.
    pub(super) step: usize,
    /// Seconds they took.
    pub(super) seconds: f64,
    /// What decides it.
    pub(super) recipe: R,
}

/// What a resumed run starts from.
pub(super) struct Kept<R> {
    pub(super) state: State<R>,
    pub(super) weights: Checkpoint,
    pub(super) optimizer: AdamW,
}

/// The state's key among what the file says of itself.
const STATE: &str = "state";

/// Where the run of a folder is.
pub(super) fn file(folder: &Path) -> PathBuf {
    folder.join("run.safetensors")
}

/// Writes everything a resumed run needs; the old file stands until the new one
/// is whole.
pub(super) fn keep<R: Serialize>(
    folder: &Path,
    state: &State<R>,
    parameters: &Parameters,
    optimizer: &AdamW,
) -> Result<()> {
    let weights = parameters.all().into_iter();
    let weights = weights.map(|(name, var)| (name, var.as_tensor().clone()));
    let tensors: BTreeMap<String, Tensor> = weights.chain(optimizer.save()?).collect();
    let state = HashMap::from([(STATE.to_owned(), serde_json::to_string(state)?)]);
    let new = folder.join("run.new");
    safetensors::serialize_to_file(tensors, Some(state), &new)
        .with_context(|| format!("cannot write {}", new.display()))?;
    Ok(fs::rename(new, file(folder))?)
}

/// The run of a folder, whose logs are cut back to where it is.
pub(super) fn kept<R: DeserializeOwned>(folder: &Path) -> Result<Kept<R>> {
    let path = file(folder);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (state, optimizer) =
        parsed(&bytes).with_context(|| format!("{} keeps no run of this kind", path.display()))?;
    for log in ["loss.csv", "tally.txt"] {
        cut(&folder.join(log), state.step)?;
    }
    Ok(Kept {
        state,
        optimizer,
        weights: Checkpoint::open_as(Box::new(bytes), Layout::Canonical)?,
    })
}

fn parsed<R: DeserializeOwned>(bytes: &[u8]) -> Result<(State<R>, AdamW)> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let state = header.metadata().as_ref().and_then(|all| all.get(STATE));
    let state: State<R> = serde_json::from_str(state.context("it has no state")?)?;
    let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu)?;
    let optimizer = AdamW::restore(state.step, &tensors)?;
    Ok((state, optimizer))
}

/// Takes off a log's lines of later steps, which begin with their number.
fn cut(log: &Path, step: usize) -> Result<()> {
    if !log.exists() {
        return Ok(());
    }
    let text = read(log)?;
    let of = |line: &str| -> Option<usize> {
        let number = line.split([',', ' ']).next();
        number?.parse().ok()
    };
    let lines = text.split_inclusive('\n');
    let kept: String = lines
        .filter(|line| of(line).is_none_or(|at| at <= step))
        .collect();
    write(log, kept)
}
