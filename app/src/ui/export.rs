//! The results as files.

use leptos::prelude::*;
use serde_json::json;

use super::store::{Model, Status, Store};
use super::web::save_text;

/// Quotes a field of CSV where it must be; a leading sign that a spreadsheet
/// would run as a formula is kept from it.
fn field(text: &str) -> String {
    let guarded = if text.starts_with(['=', '+', '-', '@']) {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if guarded.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", guarded.replace('"', "\"\""))
    } else {
        guarded
    }
}

/// One row for each picture and label.
pub(super) fn csv(store: Store) {
    let mut out = String::from("picture,label,cosine,probability\r\n");
    for picture in store.pictures.get_untracked() {
        if let Status::Ready { labels, scores, .. } = picture.status.get_untracked() {
            for (i, label) in labels.iter().enumerate() {
                let (cosine, probability) = (scores.cosine[i], scores.probability[i]);
                let (name, label) = (field(&picture.name), field(label));
                out += &format!("{name},{label},{cosine},{probability}\r\n");
            }
        }
    }
    save_text("plume.csv", "text/csv", &out);
}

/// Labels, templates and one object for each picture.
pub(super) fn json(store: Store) {
    let pictures: Vec<_> = store
        .pictures
        .get_untracked()
        .into_iter()
        .filter_map(|picture| match picture.status.get_untracked() {
            Status::Ready { labels, scores, .. } => {
                let rows = labels.iter().enumerate().map(|(i, label)| {
                    json!({
                        "label": label,
                        "cosine": scores.cosine[i],
                        "probability": scores.probability[i],
                    })
                });
                let rows: Vec<_> = rows.collect();
                Some(json!({"image": picture.name, "scores": rows}))
            }
            Status::Failed(error) => Some(json!({"image": picture.name, "error": error})),
            Status::Busy | Status::Cancelled => None,
        })
        .collect();
    let model = match store.model.get_untracked() {
        Model::Ready(loaded) => json!({"name": loaded.name, "device": loaded.device}),
        _ => json!(null),
    };
    let whole = json!({
        "model": model,
        "labels": store.labels.get_untracked(),
        "templates": untrack(|| store.used_templates()),
        "images": pictures,
    });
    save_text("plume.json", "application/json", &format!("{whole:#}"));
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::field;

    #[wasm_bindgen_test]
    fn fields_survive_a_spreadsheet() {
        assert_eq!(field("cat"), "cat");
        assert_eq!(field("a \"big\", cat"), "\"a \"\"big\"\", cat\"");
        assert_eq!(field("=1+1"), "'=1+1");
    }
}
