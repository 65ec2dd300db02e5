//! Our own layout: the canonical names and [`ClipConfig`] as it is.

use serde_json::Value;

use super::parse;
use crate::Result;
use crate::config::ClipConfig;

pub(super) const MARKS: &[&str] = &[
    "vision.positional_embedding",
    "vision.attnpool.positional_embedding",
    "vision.stem.0.weight",
    "text.token_embedding",
];
pub(super) const MODEL_TYPE: &str = "plume_clip";

pub(super) fn config(value: Value) -> Result<ClipConfig> {
    parse(value)
}

impl ClipConfig {
    /// The configuration as `config.json`.
    pub fn to_json(&self) -> Value {
        let mut value = serde_json::json!(self);
        value["model_type"] = MODEL_TYPE.into();
        value
    }
}
