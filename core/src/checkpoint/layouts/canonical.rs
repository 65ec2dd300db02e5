//! Our own layout: the canonical names and [`ClipConfig`], [`LmConfig`] or
//! [`FlamingoConfig`] as it is.

use serde_json::Value;

use super::parse;
use crate::Result;
use crate::config::ClipConfig;
use crate::config::flamingo::FlamingoConfig;
use crate::config::language::LmConfig;

pub(super) const MARKS: &[&str] = &[
    "vision.positional_embedding",
    "vision.attnpool.positional_embedding",
    "vision.stem.0.weight",
    "text.token_embedding",
];
pub(super) const MODEL_TYPE: &str = "plume_clip";
pub(super) const LM_TYPE: &str = "plume_lm";
pub(super) const FLAMINGO_TYPE: &str = "plume_flamingo";

pub(super) fn config(value: Value) -> Result<ClipConfig> {
    parse(value)
}

fn of_type(mut config: Value, kind: &str) -> Value {
    config["model_type"] = kind.into();
    config
}

impl ClipConfig {
    /// The configuration as `config.json`.
    pub fn to_json(&self) -> Value {
        of_type(serde_json::json!(self), MODEL_TYPE)
    }
}

impl LmConfig {
    /// The configuration as `config.json`.
    pub fn to_json(&self) -> Value {
        of_type(serde_json::json!(self), LM_TYPE)
    }
}

impl FlamingoConfig {
    /// The configuration as `config.json`.
    pub fn to_json(&self) -> Value {
        of_type(serde_json::json!(self), FLAMINGO_TYPE)
    }
}
