//! Opening what writes, from disk: a language model, or a Flamingo.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use plume_core::backend::Backend;
use plume_core::checkpoint::Checkpoint;
use plume_core::prompts::Segment;
use plume_core::tasks::writer::{Prompt, Writer, WriterConfig};

use crate::model::ModelFiles;
use crate::pictures;

/// The files of a model that writes.
pub struct WriterFiles {
    /// All but the weights.
    pub config: WriterConfig,
    /// The weights, by the names of their layout.
    pub checkpoint: Checkpoint,
}

impl WriterFiles {
    /// A directory, or a weights file with the rest beside or inside it.
    ///
    /// # Errors
    /// Where a file is missing, damaged or of another architecture.
    pub fn open(model: &Path) -> Result<Self> {
        Self::of(&ModelFiles::find(model)?)
    }

    /// As [`WriterFiles::open`], of files that are found already.
    ///
    /// # Errors
    /// As [`WriterFiles::open`].
    pub fn of(files: &ModelFiles) -> Result<Self> {
        let weights = files.weights()?;
        let tokenizer = files.tokenizer_json()?;
        let config = WriterConfig::of(&weights, &files.companions()?, Some(&tokenizer))?;
        let checkpoint = weights.under(config.layout);
        Ok(Self { config, checkpoint })
    }

    /// The model, on a device.
    ///
    /// # Errors
    /// Where a weight is missing or the device fails.
    pub fn load<B: Backend>(&self, backend: &B) -> Result<Writer<B>> {
        Ok(Writer::load(backend, &self.config, &self.checkpoint)?)
    }
}

/// Opens a model that writes.
///
/// # Errors
/// As [`WriterFiles::open`] and [`WriterFiles::load`].
pub fn open<B: Backend>(backend: &B, model: &Path) -> Result<Writer<B>> {
    WriterFiles::open(model)?.load(backend)
}

/// Reads the pictures of a prompt, which lie in `folder`, and its words.
///
/// # Errors
/// Where a picture cannot be read, or the model does not see.
pub fn prompt<B: Backend>(
    writer: &Writer<B>,
    segments: &[Segment],
    folder: &Path,
) -> Result<Prompt<B>> {
    let mut seen = BTreeMap::new();
    let mut visual = Vec::new();
    if writer.flamingo().is_none() && segments.iter().any(|piece| piece.pictures().is_some()) {
        return Err(plume_core::Error::Blind.into());
    }
    for names in segments.iter().filter_map(Segment::pictures) {
        if !seen.contains_key(names) {
            let frames = names.iter().map(|name| pictures::open(&folder.join(name)));
            seen.insert(names, writer.see(&frames.collect::<Result<Vec<_>>>()?)?);
        }
        visual.push(seen[names].clone());
    }
    Ok(writer.prompt(segments, &visual)?)
}
