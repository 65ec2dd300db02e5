//! What comes in from outside while the chat is on the page: each file goes
//! where it belongs.

use leptos::prelude::*;
use leptos::task::spawn_local;
use web_sys::File;

use super::editor::Hand;
use super::media::{self, Left};
use super::{bundle, client, fill};
use crate::ui::intake::{foreign, is_foreign};
use crate::ui::store::Store;

/// A file with its path below what was dropped.
pub(in crate::ui) type Named = (String, File);

/// What a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Of a model, as the page reads them.
    Weights,
    /// Of a model, in a form that it does not read.
    Foreign,
    Table,
    /// Perhaps one that was exported here.
    Json,
    /// What lies in folders of pictures beside them.
    Note,
    /// The browser will tell.
    Picture,
}

const NOTES: [&str; 10] = [
    ".txt", ".md", ".html", ".htm", ".pdf", ".xml", ".yaml", ".log", ".db", ".ini",
];

fn kind(path: &str) -> Kind {
    let path = path.to_lowercase();
    let name = path.rsplit('/').next().unwrap_or(&path);
    let ends = |all: &[&str]| all.iter().any(|end| name.ends_with(end));
    if name.starts_with('.') || path.contains("__macosx/") || ends(&NOTES) {
        Kind::Note
    } else if ends(&[".gguf", ".safetensors"]) {
        Kind::Weights
    } else if is_foreign(name) {
        Kind::Foreign
    } else if ends(&[".csv", ".tsv"]) {
        Kind::Table
    } else if ends(&[".json"]) {
        Kind::Json
    } else {
        Kind::Picture
    }
}

/// What is left once models and exported files are where they belong.
#[derive(Default)]
pub(super) struct Sorted {
    pub(super) tables: Vec<Named>,
    /// What may be pictures or clips.
    pub(super) pictures: Vec<Named>,
    /// What is nothing of use here.
    pub(super) left: Vec<Left>,
}

/// Opens a model, imports what was exported, and sorts the rest.
pub(super) async fn sorted(store: Store, files: Vec<Named>) -> Sorted {
    let has = |wanted: Kind| files.iter().find(|(path, _)| kind(path) == wanted);
    if let Some((_, weights)) = has(Kind::Weights) {
        open(store, weights, &files);
        return Sorted::default();
    }
    if let Some((_, file)) = has(Kind::Foreign) {
        store.error.set(Some(foreign(&file.name())));
        return Sorted::default();
    }
    let alone = files.len() == 1;
    let (mut sorted, mut bundles) = (Sorted::default(), Vec::new());
    for (path, file) in files {
        match kind(&path) {
            Kind::Table => sorted.tables.push((path, file)),
            Kind::Json if alone || bundle::is_one(&file).await => bundles.push(file),
            Kind::Json | Kind::Note => sorted.left.push(Left::other(&file.name())),
            _ => sorted.pictures.push((path, file)),
        }
    }
    bundle::import(store, &bundles).await;
    sorted
}

/// Opens a model of files; what it lacks is told before anything is read.
fn open(store: Store, weights: &File, files: &[Named]) {
    let name = weights.name();
    let there = |wanted: &str| files.iter().any(|(_, file)| file.name() == wanted);
    let configured = there("config.json") || there("open_clip_config.json");
    if name.to_lowercase().ends_with(".safetensors") && !(configured && there("tokenizer.json")) {
        store.error.set(Some(format!(
            "{name} alone does not say what model it is: drop it together with its config.json and \
             tokenizer.json, or drop the one GGUF file that “plume pack” makes of them."
        )));
        return;
    }
    let files: Vec<_> = files.iter().map(|(_, file)| file.clone()).collect();
    client::load_own(store, &files);
}

/// Takes files in: pictures at the caret of a field, a table as examples, and
/// everything else where it belongs.
pub(super) async fn take_into(store: Store, hand: Hand, files: Vec<Named>) {
    let sorted = sorted(store, files).await;
    if !sorted.tables.is_empty() {
        return fill::from_sorted(store, sorted).await;
    }
    let pictures: Vec<_> = sorted.pictures.into_iter().map(|(_, file)| file).collect();
    let taken = media::take_among(store, &pictures, sorted.left).await;
    hand.insert(store.chat, &taken);
}

/// Takes in what was dropped or pasted anywhere: at the caret of the composer.
pub(in crate::ui) fn take(store: Store, files: Vec<Named>) {
    spawn_local(take_into(store, store.chat.composer, files));
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::{Kind, kind};

    #[wasm_bindgen_test]
    fn files_are_told_apart_by_their_names() {
        let of = |all: &[&str]| all.iter().map(|path| kind(path)).collect::<Vec<_>>();
        assert_eq!(
            of(&["a.GGUF", "m/model.safetensors"]),
            [Kind::Weights, Kind::Weights]
        );
        assert_eq!(
            of(&["checkpoint.pt", "pytorch_model.bin"]),
            [Kind::Foreign, Kind::Foreign]
        );
        assert_eq!(of(&["set/list.csv"]), [Kind::Table]);
        assert_eq!(of(&["chat.plume.json"]), [Kind::Json]);
        assert_eq!(
            of(&["set/.DS_Store", "__MACOSX/a.png", "notes.md", "Thumbs.db"]),
            [Kind::Note; 4]
        );
        // The browser knows better than a name.
        assert_eq!(of(&["a.png", "IMG_1", "b.heic"]), [Kind::Picture; 3]);
    }
}
