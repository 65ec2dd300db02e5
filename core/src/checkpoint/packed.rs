//! What a packed model says about itself, in GGUF's metadata: every number of
//! its configuration under a key of its own, the preparation of pictures
//! likewise, the tokenizer as the ecosystem stores it.

use serde_json::{Map, Number, Value as Json};

use super::gguf::{Array, Gguf, Value};
use crate::{Error, Result};

/// Beside the weights of a packed model.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Packed {
    /// Our own `config.json`, with its `model_type`.
    pub config: Json,
    /// The preparation of pictures, as [`Preprocess::to_json`] writes it.
    ///
    /// [`Preprocess::to_json`]: crate::image::Preprocess::to_json
    pub preprocess: Option<Json>,
    /// The `tokenizer.json`.
    pub tokenizer: Option<String>,
    /// A name for a person.
    pub name: Option<String>,
    /// The licence of the weights, as an SPDX expression.
    pub license: Option<String>,
}

/// Our `model_type`s and GGUF's architectures, which are letters and digits
/// alone: `plume_clip` is `plumeclip`.
const MODEL_TYPE: &str = "plume_";
const ARCHITECTURE: &str = "plume";

/// Parts of a key.
const MAX_DEPTH: usize = 16;

const PREPROCESS: &str = "preprocess";
const TOKENIZER: &str = "tokenizer.huggingface.json";

impl Packed {
    /// Reads the metadata of a file.
    ///
    /// # Errors
    /// Where it was packed by another program.
    pub fn read(file: &Gguf) -> Result<Self> {
        let metadata = file.metadata();
        let text = |key: &str| metadata.get(key).and_then(Value::as_text);
        let architecture = text("general.architecture").unwrap_or_default();
        let Some(kind) = architecture.strip_prefix(ARCHITECTURE) else {
            return Err(Error::Checkpoint(format!(
                "this GGUF file holds a model of the architecture `{architecture}`; expected one \
                 that was made by `plume pack`"
            )));
        };
        let prefix = format!("{architecture}.");
        let entries = metadata.iter().filter_map(|(key, value)| {
            let key = key.strip_prefix(&prefix)?;
            Some((key, json(value)?))
        });
        let mut config = unflatten(entries)?;
        let preprocess = config.remove(PREPROCESS);
        config.insert("model_type".into(), format!("{MODEL_TYPE}{kind}").into());
        Ok(Self {
            config: Json::Object(config),
            preprocess,
            tokenizer: text(TOKENIZER).map(str::to_owned),
            name: text("general.name").map(str::to_owned),
            license: text("general.license").map(str::to_owned),
        })
    }

    /// The metadata of a file whose matrices are mostly of one type;
    /// `file_type` is GGML's number of it.
    ///
    /// # Errors
    /// Where the configuration has what GGUF cannot say.
    pub fn metadata(&self, file_type: u64) -> Result<Vec<(String, Value)>> {
        let kind = self.config.get("model_type").and_then(Json::as_str);
        let kind = kind.and_then(|kind| kind.strip_prefix(MODEL_TYPE));
        let kind = kind.ok_or_else(|| {
            Error::Config("expected a configuration of Plume's own to be packed".into())
        })?;
        let architecture = format!("{ARCHITECTURE}{kind}");
        let mut entries = Vec::new();
        let mut general = |key: &str, value: Value| entries.push((key.to_owned(), value));
        general("general.architecture", Value::Text(architecture.clone()));
        general("general.type", Value::Text("model".into()));
        for (key, text) in [
            ("general.name", &self.name),
            ("general.license", &self.license),
        ] {
            if let Some(text) = text {
                general(key, Value::Text(text.clone()));
            }
        }
        general("general.file_type", Value::Unsigned(file_type));
        general("general.quantization_version", Value::Unsigned(2));
        let mut config = self.config.clone();
        if let Json::Object(config) = &mut config {
            config.remove("model_type");
            if let Some(preprocess) = &self.preprocess {
                config.insert(PREPROCESS.into(), preprocess.clone());
            }
        }
        flatten(&architecture, &config, &mut entries)?;
        if let Some(tokenizer) = &self.tokenizer {
            entries.push((TOKENIZER.into(), Value::Text(tokenizer.clone())));
        }
        Ok(entries)
    }
}

/// Writes an object as `prefix.key` and what is in its lists as
/// `prefix.key.0`, save lists of plain values, which GGUF knows.
fn flatten(prefix: &str, json: &Json, out: &mut Vec<(String, Value)>) -> Result<()> {
    match json {
        Json::Null => {}
        Json::Object(object) => {
            for (key, json) in object {
                flatten(&format!("{prefix}.{key}"), json, out)?;
            }
        }
        Json::Array(list) => {
            match Array::of(&list.iter().filter_map(scalar).collect::<Vec<_>>())
                .filter(|array| array.len() == list.len())
                .or_else(|| floats(list))
            {
                Some(array) => out.push((prefix.to_owned(), Value::Array(array))),
                None => {
                    for (i, json) in list.iter().enumerate() {
                        flatten(&format!("{prefix}.{i}"), json, out)?;
                    }
                }
            }
        }
        plain => {
            let value = scalar(plain).ok_or_else(|| {
                Error::Config(format!("GGUF cannot say that `{prefix}` is {plain}"))
            })?;
            out.push((prefix.to_owned(), value));
        }
    }
    Ok(())
}

/// A list of numbers that are not all of one width.
fn floats(list: &[Json]) -> Option<Array> {
    let wide = |json: &Json| match json {
        Json::Number(x) if x.is_f64() => x.as_f64().map(Value::F64),
        _ => None,
    };
    let values = list.iter().map(wide).collect::<Option<Vec<_>>>()?;
    Array::of(&values)
}

fn scalar(json: &Json) -> Option<Value> {
    match json {
        Json::Bool(x) => Some(Value::Bool(*x)),
        Json::String(x) => Some(Value::Text(x.clone())),
        Json::Number(x) => {
            let float = || {
                let wide = x.as_f64()?;
                let narrow = wide as f32;
                Some(if f64::from(narrow) == wide {
                    Value::F32(narrow)
                } else {
                    Value::F64(wide)
                })
            };
            let unsigned = x.as_u64().map(Value::Unsigned);
            unsigned.or(x.as_i64().map(Value::Signed)).or_else(float)
        }
        _ => None,
    }
}

fn json(value: &Value) -> Option<Json> {
    Some(match value {
        Value::Unsigned(x) => (*x).into(),
        Value::Signed(x) => (*x).into(),
        Value::F32(x) => Number::from_f64(f64::from(*x))?.into(),
        Value::F64(x) => Number::from_f64(*x)?.into(),
        Value::Bool(x) => (*x).into(),
        Value::Text(x) => x.clone().into(),
        Value::Array(array) => array.values().iter().filter_map(json).collect(),
    })
}

/// The inverse of [`flatten`].
fn unflatten<'a>(entries: impl Iterator<Item = (&'a str, Json)>) -> Result<Map<String, Json>> {
    let mut root = Map::new();
    for (path, value) in entries {
        // What is nested deeply is taken apart by deep recursion.
        if path.split('.').count() > MAX_DEPTH {
            return Err(Error::Checkpoint(format!(
                "the metadata has a key of more than {MAX_DEPTH} parts"
            )));
        }
        let mut object = &mut root;
        let mut steps = path.split('.').peekable();
        while let Some(step) = steps.next() {
            if steps.peek().is_none() {
                object.insert(step.to_owned(), value);
                break;
            }
            let child = object
                .entry(step)
                .or_insert_with(|| Json::Object(Map::new()));
            object = child.as_object_mut().ok_or_else(|| {
                Error::Checkpoint(format!("the metadata has `{step}` and `{path}`"))
            })?;
        }
    }
    root.values_mut().for_each(lists);
    Ok(root)
}

/// Makes lists of the objects whose keys are 0, 1, 2, ….
fn lists(json: &mut Json) {
    let Json::Object(object) = json else { return };
    object.values_mut().for_each(lists);
    let len = object.len();
    if len > 0 && (0..len).all(|i| object.contains_key(&i.to_string())) {
        let items = (0..len).filter_map(|i| object.remove(&i.to_string()));
        *json = items.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_configuration_comes_back_as_it_was() {
        let config = json!({
            "size": 224, "eps": 9.999999747378752e-6, "mean": [0.481_454_66, 0.457_827_5, 0.5],
            "down": -3, "wide": 5_000_000_000u64, "causal": true, "kind": "vit",
            "blocks": [3, 4, 6], "names": ["a", "b"],
            "convs": [{ "channels": 24, "stride": 2 }, { "channels": 48, "stride": 1 }],
            "deep": { "er": { "list": [[1, 2], [3, 4]] } }
        });
        let mut entries = Vec::new();
        flatten("p", &config, &mut entries).unwrap();
        assert!(entries.iter().any(|(key, _)| key == "p.convs.1.channels"));
        let back = entries
            .iter()
            .map(|(key, value)| (&key[2..], super::json(value).unwrap()));
        assert_eq!(Json::Object(unflatten(back).unwrap()), config);
    }

    #[test]
    fn one_key_is_no_path_through_another() {
        let entries = [("a", json!(1)), ("a.b", json!(2))];
        assert!(unflatten(entries.into_iter()).is_err());
    }
}
